"""Numbers in English words."""

from __future__ import annotations

SMALL = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen"
).split()
TENS = "_ _ twenty thirty forty fifty sixty seventy eighty ninety".split()
LARGE = ((10**9, "billion"), (10**6, "million"), (10**3, "thousand"), (100, "hundred"))
PARTS = "_ _ half third quarter fifth sixth seventh eighth ninth tenth".split()


def spell(digits: str) -> str:
    """Spell ASCII digits as a cardinal without `and`; digit by digit with a leading zero or from 10^12 on."""
    if len(digits) > 12 or (digits[0] == "0" and digits != "0"):
        return " ".join(SMALL[int(digit)] for digit in digits)
    return cardinal(int(digits))


def cardinal(number: int) -> str:
    """Spell a number below 10^12."""
    for size, name in LARGE:
        if number >= size:
            rest = f" {cardinal(number % size)}" if number % size else ""
            return f"{cardinal(number // size)} {name}{rest}"
    if number >= 20:
        return TENS[number // 10] + (f" {SMALL[number % 10]}" if number % 10 else "")
    return SMALL[number]


def fraction(upper: int, lower: int, *, after_whole: bool) -> str:
    """Spell a fraction with a denominator up to ten: `three quarters`, or `and three quarters` after a whole number."""
    if upper == 1:
        return f"and a {PARTS[lower]}" if after_whole else f"one {PARTS[lower]}"
    return f"{'and ' * after_whole}{SMALL[upper]} {PARTS[lower]}s"
