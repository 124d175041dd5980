"""From the evaluations of a sweep's runs to one row for each arm, with intervals over seeds and utterances."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydantic_core
import tqdm
from pydantic import JsonValue

from joint_st.config import Config
from joint_st.config.tree import leaves
from joint_st.errors import UserError
from joint_st.evaluation.bootstrap import SPEAKERS, UTTERANCES, by_speaker, rates_over_seeds, relative_changes
from joint_st.evaluation.rates import stated_speakers
from joint_st.evaluation.report import Numbered, numbered, without_tuned_weights
from joint_st.evaluation.wer import ALL
from joint_st.json_files import parse_json, read_json
from joint_st.passes import FULL_CONTEXT
from joint_st.sweeps.sweep import Job
from joint_st.sweeps.table import HEADS, change_key, name_of

KINDS_OF_ERROR = ("insertions", "deletions", "substitutions")


@dataclass(frozen=True)
class Counts:
    """Errors of one run in one split under one decoder; utterances ordered by id."""

    ids: tuple[Numbered, ...]
    errors: dict[tuple[str, str], np.ndarray]
    """Errors [N] by (head, subset)."""
    words: dict[str, np.ndarray]
    """Words [N] by subset."""
    totals: dict[str, dict[str, int]]
    """Insertions, deletions and substitutions by head."""
    spoken: tuple[tuple[str, str], ...] = ()
    """Reference of each utterance, and the hash of its samples; empty where the evaluation has none."""
    speakers: tuple[str, ...] = ()
    """Speaker of each utterance; empty where its source does not state it."""

    def drawn(self, counts: np.ndarray, draw: str, split: str) -> np.ndarray:
        """Return counts [..., N] of the utterances of a split as they are resampled; raises `UserError` where speakers are
        drawn and not stated."""
        return by_speaker(counts, stated_speakers(split, self.speakers)) if draw == SPEAKERS else counts


@dataclass(frozen=True)
class RunEvaluation:
    """The evaluation of a finished run."""

    job: Job
    step: int
    normalizer: str
    counts: dict[tuple[str, str], Counts]
    """Counts by (split, decoder)."""


def collect(
    tables: Sequence[tuple[Job, Path]],
    *,
    arms: Collection[str] = (),
    references: Sequence[str] = (),
    draw: str = UTTERANCES,
) -> list[dict]:
    """Return one row for each arm (all, or those named), split and decoder, from the tables of finished runs: `rows_of`."""
    read = tqdm.tqdm(tables, desc="read", unit="run", disable=None, delay=1, leave=False)
    found = [read_evaluation(job, table) for job, table in read]
    return rows_of(found, arms=arms, references=references, draw=draw)


def rows_of(
    all_evaluations: Sequence[RunEvaluation],
    *,
    arms: Collection[str] = (),
    references: Sequence[str] = (),
    draw: str = UTTERANCES,
) -> list[dict]:
    """Return one row for each arm (all, or those named), split and decoder, in the order given.

    Rates are fractions, pooled over seeds: `wer`, `wer_heard`, `wer_text_only` of the full-context head and
    `streaming_wer` and so on, each with `_low` and `_high`, the 95 % interval of the bootstrap over seeds and utterances,
    and `_by_seed`. `overrides` are the fields of the config in which the arms differ, by dotted path. `relative_to` holds,
    for each arm in `references`, the change of each rate relative to that arm's. draw: `speakers` to draw seeds and all
    utterances of a speaker together; rows then hold the number of `speakers`. Raises `UserError` where runs were evaluated
    on different utterances, and where speakers are drawn and not stated.
    """
    _check_comparable(all_evaluations)
    evaluations: dict[str, list[RunEvaluation]] = {}
    for one in all_evaluations:
        evaluations.setdefault(one.job.run.arm, []).append(one)
    overrides = differing_fields({arm: [one.job.config for one in group] for arm, group in evaluations.items()})
    rows = []
    for arm, group in evaluations.items():
        if arms and arm not in arms:
            continue
        others = {name: evaluations[name] for name in references if name in evaluations and name != arm}
        own = [_row(key, group, others, draw) for key in group[0].counts]
        rows += [{"name": arm, "overrides": overrides[arm], **row} for row in own]
    return rows


def read_evaluation(job: Job, table: Path) -> RunEvaluation:
    """Read the evaluation whose table is the file `table`, and whose utterances lie in the same folder.

    Raises `UserError` where one of the two is not JSON, and where the utterances have no errors by subset.
    """
    again = f"evaluate it again: joint-st evaluate {job.directory.root}"
    rows = read_json(table, list[dict[str, JsonValue]], again)
    utterances = table.with_suffix(".jsonl")
    records: dict[tuple[str, str], dict[str, list[dict]]] = {}
    with utterances.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            record = parse_json(line, dict[str, JsonValue], f"{utterances}:{number}", again)
            if "subsets" not in record:
                raise UserError(f"{utterances}: has no errors by subset; {again}")
            heads = records.setdefault((record["split"], without_tuned_weights(record["decoder"])), {})
            heads.setdefault(record["head"], []).append(record)
    counts = {key: _counts({head: _by_id(own) for head, own in heads.items()}) for key, heads in records.items()}
    return RunEvaluation(job, rows[0]["step"], rows[0]["normalizer"], counts)


def _by_id(records: Sequence[dict]) -> dict[Numbered, dict]:
    return dict(zip(numbered([record["id"] for record in records]), records))


def _counts(heads: dict[str, dict[Numbered, dict]]) -> Counts:
    some = next(iter(heads.values()))
    ids = tuple(sorted(some))
    subsets = [ALL, *sorted({subset for record in some.values() for subset in record["subsets"]})]
    nothing = {**dict.fromkeys(KINDS_OF_ERROR, 0), "words": 0}

    def of(record, subset):
        return record if subset == ALL else record["subsets"].get(subset, nothing)

    words = {subset: np.array([of(some[i], subset)["words"] for i in ids]) for subset in subsets}
    errors, totals = {}, {}
    for head, records in heads.items():
        for subset in subsets:
            found = np.array([[of(records[i], subset)[kind] for kind in KINDS_OF_ERROR] for i in ids])
            errors[head, subset] = found.sum(axis=1)
            if subset == ALL:
                totals[head] = dict(zip(KINDS_OF_ERROR, found.sum(axis=0).tolist(), strict=True))
    spoken = tuple((some[i]["reference"], some[i].get("samples", "")) for i in ids)
    speakers = tuple(some[i].get("speaker", "") for i in ids)
    return Counts(ids, errors, words, totals, spoken, speakers)


def _check_comparable(evaluations: Sequence[RunEvaluation]) -> None:
    """Raise `UserError` where two runs differ in splits, utterances, their texts or audio, or normalisers."""
    first = evaluations[0]
    for other in evaluations[1:]:
        names = f"{first.job.name} and {other.job.name}"
        if first.counts.keys() != other.counts.keys():
            raise UserError(f"{names}: evaluated on different splits or with different decoders; evaluate them alike")
        if first.normalizer != other.normalizer:
            raise UserError(f"{names}: evaluated with normalisers {first.normalizer} and {other.normalizer}")
        for (split, _), counts in first.counts.items():
            others = other.counts[split, _]
            if counts.ids != others.ids or not np.array_equal(counts.words[ALL], others.words[ALL]):
                raise UserError(f"{names}: evaluated on different utterances of {split}; evaluate both again")
            for which, what in enumerate(("texts", "audio")):
                pairs = zip(counts.spoken, others.spoken, strict=True)
                # An earlier version stored no hashes of samples.
                if differing := [
                    i for i, (x, y) in zip(counts.ids, pairs) if x[which] and y[which] and x[which] != y[which]
                ]:
                    raise UserError(
                        f"{names}: evaluated on different {what} of {split} (of {differing[0][0]}, and {len(differing) - 1} "
                        "more); evaluate both again"
                    )


def _row(
    key: tuple[str, str], group: list[RunEvaluation], references: dict[str, list[RunEvaluation]], draw: str
) -> dict:
    counts = [one.counts[key] for one in group]
    first = counts[0]
    samples = group[0].job.config.evaluation.bootstrap_samples
    # A subset that is another one under another seed has no rate over both.
    kinds = [kind for kind in _kinds(first) if all(_same_words(first, other, kind) for other in counts)]
    errors, words = _errors(counts, kinds), np.stack([first.words[subset] for _, subset in kinds])
    rates = rates_over_seeds(first.drawn(errors, draw, key[0]), first.drawn(words, draw, key[0]), samples)
    row = {
        "split": key[0],
        "decoder": key[1],
        "normalizer": group[0].normalizer,
        "seeds": [one.job.run.seed for one in group],
        "steps": [one.step for one in group],
        "utterances": len(first.ids),
        **({SPEAKERS: len(set(first.speakers))} if draw == SPEAKERS else {}),
        **{name_of("words", FULL_CONTEXT, subset): int(words.sum()) for subset, words in first.words.items()},
    }
    for kind, rate in zip(kinds, rates, strict=True):
        name, words = name_of("wer", *kind), first.words[kind[1]].sum()
        row |= {name: None, f"{name}_low": None, f"{name}_high": None, f"{name}_by_seed": None}
        if rate:
            row |= {name: rate.value, f"{name}_low": rate.low, f"{name}_high": rate.high}
            row[f"{name}_by_seed"] = [float(one.errors[kind].sum() / words) for one in counts]
    for head, prefix in HEADS.items():
        row |= {f"{prefix}{kind}": sum(one.totals[head][kind] for one in counts) for kind in KINDS_OF_ERROR}
    row["relative_to"] = {name: _changes(group, other, key, samples, draw) for name, other in references.items()}
    return row


def _changes(
    group: list[RunEvaluation], reference: list[RunEvaluation], key: tuple[str, str], samples: int, draw: str
) -> dict:
    """Return relative changes by head and subset, over all seeds of both arms, paired where these are the same."""
    by_seed = [{one.job.run.seed: one.counts[key] for one in runs} for runs in (group, reference)]
    ours, theirs = ([one[seed] for seed in sorted(one)] for one in by_seed)
    paired = by_seed[0].keys() == by_seed[1].keys()
    kinds = [kind for kind in _kinds(ours[0]) if all(_same_words(ours[0], one, kind) for one in (*ours, *theirs))]
    errors = (ours[0].drawn(_errors(side, kinds), draw, key[0]) for side in (ours, theirs))
    changes = relative_changes(*errors, samples, paired=paired)
    return {
        change_key(*kind): change and {"change": change.value, "low": change.low, "high": change.high}
        for kind, change in zip(kinds, changes, strict=True)
    }


def _kinds(counts: Counts) -> list[tuple[str, str]]:
    return [(head, subset) for head in HEADS for subset in counts.words]


def _same_words(one: Counts, other: Counts, kind: tuple[str, str]) -> bool:
    subset = kind[1]
    return subset in other.words and np.array_equal(one.words[subset], other.words[subset])


def _errors(counts: Sequence[Counts], kinds: Sequence[tuple[str, str]]) -> np.ndarray:
    """Return errors [kinds, seeds, utterances]."""
    return np.stack([[one.errors[kind] for one in counts] for kind in kinds])


_OF_RUNS = ("name", "seed")
"""Fields in which the runs of one arm differ."""


def differing_fields(arms: Mapping[str, Sequence[Config]]) -> dict[str, dict[str, Any]]:
    """Return, for each arm, the values of all fields in which the arms differ, by dotted path, as in JSON.

    arms: the configs of their runs. None stands for a field that an arm's configs do not have. Fields that differ
    within an arm, as they may with its seeds, are left out.
    """
    values = {arm: [_values(config) for config in configs] for arm, configs in arms.items()}
    everywhere = [one for runs in values.values() for one in runs]
    paths = dict.fromkeys(path for one in everywhere for path in one)

    def alike(configs: Sequence[Mapping[str, Any]], path: str) -> bool:
        return all(one.get(path) == configs[0].get(path) for one in configs)

    chosen = [
        path for path in paths if not alike(everywhere, path) and all(alike(runs, path) for runs in values.values())
    ]
    return {arm: {path: runs[0].get(path) for path in chosen} for arm, runs in values.items()}


def _values(config: Config) -> dict[str, Any]:
    found = {leaf.path: pydantic_core.to_jsonable_python(leaf.value) for leaf in leaves(config)}
    return {path: value for path, value in found.items() if path not in _OF_RUNS}
