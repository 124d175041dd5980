"""KenLM binaries against the ARPA file they were made from.

`kenlm_files/` holds them as KenLM's `build_binary` (of March 2025) wrote them from `kenlm_files/model.arpa`: `trie
model.arpa trie.bin`, `probing ...`, `-q 6 -b 5 trie ...`, `-a 64 trie ...`, `-v trie ...`. The model lacks some bigrams
in which trigrams end.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from joint_st.errors import UserError
from joint_st.lm import kenlm
from joint_st.lm.arpa import Arpa, read_arpa, write_arpa
from joint_st.lm.estimate import estimate
from joint_st.lm.kenlm import read_kenlm, read_ngrams

FOLDER = Path(__file__).parent / "kenlm_files"


@pytest.fixture(scope="module")
def model() -> Arpa:
    return read_arpa(FOLDER / "model.arpa")


def check_same(found: Arpa, model: Arpa):
    """Check that all n-grams of the model are there, that others change nothing, and that sentences have their
    scores."""
    assert found.order == model.order
    for theirs, ours in zip(found.ngrams, model.ngrams):
        assert theirs.keys() >= ours.keys()
        keys = list(ours)
        np.testing.assert_allclose([theirs[key] for key in keys], [ours[key] for key in keys], atol=1e-6)
        for ngram in theirs.keys() - ours.keys():
            np.testing.assert_allclose(theirs[ngram].log10_prob, model.log10_prob(ngram[-1], ngram[:-1]), atol=1e-5)
            assert theirs[ngram].log10_backoff == 0
    rng = np.random.default_rng(0)
    for size in rng.integers(0, 9, 100):
        said = rng.choice([*model.tokens, "zebra"], size).tolist()
        np.testing.assert_allclose(found.sentence(said), model.sentence(said), atol=1e-5)


def test_a_trie_is_the_model_it_was_made_from(model):
    found = read_ngrams(FOLDER / "trie.bin")
    assert [len(one) for one in model.ngrams] == [16, 104, 161]
    assert [len(one) for one in found.ngrams] == [16, 108, 161], "4 bigrams more, in which trigrams end"
    check_same(found, model)


def test_quantized_numbers_are_near(model):
    """32 and 64 values stand for all of an order but the first."""
    found = read_ngrams(FOLDER / "quantized.bin")
    for n, (theirs, ours) in enumerate(zip(found.ngrams, model.ngrams)):
        keys = list(ours)
        got, expected = (np.array([one[key] for key in keys]) for one in (theirs, ours))
        np.testing.assert_allclose(got, expected, atol=0.1 if n else 1e-6)
        if n:
            assert len(set(got[:, 0])) <= 64 and len(set(got[:, 1])) <= 32


def test_what_cannot_be_read_is_told_in_a_line(tmp_path, monkeypatch):
    whole = (FOLDER / "trie.bin").read_bytes()
    cases = {
        (FOLDER / "array.bin").read_bytes(): "a trie with compressed pointers",
        (FOLDER / "without_words.bin").read_bytes(): "without its words",
        whole.replace(b"version 5", b"version 4"): "not of version 5",
        whole[:60]: "not of version 5",
        whole[:900]: "cut short or broken",
        whole[:-20]: "its words are not those",
    }
    broken = tmp_path / "broken.bin"
    for content, said in cases.items():
        broken.write_bytes(content)
        with pytest.raises(UserError, match=f"broken.bin: .*{said}.*give the ARPA file"):
            read_ngrams(broken)
    with pytest.raises(UserError, match="none.bin: no such file"):
        read_ngrams(tmp_path / "none.bin")
    os.mkfifo(tmp_path / "pipe")
    for place, why in ((tmp_path, "a folder, and no file"), (tmp_path / "pipe", "no ordinary file but a pipe")):
        for read in (read_ngrams, read_arpa):
            with pytest.raises(UserError, match=f"{place}: {why}"):
                read(place)
    with pytest.raises(UserError, match=r"probing.bin: .*hash tables.*give the ARPA file.*lmplz.*build_binary trie"):
        read_ngrams(FOLDER / "probing.bin")
    # A large one is refused before it fills the memory.
    shutil.copy(FOLDER / "probing.bin", broken)
    os.truncate(broken, 2**42)
    with pytest.raises(UserError, match="hash tables"):
        read_ngrams(broken)
    monkeypatch.setattr(kenlm, "MOST", 100)
    with pytest.raises(UserError, match="285 n-grams, at most 100 are read"):
        read_kenlm(FOLDER / "trie.bin")


def test_a_byte_that_is_another_gives_a_model_or_a_line(tmp_path):
    """It never gives a traceback, nor an invalid probability."""
    whole, broken, refused = (FOLDER / "trie.bin").read_bytes(), tmp_path / "broken.bin", 0
    for at in range(80, len(whole), 13):
        broken.write_bytes(whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :])
        try:
            model = read_ngrams(broken)
        except UserError as error:
            refused += str(error).count("\n") == 0
            continue
        for of_order in model.ngrams:
            assert all(-99 <= prob <= 0 and -99 <= backoff <= 99 for prob, backoff in of_order.values())
    assert refused > 20


def test_pointers_whose_differences_overflow_are_refused(tmp_path):
    """They look as if they were in order, and NumPy repeated rows by them until it crashed."""
    content, broken = bytearray((FOLDER / "trie.bin").read_bytes()), tmp_path / "broken.bin"
    for unigram, pointer in ((1, 5 * 10**18), (2, 2**64 - 5 * 10**18)):
        at = 272 + 16 * unigram + 8  # behind the unigram's two numbers
        content[at : at + 8] = pointer.to_bytes(8, "little")
    broken.write_bytes(content)
    with pytest.raises(UserError, match="cut short or broken"):
        read_ngrams(broken)


@pytest.mark.skipif(shutil.which("build_binary") is None, reason="KenLM's build_binary is not installed")
@pytest.mark.parametrize("order", [2, 4])
def test_tries_made_now(tmp_path, order):
    """More words, and other orders."""
    rng = np.random.default_rng(order)
    words = [f"w{n}" for n in range(150)]
    sentences = [[words[n] for n in np.minimum(rng.geometric(0.03, size), 150) - 1] for size in rng.integers(1, 9, 600)]
    model = estimate(sentences, order)
    write_arpa(model, tmp_path / "model.arpa")
    made = ["build_binary", "trie", str(tmp_path / "model.arpa"), str(tmp_path / "model.bin")]
    subprocess.run(made, check=True, capture_output=True)
    check_same(read_ngrams(tmp_path / "model.bin"), read_arpa(tmp_path / "model.arpa"))
