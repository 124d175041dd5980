import pytest

from joint_st.data.text_units.phonemizer import find_voice, phonemizer


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
        ("zh-CN", "en-us", "sit/cmn"),
        ("zh-Hant-TW", "en-us", "sit/cmn"),
        ("zh-HK", "en-us", "sit/yue"),
        ("pt-BR", "en-us", "roa/pt-BR"),
        ("pt", "pt-BR", "roa/pt-BR"),
        ("pt", "en", "roa/pt"),
        ("nn-NO", "en", "gmq/nb"),
        ("fr", "en", "roa/fr"),
    ],
)
def test_tags_find_their_voices(tag, default, voice):
    assert find_voice(tag, default, phonemizer().voices) == voice
