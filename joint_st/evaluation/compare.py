"""Tests whether one run's error rate is lower than another's, by the paired bootstrap on the same utterances.

The rate is that of words, or that of characters where most letters of a split's references are in scripts without spaces
between words.

The p-value belongs to the two-sided hypothesis that both rates are equal, and agrees with the 95 % interval of their
difference: below 0.05 the interval excludes zero (except for rounding with few resamples). Where the runs differ on fewer
than 6 utterances, nothing is decided. No p-value is corrected for the number of rows.
"""

from __future__ import annotations

import functools
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import rich
from rich import box
from rich.table import Table

from joint_st.config import Source, load
from joint_st.data.dataset import Dataset, open_paired
from joint_st.data.normalizers import normalizer
from joint_st.decoding.decoders import Decoder, Greedy
from joint_st.errors import UserError
from joint_st.evaluation.bootstrap import SPEAKERS, UTTERANCES, by_speaker, paired_difference
from joint_st.evaluation.evaluate import Evaluation, evaluate_checkpoints
from joint_st.evaluation.ranking import errors_and_length, metric_of
from joint_st.evaluation.rates import stated_speakers
from joint_st.evaluation.report import (
    DIFFERENCE_COLUMNS,
    Key,
    ScoredUtterance,
    about_few,
    by_key,
    difference_cells,
    keep_all,
    raise_first,
    write_output_rows,
)
from joint_st.evaluation.stored import (
    contents,
    decoded_contents,
    have_changed,
    origin_of,
    other_texts,
    stored_utterances,
)
from joint_st.evaluation.wer import ALL, Errors, total
from joint_st.passes import PASSES
from joint_st.runs.directory import existing_run
from joint_st.runs.trained import read_symbols, trained_checkpoints
from joint_st.tables import escape

SAMPLES = 10_000
"""Number of resamples of the utterances."""


class Side:
    """One of the two systems: a checkpoint of a run, and its hypothesis for each utterance."""

    def __init__(self, workdir: Path, checkpoint: str):
        self.run = existing_run(workdir)
        self.config = load(self.run.config)
        with trained_checkpoints(self.run) as checkpoints:
            self.step = checkpoints.choose(checkpoint)
        self.normalizer = str(normalizer(self.config.data.normalizer))
        self.utterances: dict[Key, list[ScoredUtterance]] = {}
        self.evaluated: Evaluation | None = None

    @property
    def name(self) -> str:
        return f"{self.run.root}, step {self.step}"

    def fill(self, keys: Sequence[Key], data: Mapping[str, Source], decoders: Sequence[Decoder]) -> None:
        """Fill `utterances` from the run's evaluations, or by a new evaluation if these lack some.

        data: sources by split, or empty for the config's own. Stored hypotheses are used if the checkpoint, the decoder
        and the normaliser are the current ones, and if they belong to the utterances of `data` with the same texts and
        samples; without `data`, to the sources that the config names, with the same texts where these still exist.
        """
        sources = {split: (data or self.config.data.test)[split] for split, _, _ in keys}
        how = (self.config.window_seconds, self.config.model.look_ahead_ms[0])
        wanted = origin_of(self.run, self.step, self.normalizer, sources, decoders, *how)
        found, why = stored_utterances(self.run, self.step, keys, wanted, sources=not data)
        for split, source in sources.items() if not why else ():
            # Each head and decoder may have been stored by an evaluation of its own.
            stored = [contents(found[key]) for key in keys if key[0] == split]
            if data:
                now = self._contents_of(source)
                if any(one != now for one in stored):
                    why = (
                        f"what is stored was made with other utterances, texts or audio than --data {split}=... has now"
                    )
            elif have_changed(self.name, functools.partial(self._open, source), stored, self.config.data.read_threads):
                why = other_texts(split)
            if why:
                break
        if why:
            self.evaluate(sources, decoders, why)
        else:
            self.utterances = {key: found[key] for key in keys}

    def evaluate(self, sources: Mapping[str, Source], decoders: Sequence[Decoder], why: str) -> None:
        """Fill `utterances` by evaluating, and say why."""
        print(f"{self.name}: evaluated, since {why}", file=sys.stderr)
        [self.evaluated] = evaluate_checkpoints(self.run.root, [str(self.step)], sources, PASSES, decoders)
        if self.evaluated.unread:
            raise UserError(f"{self.name}: {'; '.join(self.evaluated.unread)}")
        self.utterances = by_key(self.evaluated.utterances)

    def _open(self, source: Source) -> Dataset:
        symbols, config = read_symbols(self.config, self.run), self.config
        normalize = normalizer(config.data.normalizer)
        return open_paired([source], config.data, config.model.features, normalize, symbols.labels, training=False)

    def _contents_of(self, source: Source) -> Counter:
        """Return the `contents` of a source's readable utterances; all of its audio is decoded."""
        dataset = self._open(source)
        return decoded_contents(dataset, range(len(dataset)), self.config.data.read_threads)


def compare_runs(
    run_a: Path,
    run_b: Path,
    *,
    checkpoints: tuple[str, str] = ("best", "best"),
    data: Mapping[str, Source] | None = None,
    decoders: Sequence[Decoder] = (Greedy(),),
    draw: str = UTTERANCES,
    json_file: Path | None = None,
) -> list[dict]:
    """Compare a checkpoint of each run on named sources, the test splits of both by default, and print the rows.

    draw: what resamples draw, `utterances` or all utterances of each of the `speakers`.
    Hypotheses in the runs' `evaluations` are used if they belong to the same utterances, decoded in the same way
    (`Side.fill`); otherwise the checkpoints are evaluated, and the results stored there. Raises `UserError` where the
    runs normalise texts differently or have no split in common, where they were not evaluated on the same utterances,
    where no reference has words, and where speakers are drawn and not stated.
    """
    a, b = (Side(workdir, checkpoint) for workdir, checkpoint in zip((run_a, run_b), checkpoints, strict=True))
    if a.normalizer != b.normalizer:
        raise UserError(
            f"{a.run.root} normalises texts by {a.normalizer}, {b.run.root} by {b.normalizer}: their word error rates "
            "are not comparable"
        )
    splits = list(data or (split for split in a.config.data.test if split in b.config.data.test))
    if not splits:
        raise UserError(f"{a.run.root}, {b.run.root}: no test split in common; give --data NAME=SOURCE")
    keys = [(split, head, decoder.name) for split in splits for head in PASSES for decoder in decoders]
    for side in (a, b):
        side.fill(keys, data or {}, decoders)
    if any(_differ(key, a, b) for key in keys):
        for side in (a, b):
            if not side.evaluated:
                sources = {split: (data or side.config.data.test)[split] for split in splits}
                side.evaluate(sources, decoders, "the stored results of the two runs are for different utterances")
    # Written first, so that nothing is lost with the terminal.
    stored = [problem for side in (a, b) if side.evaluated for problem in keep_all(side.evaluated.files())]
    rows = [row for key in keys for row in compare_utterances(key, a, b, draw=draw)]
    nothing = [f"{split}: its references have no words under {a.normalizer}" for split in splits]
    nothing = [line for line, split in zip(nothing, splits) if not any(row["split"] == split for row in rows)]
    if not rows:
        raise_first(stored)
        raise UserError(f"{'; '.join(nothing)}; there is no rate to compare: give --data NAME=SOURCE")
    for line in nothing:
        print(f"{line}: left out", file=sys.stderr)
    problems = keep_all([(json_file, lambda path: write_output_rows(rows, path))] if json_file else []) + stored
    rich.print(make_comparison_table(rows, a.name, b.name))
    raise_first(problems)
    return rows


def _differ(key: Key, a: Side, b: Side) -> bool:
    """Return whether the sides differ in utterances, texts or samples, as far as the samples are known."""
    ours, theirs = contents(a.utterances[key]), contents(b.utterances[key])
    return ours != theirs


def compare_utterances(key: Key, a: Side, b: Side, samples: int = SAMPLES, draw: str = UTTERANCES) -> list[dict]:
    """Return a row for each subset of the words of a split under a head and a decoder; rates are fractions.

    metric: the rate that is compared, `wer` or `cer`. difference: A's rate minus B's; low, high: its 95 % interval, None
    where fewer than 2 utterances have words. verdict: `a_lower` or `b_lower` where the p-value is below 0.05, otherwise
    `undecided`. A subset is left out where the runs' vocabularies disagree on its words. speakers: their number, where
    `draw` asks for them. Raises `UserError` where they are not stated.
    """
    split, head, decoder = key
    ours, theirs = paired(key, a, b)
    speakers = np.array(stated_speakers(split, [one.speaker for one in ours]) if draw == SPEAKERS else [])
    subsets = sorted({name for one in (*ours, *theirs) for name in one.errors}, key=lambda name: (name != ALL, name))
    metric, rows = metric_of(one.reference for one in ours), []
    for subset in subsets:
        of_a, of_b = (_errors(side, subset) for side in (ours, theirs))
        words = np.array([errors.words for errors in of_a])
        if any(x.words != y.words for x, y in zip(of_a, of_b)):
            print(f"{split}: {subset}: left out, because the runs' vocabularies differ in these words", file=sys.stderr)
            continue
        there = words > 0 if subset != ALL else np.ones(len(words), bool)
        (errors_a, lengths), (errors_b, _) = (
            np.array([errors_and_length(errors, metric) for errors in of_one]).T for of_one in (of_a, of_b)
        )
        counts = errors_a[there], errors_b[there], lengths[there]
        if draw == SPEAKERS:
            counts = tuple(by_speaker(one, speakers[there]) for one in counts)
        found = paired_difference(*counts, samples)
        if found is None:
            continue
        whole_a, whole_b = total(of_a), total(of_b)
        rows.append(
            {
                "split": split,
                "subset": subset,
                "head": head,
                "decoder": decoder,
                "metric": metric,
                "wer_a": whole_a.wer,
                "wer_b": whole_b.wer,
                "cer_a": whole_a.cer,
                "cer_b": whole_b.cer,
                **found.record(),
                "utterances": int(there.sum()),
                **({SPEAKERS: len(counts[0])} if draw == SPEAKERS else {}),
                "words": whole_a.words,
                "normalizer": a.normalizer,
                "run_a": str(a.run.root),
                "step_a": a.step,
                "run_b": str(b.run.root),
                "step_b": b.step,
            }
        )
    return rows


def paired(key: Key, a: Side, b: Side) -> tuple[list[ScoredUtterance], list[ScoredUtterance]]:
    """Return the utterances of both sides in the same order; raises `UserError` where they are not the same ones."""
    sides = [sorted(side.utterances[key], key=lambda one: one.id) for side in (a, b)]
    ids = [Counter(one.id for one in utterances) for utterances in sides]
    runs = [str(a.run.root), str(b.run.root)]
    only = [ids[0] - ids[1], ids[1] - ids[0]]
    how = "evaluate both on the same with --data NAME=SOURCE"
    if only[0] or only[1]:
        parts = [f"{more.total()} only in {run} (as {min(more)})" for run, more in zip(runs, only) if more]
        raise UserError(f"{key[0]}: not the same utterances: {', '.join(parts)}; {how}")
    differing = [(x, y) for x, y in zip(*sides) if x.reference != y.reference]
    if differing:
        x, y = differing[0]
        raise UserError(
            f"{key[0]}: {len(differing)} of {len(sides[0])} references differ: of {x.id}, {runs[0]} has "
            f"{x.reference!r}, {runs[1]} {y.reference!r}; {how}"
        )
    heard = [x.id for x, y in zip(*sides) if x.samples != y.samples]
    if heard:
        raise UserError(
            f"{key[0]}: the audio of {len(heard)} of {len(sides[0])} utterances differs (as of {heard[0]}): {runs[0]} and "
            f"{runs[1]} were evaluated on other recordings; {how}"
        )
    return sides[0], sides[1]


def make_comparison_table(rows: Sequence[dict], a: str, b: str) -> Table:
    """Return the rows as a table for `rich.print`; rates in per cent, subsets below splits. a, b: names of systems."""
    shared = len({row["decoder"] for row in rows}) == 1
    metrics = {row["metric"].upper() for row in rows}
    said = [f"decoder {rows[0]['decoder']}"] * shared + [f"rate {min(metrics)}"] * (len(metrics) == 1)
    title = f"A: {a}\nB: {b}" + (f"\n{', '.join(said)}" if said else "")
    table = Table(
        title=escape(title),
        title_justify="left",
        caption="\n".join(about_few(rows)) or None,
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        padding=0,
    )
    for name in ("split", "head", *([] if shared else ["decoder"])):
        table.add_column(name, overflow="fold")
    for name in (*(["rate"] if len(metrics) > 1 else []), *DIFFERENCE_COLUMNS, "words"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(
            escape(row["split"] if row["subset"] == ALL else f"  {row['subset']}"),
            row["head"],
            *([] if shared else [escape(row["decoder"])]),
            *([row["metric"].upper()] if len(metrics) > 1 else []),
            *difference_cells(row),
            str(row["words"]),
        )
    return table


def _errors(utterances: Sequence[ScoredUtterance], subset: str) -> list[Errors]:
    """Return the errors [N] in a subset of the words; none where an utterance has no word of it."""
    return [one.errors.get(subset, Errors()) for one in utterances]
