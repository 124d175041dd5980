"""Words, and letters of scripts without spaces, as tokens."""

from __future__ import annotations

import pytest

from joint_st.data.scripts import tokens_of


@pytest.mark.parametrize(
    "text, tokens",
    [
        ("", ""),
        (" so  anna\nwent. ", "so anna went."),
        ("l\u2019\u00e9t\u00e9 (he said)", "l\u2019\u00e9t\u00e9 (he said)"),
        ("\uc548\ub155 \ud558\uc138\uc694", "\uc548\ub155 \ud558\uc138\uc694"),
        ("\u4eca\u5929\u5f88\u597d", "\u4eca+\u5929+\u5f88+\u597d"),
        ("\u6211\u7528GPT4\u5199 \u5b57", "\u6211+\u7528+GPT4+\u5199 \u5b57"),
        # Punctuation belongs to the letter before it, what opens to the one after it.
        ("\u4f60\u597d\u3002\u300c\u5317\u4eac\u300d", "\u4f60+\u597d\u3002+\u300c\u5317+\u4eac\u300d"),
        # So do marks of Thai and Khmer, and the dakuten of kana.
        ("\u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35", "\u0e2a+\u0e27\u0e31+\u0e2a+\u0e14\u0e35"),
        ("\u0e19\u0e49\u0e33", "\u0e19\u0e49\u0e33"),
        ("\u1781\u17d2\u1798\u17c2\u179a", "\u1781\u17d2\u1798\u17c2+\u179a"),
        ("\u304b\u3099\u30fc", "\u304b\u3099+\u30fc"),
        # What a tokenizer cannot spell is a letter of the script that it stands in.
        ("\u4e2d\u2047\u56fd ca\u2047t \u2047\u56fd", "\u4e2d+\u2047+\u56fd ca\u2047t \u2047+\u56fd"),
    ],
)
def test_tokens_are_words_and_letters_of_scripts_without_spaces(text, tokens):
    expected = [(one, n > 0) for word in tokens.split() for n, one in enumerate(word.split("+"))]
    assert tokens_of(text) == expected
    if "+" not in tokens:
        assert [one for one, _ in expected] == text.split()
