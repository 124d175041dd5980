"""Rows of a table: the error rates of scored utterances, with intervals."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from joint_st.errors import UserError
from joint_st.evaluation.bootstrap import SPEAKERS, UTTERANCES, by_speaker, rate_interval
from joint_st.evaluation.report import ScoredUtterance
from joint_st.evaluation.wer import ALL, Errors, total

if TYPE_CHECKING:  # it imports JAX, which reading results does not need
    from joint_st.decoding.forward import Clock


def make_rows(
    utterances: Iterable[ScoredUtterance],
    *,
    normalizer: str,
    step: int,
    samples: int = 1000,
    seed: int = 0,
    clocks: Mapping[str, Clock] | None = None,
    draw: str = UTTERANCES,
) -> list[dict]:
    """Return a row for each split, head, decoder and subset, in the order in which they appear, `all` first.

    Rates are fractions, None where there are no words. Intervals are the 95 % percentile bootstrap over utterances,
    with `samples` resamples, and None where fewer than 2 utterances have words. A subset's utterances are those whose
    reference has a word of it. normalizer: name and version of the text normaliser. step: step of the checkpoint.
    clocks: decoding times by split; with them, rows hold the real-time factor: wall seconds of decoding per second of
    audio, on the devices and hosts there are; a subset has that of its split. `recognise` says what is timed. draw:
    `speakers` to resample speakers instead, whose number rows then hold; see `make_rates`.
    """
    groups = defaultdict(lambda: defaultdict(list))
    for utterance in utterances:
        group = groups[utterance.split, utterance.head, utterance.decoder]
        for subset, errors in utterance.errors.items():
            group[subset].append((errors, utterance.speaker))
    rows = []
    for (split, head, decoder), subsets in groups.items():
        for subset in sorted(subsets, key=lambda name: (name != ALL, name)):
            errors, speakers = zip(*subsets[subset])
            rates = make_rates(errors, samples, seed, speakers if draw == SPEAKERS else None)
            key = {"split": split, "subset": subset, "head": head, "decoder": decoder}
            speed = {"real_time_factor": clocks[split].factor(decoder, head)} if clocks else {}
            rows.append({**key, **rates, **speed, "normalizer": normalizer, "step": step})
    return rows


def make_rates(
    errors: Sequence[Errors], samples: int = 1000, seed: int = 0, speakers: Sequence[str] | None = None
) -> dict:
    """Return the WER and CER of some utterances as fractions, their 95 % intervals, and the counts behind them.

    An interval is None where fewer than 2 utterances have words or characters. speakers: who says each utterance, to
    resample speakers; intervals are None where one of them is not stated (empty).
    """
    counts = total(errors)

    def interval(wrong: list[int], there: list[int]) -> tuple[float, float] | tuple[None, None]:
        if speakers is None:
            return rate_interval(wrong, there, samples, seed) or (None, None)
        if not all(speakers):
            return None, None
        return rate_interval(by_speaker(wrong, speakers), by_speaker(there, speakers), samples, seed) or (None, None)

    low, high = interval([e.word_errors for e in errors], [e.words for e in errors])
    cer_low, cer_high = interval([e.character_errors for e in errors], [e.characters for e in errors])
    return {
        "wer": counts.wer,
        "wer_low": low,
        "wer_high": high,
        "cer": counts.cer,
        "cer_low": cer_low,
        "cer_high": cer_high,
        "insertions": counts.insertions,
        "deletions": counts.deletions,
        "substitutions": counts.substitutions,
        "utterances": len(errors),
        **({} if speakers is None else {"speakers": len(set(speakers)) if all(speakers) else None}),
        "words": counts.words,
    }


def stated_speakers(split: str, speakers: Sequence[str]) -> Sequence[str]:
    """Return the speaker of each utterance of a split; raises `UserError` where one is not stated (empty)."""
    if missing := sum(not name for name in speakers):
        raise UserError(
            f"{split}: no speakers to draw: its source does not state that of {missing} of {len(speakers)} utterances "
            "(manifest key, TFDS feature `speaker`); state them, or draw utterances"
        )
    return speakers
