"""Confidences in an evaluation: the words and n-best lists of its hypotheses, temperatures, and how good they are."""

from __future__ import annotations

import dataclasses
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from rich import box
from rich.table import Table

from joint_st.data.normalizers import Normalizer
from joint_st.data.scripts import tokens_of
from joint_st.decoding.timed import TimedLabels
from joint_st.evaluation.calibration import JudgedWords, Quality, calibrated, first_half, fit_temperature, judge
from joint_st.evaluation.report import ScoredUtterance, between, by_key, percent, short_names
from joint_st.passes import PASSES
from joint_st.runs.directory import RunDirectory
from joint_st.runs.temperatures import Temperature, read_temperatures
from joint_st.tables import escape
from joint_st.word_times.confidence import tempered
from joint_st.word_times.spans import Span
from joint_st.word_times.transcripts import Words


class Heard(NamedTuple):
    """What a decoder and a head have found in an utterance."""

    text: str
    words: tuple[Span, ...]
    alternatives: tuple[tuple[str, float], ...]

    def normalised(self, normalizer: Normalizer) -> tuple[str, dict]:
        """Return the normalised text and, as fields of a `ScoredUtterance`, its words and the n-best list.

        In scripts without spaces, words are characters. They have `word`, `start`, `end` (seconds) and `confidence`. There are none if normalising the whole text gives
        another result than normalising its words one by one.
        """
        text = normalizer(self.text)
        words = [span._replace(text=word) for span in self.words for word, _ in tokens_of(normalizer(span.text))]
        if [span.text for span in words] != [word for word, _ in tokens_of(text)]:
            words = []
        texts: dict[str, float] = {}
        for one, score in self.alternatives:
            texts.setdefault(normalizer(one), score)
        return text, {
            # A long word's confidence may be a millionth, and not be rounded before a temperature makes it a tenth.
            "hypothesis_words": [{"word": span.text, **span.record(), "confidence": span.confidence} for span in words],
            "nbest": [{"text": one, "score": round(score, 4)} for one, score in texts.items()],
        }


def spell_heard(words: Words) -> Callable[[TimedLabels], Heard]:
    """Return the function from what a decoder finds to `Heard`."""
    return lambda found: Heard(words.text(found), words.spans(found, float("inf")), words.alternatives(found))


def judged_words(utterances: Iterable[ScoredUtterance]) -> JudgedWords:
    """Return the words of hypotheses with their confidences, and which of them are correct."""
    sure, right, owner = [], [], []
    for number, one in enumerate(utterances):
        own = one.hypothesis_words or []
        sure += [word["confidence"] for word in own]
        right += [word["correct"] for word in own]
        owner += [number] * len(own)
    return JudgedWords(np.array(sure, np.float64), np.array(right, bool), np.array(owner, int))


@dataclasses.dataclass(frozen=True)
class Confidences:
    """How good the confidences of an evaluation are."""

    rows: list[dict]
    """Rows of the table (see `make_confidence_rows`)."""
    bins: dict[tuple, JudgedWords]
    """The words from which the rows were computed."""
    fitted: list[Temperature]
    """Temperatures that were found."""


class Fit(NamedTuple):
    """Temperatures found on one half of some data, and how good confidences are on the other half, before and after."""

    temperatures: list[Temperature]
    rows: list[dict]
    """Rows of the table (see `make_confidence_rows`) for the other half."""
    bins: dict[tuple, JudgedWords]
    """The words of the other half, by key, before and after."""


def fit(
    utterances: Sequence[ScoredUtterance], fingerprints: Mapping[str, str], *, step: int, samples: int, seed: int
) -> Fit:
    """Fit a temperature for each head and decoder on one half of all splits together, and judge it on the other.

    The halves have no speaker in common; an utterance whose source states no speaker counts as a speaker of its own. Of one
    speaker alone, the halves are cut by utterance, which is reported on stderr.
    Where the words to fit on are all correct, or none is, no temperature has the highest likelihood: then there is
    none, which is reported on stderr. fingerprints: fingerprints of the decoders, by name.
    """
    groups: dict[tuple[str, str], list[ScoredUtterance]] = defaultdict(list)
    for one in utterances:
        groups[one.head, one.decoder].append(one)
    temperatures, rows, bins, alone = [], [], {}, set()
    for (head, decoder), own in groups.items():
        names = [one.speaker or f"{one.split}/{one.id}" for one in own]
        if len(set(names)) == 1 < len(own):
            alone.add(names[0])
            names = [f"{one.split}/{one.id}" for one in own]
        # Cut by the words of the references, so that the halves are the same for all heads and decoders.
        first = first_half(names, [len(tokens_of(one.reference)) for one in own])
        fitted = judged_words(one for one, mine in zip(own, first) if mine)
        splits = ", ".join(dict.fromkeys(one.split for one in own))
        if fitted.correct.all() or not fitted.correct.any():
            count = f"all {len(fitted.correct)}" if fitted.correct.any() else f"none of {len(fitted.correct)}"
            print(
                f"{splits}: no temperature for {head}, {decoder}: {count} words to fit on are correct", file=sys.stderr
            )
            continue
        found = Temperature(
            step=step,
            head=head,
            decoder=decoder,
            fingerprint=fingerprints[decoder],
            temperature=round(fit_temperature(fitted.confidences, fitted.correct), 4),
            fitted_on=f"half of {splits}",
            words=len(fitted.confidences),
        )
        temperatures.append(found)
        rest = [one for one, mine in zip(own, first) if not mine]
        rows += _rows(f"{splits}, held out", head, decoder, rest, found, step, samples, seed, bins)
    for name in sorted(alone):
        print(
            f"all utterances to fit temperatures on are of {name}: both halves have the same speaker", file=sys.stderr
        )
    return Fit(temperatures, rows, bins)


def make_confidence_rows(
    utterances: Sequence[ScoredUtterance],
    temperatures: Mapping[tuple[str, str], Temperature],
    *,
    step: int,
    samples: int,
    seed: int,
    bins: dict[tuple, JudgedWords],
) -> list[dict]:
    """Return rows for each split, head and decoder: one for the raw confidences, and one for the calibrated ones where
    there is a temperature (by head and decoder).

    The confidences of the utterances are the raw ones. `correct` is the share of correct words among those of the
    hypotheses, `confidence` their mean confidence; see `joint_st.evaluation.calibration` for the rest. The words behind
    the rows go into `bins`.
    """
    rows = []
    for (split, head, decoder), own in by_key(utterances).items():
        rows += _rows(split, head, decoder, own, temperatures.get((head, decoder)), step, samples, seed, bins)
    return rows


def _rows(split, head, decoder, utterances, temperature: Temperature | None, step, samples, seed, bins) -> list[dict]:
    words = judged_words(utterances)
    states = [1.0] if temperature is None else [1.0, temperature.temperature]
    rows = []
    for state, name in zip(states, ("before", "after")):
        own = calibrated(words, state)
        bins[split, head, decoder, name] = own
        found = judge(own, samples, seed)
        if found is not None:
            row = {"split": split, "head": head, "decoder": decoder, "step": step, "calibrated": name == "after"}
            rows.append(row | {"temperature": state} | _numbers(own, found) | {"utterances": len(utterances)})
    return rows


def _numbers(words: JudgedWords, found: Quality) -> dict:
    auc = found.auc or (None, None, None)
    return {
        "correct": float(words.correct.mean()),
        "confidence": float(words.confidences.mean()),
        **dict(zip(("ece", "ece_low", "ece_high"), found.ece)),
        "ece_by_chance": found.ece_by_chance,
        **dict(zip(("auc", "auc_low", "auc_high"), auc)),
        "words": len(words.confidences),
    }


def temper(
    utterances: Iterable[ScoredUtterance], temperatures: Mapping[tuple[str, str], Temperature]
) -> list[ScoredUtterance]:
    """Return the utterances with calibrated confidences where there is a temperature, by head and decoder."""
    done = []
    for one in utterances:
        found = temperatures.get((one.head, one.decoder))
        if found and one.hypothesis_words:
            words = [
                word | {"confidence": float(tempered(word["confidence"], found.temperature))}
                for word in one.hypothesis_words
            ]
            one = dataclasses.replace(one, hypothesis_words=words)
        done.append(one)
    return done


def judge_confidences(
    run: RunDirectory,
    utterances: list[ScoredUtterance],
    judged: Sequence[ScoredUtterance],
    fingerprints: Mapping[str, str],
    step: int,
    samples: int,
    seed: int,
) -> tuple[list[ScoredUtterance], Confidences]:
    """Return the utterances with calibrated confidences, and how good the confidences are.

    judged: utterances of other data on which to fit temperatures; without any, the run's own temperatures are used.
    fingerprints: fingerprints of the decoders, by name.
    """
    how = {"step": step, "samples": samples, "seed": seed}
    fitted = fit(judged, fingerprints, **how)
    known = read_temperatures(run) | {one.key: one for one in fitted.temperatures}
    temperatures = {
        (head, decoder): known[step, head, fingerprint]
        for head in PASSES
        for decoder, fingerprint in fingerprints.items()
        if (step, head, fingerprint) in known
    }
    bins = dict(fitted.bins)
    rows = [*fitted.rows, *make_confidence_rows(utterances, temperatures, bins=bins, **how)]
    return temper(utterances, temperatures), Confidences(rows, bins, fitted.temperatures)


def make_confidence_table(rows: Sequence[dict], title: str) -> Table:
    """Return the rows as a table for `rich.print`; in per cent except for the temperature T and the AUC."""
    shared = len({row["decoder"] for row in rows}) == 1
    short = {} if shared else short_names(row["decoder"] for row in rows)
    lines = [title + (f", decoder {rows[0]['decoder']}" if shared else "")]
    lines += [f"{label}: {name}" for name, label in short.items()]
    table = Table(title=escape("\n".join(lines)), title_justify="left", box=box.SIMPLE_HEAD, padding=0)
    for name in ("split", "head", *([] if shared else ["decoder"])):
        table.add_column(name, overflow="fold")
    for name in ("T", "right %", "ECE %", "95 %", "chance", "AUC", "95 %", "words"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        auc, *ends = ("-" if row[name] is None else f"{row[name]:.3f}" for name in ("auc", "auc_low", "auc_high"))
        table.add_row(
            # The line below says the same for the calibrated confidences.
            *(["", ""] if row["calibrated"] else [escape(row["split"]), row["head"]]),
            *([] if shared else ["" if row["calibrated"] else escape(short.get(row["decoder"], row["decoder"]))]),
            f"{row['temperature']:.2f}" if row["calibrated"] else "-",
            *(percent(row[name]) for name in ("correct", "ece")),
            between(row["ece_low"], row["ece_high"]),
            percent(row["ece_by_chance"]),
            auc,
            "-" if row["auc_low"] is None else "-".join(ends),
            str(row["words"]),
        )
    return table
