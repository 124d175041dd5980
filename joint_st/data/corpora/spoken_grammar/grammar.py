"""Sentences over numbers, dates, names of people and of places.

Function words, numbers and dates are a small closed vocabulary; names are an open one. Names are dealt from shuffled
decks, so that all names of a kind occur about equally often.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

from joint_st.data.corpora.spoken_grammar.names import KINDS, Names

UNITS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen"
).split()
TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
ORDINALS = (
    "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth fourteenth "
    "fifteenth sixteenth seventeenth eighteenth nineteenth twentieth"
).split()
MONTHS = "january february march april may june july august september october november december".split()
WEEKDAYS = "monday tuesday wednesday thursday friday saturday sunday".split()
THINGS = "boxes letters tickets books chairs bottles apples lamps bags coats maps keys".split()

TEMPLATES = """
{first} {surname} left {place} on the {day} of {month}
{first} {surname} was born in {place}
{first} {surname} lives in {place} now
{first} and {first} are flying to {place}
{first} met {surname} in {place}
{first} moved from {place} to {place}
{first} will be in {place} on {weekday}
{first} wants {number} {things} from {place}
{first} sold {number} {things} to {surname}
{first} {surname} is {age} years old
{first} wrote to {first} {surname}
{first} is waiting for {surname} at {time}
{first} lost {number} {things} near {place}
{first} and {surname} meet at {time}
{first} comes back on the {day} of {month}
call {first} {surname} at {time}
call {first} about {number} {things}
ask {surname} about {place}
ask {first} for {number} {things}
send {number} {things} to {place}
send {first} {surname} to {place}
tell {first} that {surname} is in {place}
give {number} {things} to {first} {surname}
meet {first} in {place} on {weekday}
book a room in {place} for {surname}
please call {surname} before {time}
please tell {first} and {first}
please bring {number} {things} to {surname}
find {surname} in {place}
fly from {place} to {place} on {weekday}
the train to {place} leaves at {time}
the train from {place} is {number} minutes late
the bus from {place} to {place} is number {digits}
the road to {place} is closed until {month}
the ship from {place} arrives in {month}
the museum in {place} opens at {time}
the letter from {place} came on {weekday}
the {surname} family left {place}
the house of {first} {surname} is in {place}
it is {number} miles from {place} to {place}
it snowed in {place} on the {day} of {month}
flight {digits} to {place} is ready
we saw {first} {surname} in {place}
we drove from {place} to {place} in {month}
we need {number} {things} in {place}
we stayed in {place} until {weekday}
doctor {surname} lives near {place}
doctor {surname} will see {first} at {time}
my friend {first} works in {place}
my sister {first} called from {place}
mister {surname} paid {number} dollars
mister {surname} and {first} went to {place}
where is {first} {surname}
when does {first} leave {place}
who is {first} {surname} from {place}
did {first} call {surname} on {weekday}
has {surname} seen {place}
{place} is {number} miles from {place}
{place} has {number} streets
{place} and {place} are far away
{surname} bought {number} {things} in {place}
{surname} was in {place} in {year}
{surname} and {surname} opened a shop in {place}
{surname} asked {first} about {place}
{surname} came to {place} in {year}
""".strip().split("\n")


def number_words(n: int) -> str:
    """Spell 0 to 999 without `and`: `three hundred forty two`."""
    if n >= 100:
        rest = f" {number_words(n % 100)}" if n % 100 else ""
        return f"{UNITS[n // 100]} hundred{rest}"
    if n < 20:
        return UNITS[n]
    return TENS[n // 10 - 2] + (f" {UNITS[n % 10]}" if n % 10 else "")


def ordinal_words(n: int) -> str:
    """Spell the ordinal of 1 to 31: `twenty third`."""
    if n <= 20:
        return ORDINALS[n - 1]
    return "thirtieth" if n == 30 else f"{TENS[n // 10 - 2]} {ORDINALS[n % 10 - 1]}"


def year_words(n: int) -> str:
    """Spell a year as it is said: `nineteen eighty four`, `eighteen hundred`."""
    century, rest = divmod(n, 100)
    if not rest:
        return f"{number_words(century)} hundred"
    if rest < 10:
        return f"{number_words(century)} oh {UNITS[rest]}"
    return f"{number_words(century)} {number_words(rest)}"


def time_words(rng: random.Random) -> str:
    """Return a time of day: `nine`, `half past nine`, `nine fifteen`, `quarter to ten`, `noon`."""
    hour = UNITS[rng.randint(1, 12)]
    kind = rng.randrange(10)
    if kind < 4:
        return hour
    if kind < 6:
        return f"half past {hour}"
    if kind < 8:
        return f"{hour} {number_words(rng.randrange(10, 60, 5))}"
    if kind < 9:
        return f"quarter to {hour}"
    return "noon"


class Decks:
    """Deals names of each kind: a deck is shuffled, dealt to its end, and shuffled again."""

    def __init__(self, cards: dict[str, tuple[str, ...]], rng: random.Random):
        self._cards = cards
        self._rng = rng
        self._left: dict[str, list[str]] = {kind: [] for kind in KINDS}

    def deal(self, kind: str) -> str:
        """Return the next name of a kind."""
        if not self._left[kind]:
            self._left[kind] = list(self._cards[kind])
            self._rng.shuffle(self._left[kind])
        return self._left[kind].pop()


def sentences(seed: str, names: Names, only_read_share: float, whole: bool = False) -> Iterator[str]:
    """Yield sentences without end, the same for the same arguments.

    Each name is a text-only one with probability `only_read_share`; if `whole`, all names of a sentence are of the same
    sort.
    """
    rng = random.Random(seed)
    sorts = (Decks(names.heard, rng), Decks(names.text_only, rng))
    while True:
        text_only = rng.random() < only_read_share
        parts = []
        for part in rng.choice(TEMPLATES).split():
            if part in SLOTS:
                parts.append(SLOTS[part](rng))
            elif part.startswith("{"):
                if not whole:
                    text_only = rng.random() < only_read_share
                parts.append(sorts[text_only].deal(part[1:-1]))
            else:
                parts.append(part)
        yield " ".join(parts)


def _number(rng: random.Random) -> str:
    if rng.random() < 0.2:
        return number_words(rng.randint(100, 999) if rng.random() < 0.5 else 100 * rng.randint(1, 9))
    return number_words(rng.randint(2, 99))


SLOTS = {
    "{number}": _number,
    "{age}": lambda rng: number_words(rng.randint(2, 99)),
    "{digits}": lambda rng: " ".join(UNITS[rng.randrange(10)] for _ in range(3)),
    "{day}": lambda rng: ordinal_words(rng.randint(1, 31)),
    "{month}": lambda rng: rng.choice(MONTHS),
    "{weekday}": lambda rng: rng.choice(WEEKDAYS),
    "{year}": lambda rng: year_words(rng.randint(1700, 1999)),
    "{time}": time_words,
    "{things}": lambda rng: rng.choice(THINGS),
}
"""Slots of the closed vocabulary."""
