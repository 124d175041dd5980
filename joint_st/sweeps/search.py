"""Overrides of many runs: every combination of some values, or random ones.

for overrides in grid({"model.width": (64, 96), "optimizer.peak_learning_rate": (1e-3, 3e-3)}):
    for seed in range(3):
        yield Run(arm_name(overrides), overrides, seed)

for i, overrides in enumerate(sample(0, 20, {"optimizer.peak_learning_rate": log_uniform(1e-4, 1e-2)})):
    yield Run(f"draw_{i}", overrides)

Draws are numbered there, because two of them may round to the same values.
"""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from random import Random
from typing import Any

import pydantic_core

Draw = Callable[[Random], Any]
"""Draws a value from a random generator."""


def grid(values: Mapping[str, Iterable]) -> list[dict[str, Any]]:
    """Return every combination of the values at some dotted paths; those of the last path change fastest."""
    return [dict(zip(values, combination)) for combination in itertools.product(*values.values())]


def sample(seed: int, count: int, draws: Mapping[str, Draw]) -> list[dict[str, Any]]:
    """Return `count` random combinations of values at some dotted paths.

    Each value depends on the seed, its place and its path alone: a larger count, or one more path, leaves all other
    values, and therefore finished runs, as they were.
    """
    return [{path: draw(Random(f"{seed} {i} {path}")) for path, draw in draws.items()} for i in range(count)]


def uniform(low: float, high: float) -> Draw:
    """Draw numbers from `low` to `high`, rounded to three digits, or to as many more as cut the range into fifty, where
    that does not leave the range."""
    return lambda random: _rounded(random.uniform(low, high), low, high)


def log_uniform(low: float, high: float) -> Draw:
    """Draw numbers from `low` to `high`, both above 0, with a uniform logarithm; rounded as `uniform` does."""
    return lambda random: _rounded(math.exp(random.uniform(math.log(low), math.log(high))), low, high)


def integers(low: int, high: int) -> Draw:
    """Draw whole numbers from `low` to `high`, both included."""
    return lambda random: random.randint(low, high)


def choice(*values: Any) -> Draw:
    """Draw one of the values."""
    return lambda random: random.choice(values)


def arm_name(overrides: Mapping[str, Any]) -> str:
    """Return a name for an arm from its overrides: `width=64+peak_learning_rate=0.003`; `base` if there are none.

    A path is cut to as few last words as distinguish it from the others; characters that a name cannot hold become `_`.
    """
    paths = [path.split(".") for path in overrides]
    names = []
    for path, value in zip(paths, overrides.values()):
        alone = (n for n in range(1, len(path)) if sum(other[-n:] == path[-n:] for other in paths) == 1)
        words = next(alone, len(path))
        text = value if isinstance(value, str) else json.dumps(pydantic_core.to_jsonable_python(value))
        names.append(re.sub(r"[^\w.+=-]+", "_", f"{'.'.join(path[-words:])}={text}").strip("_"))
    return "+".join(names) or "base"


def _rounded(value: float, low: float, high: float) -> float:
    low, high = sorted((low, high))
    if low == high:
        return float(low)
    return min(max(float(f"{value:.{_digits(low, high)}g}"), low), high)


def _digits(low: float, high: float) -> int:
    """Return how many digits to round to: three, or more where their steps are above a fiftieth of the range.

    Finished runs are named by their values, so that a range which three digits suffice for keeps them.
    """
    # Of numbers just below the largest: 999 of 1000.
    exponent = math.ceil(math.log10(max(abs(low), abs(high)))) - 1
    widest = (high - low) / 50 * (1 + 1e-9)
    return next((digits for digits in range(3, 17) if 10.0 ** (exponent - digits + 1) <= widest), 17)
