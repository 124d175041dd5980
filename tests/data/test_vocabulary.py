import pytest

from joint_st.data.vocabulary import Vocabulary
from joint_st.errors import UserError


def test_read_words_are_those_never_heard(tmp_path):
    vocabulary = Vocabulary.of(heard=["anna came", "bob left"], read=["clara left", "dora"])
    assert vocabulary.heard == {"anna", "came", "bob", "left"} and vocabulary.read == {"clara", "dora"}
    found = [vocabulary.subset_of(word) for word in ("anna", "left", "dora", "eve")]
    assert found == ["heard", "heard", "text_only", None]
    vocabulary.save(tmp_path)
    assert Vocabulary.load(tmp_path) == vocabulary


def test_a_folder_without_one_is_named(tmp_path):
    with pytest.raises(UserError, match=str(tmp_path)):
        Vocabulary.load(tmp_path)
