import pytest

from joint_st.data.text_units.phonemizer import NoPhonemes, find_voice, phonemizer


@pytest.mark.parametrize(
    "tag, default, voice",
    [
        ("", "en-us", "gmw/en-US"),
        ("en", "en-us", "gmw/en-US"),
        ("en", "en-GB", "gmw/en"),
        ("en", "de", "gmw/en"),
        ("EN_us", "de", "gmw/en-US"),
        ("en-AU", "en-us", "gmw/en"),
        ("de-AT", "en-us", "gmw/de"),
        ("zh-HK", "en-us", "sit/yue"),
        ("pt-BR", "en-us", "roa/pt-BR"),
        ("pt", "pt-BR", "roa/pt-BR"),
        ("pt", "en", "roa/pt"),
        ("nn-NO", "en", "gmq/nb"),
        ("fr", "en", "roa/fr"),
        # Codes of three letters, and names.
        ("eng", "en-us", "gmw/en-US"),
        ("English", "en-us", "gmw/en-US"),
        ("English", "en-GB", "gmw/en"),
        ("deu", "en", "gmw/de"),
        ("ger", "en", "gmw/de"),
        ("por-BR", "en", "roa/pt-BR"),
        (" scottish  Gaelic", "en", "cel/gd"),
        ("Cantonese", "en", "sit/yue"),
        ("", "German", "gmw/de"),
    ],
)
def test_tags_find_their_voices(tag, default, voice):
    assert find_voice(tag, default, phonemizer().voices) == voice


@pytest.mark.parametrize(
    "tag, message",
    [
        (
            "zh-CN",
            r"a language of the data: espeak-ng has no right phonemes of Mandarin \(zh-CN\): tones 1 and 4 are the same",
        ),
        ("zh-Hant-TW", "of Mandarin"),
        ("Chinese", "of Mandarin"),
        ("cmn", "of Mandarin"),
        ("ja", r"of Japanese \(ja\): kanji are read as `Chinese letter`"),
        ("th", "of Thai"),
        ("klingonese", "espeak-ng has no language 'klingonese', perhaps .*; correct the tag"),
        ("fo", "a language of the data: espeak-ng has no dictionary of 'fo' here"),
        ("", "data.units.language: espeak-ng has no right phonemes of Japanese"),
    ],
)
def test_a_language_without_phonemes_says_why(tag, message):
    with pytest.raises(NoPhonemes, match=message):
        find_voice(tag, "en-us" if tag else "jpn", phonemizer().voices)


def test_the_phonemes_that_are_refused_are_wrong():
    """If espeak-ng learns to distinguish them, they need no longer be refused."""
    words = phonemizer().words
    assert words("妈", "sit/cmn") == words("骂", "sit/cmn")
    assert "".join(words("字", "jpx/ja")[0]).startswith("tʃaɪniːz")
    assert "".join(words("字", "sit/hak")[0]).startswith("tʃaɪniːz")
    assert words("มา", "tai/th")[0][-1] == "s"
