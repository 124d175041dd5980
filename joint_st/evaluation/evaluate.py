"""Word error rates of a run's checkpoints."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path

import jax
import rich

from joint_st import storage
from joint_st.config import Config, Source, load
from joint_st.data.dataset import Dataset, open_paired
from joint_st.decoding.decoders import Decoder, Greedy, fingerprint, fuse, without_origin
from joint_st.decoding.forward import Clock, Forward
from joint_st.decoding.fusion.build import FusionFiles
from joint_st.decoding.long import LongRecordings
from joint_st.decoding.recognise import common_buckets, recognise
from joint_st.decoding.timed import timed
from joint_st.distributed.mesh import keep_compiled
from joint_st.distributed.peers import current
from joint_st.distributed.preflight import check_config, check_data
from joint_st.errors import UserError
from joint_st.evaluation.bootstrap import UTTERANCES
from joint_st.evaluation.breakdown import break_down, explain_unstated, make_breakdown_table
from joint_st.evaluation.confidences import (
    Confidences,
    judge_confidences,
    make_confidence_table,
    spell_heard,
)
from joint_st.evaluation.origin import SUFFIX, Origin
from joint_st.evaluation.rates import make_rows
from joint_st.evaluation.recognised import nothing_read, report_unread, score_recognised
from joint_st.evaluation.report import (
    ScoredUtterance,
    keep_all,
    make_lines,
    make_table,
    raise_first,
    write_output_rows,
    write_rows,
)
from joint_st.evaluation.stored import gather_hashes, origin_of
from joint_st.evaluation.tuning import development_sets, tuned
from joint_st.evaluation.word_errors import make_word_error_tables, word_errors
from joint_st.passes import PASSES
from joint_st.runs.directory import RunDirectory, existing_run
from joint_st.runs.temperatures import store_temperatures
from joint_st.runs.trained import load_trained
from joint_st.word_times.transcripts import Words


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """The hypotheses of a run's checkpoint for every utterance of some splits, and their errors."""

    run: RunDirectory
    step: int
    normalizer: str
    """Name and version of the text normaliser."""
    config: Config
    utterances: list[ScoredUtterance]
    clocks: dict[str, Clock]
    """Time of decoding, by split."""
    unread: list[str]
    """Splits in which nothing could be read, each with the reason."""
    table: Path
    """File of the rows; next to it are the utterances, as `.jsonl`, the word errors, as `.errors.json`, the origin of
    the results, as `.origin.json`, and the quality of confidences, as `.confidence.json` and `.reliability.png`."""
    origin: Origin
    confidences: Confidences | None = None
    """How good the confidences of words are; None where there are none."""

    @cached_property
    def rows(self) -> list[dict]:
        """Return the rows that are stored: `rows_of` with utterances drawn."""
        return self.rows_of(UTTERANCES)

    def rows_of(self, draw: str) -> list[dict]:
        """Return the rows of `make_rows`, with the look-ahead where the run has any."""
        rows = make_rows(self.utterances, clocks=self.clocks, draw=draw, **self._intervals)
        lengths = self.config.model.look_ahead_ms
        return [row | {"look_ahead_ms": lengths[0]} for row in rows] if any(lengths) else rows

    def broken_down(self, by: str, draw: str = UTTERANCES) -> list[dict]:
        """Return the rows of `break_down`."""
        return break_down(self.utterances, by, draw=draw, **self._intervals)

    @cached_property
    def word_errors(self) -> dict[str, list[dict]]:
        """Return the word errors; see `joint_st.evaluation.word_errors`."""
        return word_errors(self.utterances)

    def write(self) -> None:
        """Store the rows, the utterances and the word errors in the run's directory; see `keep_all`."""
        raise_first(keep_all(self.files()))

    def files(self) -> Iterator[tuple[Path, Callable[[Path], None]]]:
        """Yield what is stored in the run's directory: each file, and what writes or removes it."""
        for suffix in (".breakdowns.json", ".confidence.json", ".reliability.png"):
            # What an earlier evaluation was asked for, and this one is not, would be of other results.
            yield self.table.with_suffix(suffix), storage.remove_file
        yield self.table, lambda path: write_rows(self.rows, path)
        lines = make_lines(one.record() for one in self.utterances)
        yield self.table.with_suffix(".jsonl"), lambda path: storage.write_whole(path, lines)
        yield self.table.with_suffix(".errors.json"), lambda path: write_rows(self.word_errors, path)
        yield self.table.with_suffix(SUFFIX), lambda path: storage.write_whole(path, self.origin.content(lines))
        if not self.confidences:
            return
        # Imported here, because they import Matplotlib, which training does not need.
        from joint_st.evaluation.reliability import reliability_figure
        from joint_st.figures import save_figure

        yield self.run.calibration, lambda path: store_temperatures(self.run, self.confidences.fitted, path)
        yield self.table.with_suffix(".confidence.json"), lambda path: write_rows(self.confidences.rows, path)
        figure = reliability_figure(self.confidences.bins)
        yield self.table.with_suffix(".reliability.png"), lambda path: save_figure(figure, path)

    @property
    def name(self) -> str:
        """Name in titles."""
        return f"confidences of words: {self.run.root}, step {self.step}"

    @property
    def _intervals(self) -> dict:
        return {
            "normalizer": self.normalizer,
            "step": self.step,
            "samples": self.config.evaluation.bootstrap_samples,
            "seed": self.config.seed,
        }


def evaluate_run(workdir: Path, *, checkpoint: str = "best", **options) -> list[dict]:
    """Evaluate one checkpoint of the run in `workdir`; see `evaluate_runs`."""
    return evaluate_runs([workdir], checkpoints=[checkpoint], **options)


def evaluate_runs(
    workdirs: Sequence[Path],
    *,
    checkpoints: Sequence[str] = ("best",),
    data: Mapping[str, Source] | None = None,
    passes: Sequence[str] = PASSES,
    decoders: Sequence[Decoder] = (Greedy(),),
    by: Sequence[str] = (),
    draw: str = UTTERANCES,
    errors: bool = False,
    fusion: FusionFiles | None = None,
    tune: Mapping[str, Source] | None = None,
    nbest: int = 0,
    calibrate: Mapping[str, Source] | None = None,
    window_seconds: float | None = None,
    look_ahead_ms: float | None = None,
    json_file: Path | None = None,
    jsonl_file: Path | None = None,
) -> list[dict]:
    """Evaluate runs on named sources, each on its own test splits by default; print one table and return its rows.

    The rows of several runs begin with `run`, their directory. by: names in `joint_st.evaluation.breakdown.BY`, for
    further tables to print. draw: what is resampled for the tables printed and for `json_file`, `utterances` or all of
    each of the `speakers`. errors: whether to print confusions and the most-missed words. The table, each utterance's
    hypotheses, the word errors and the breakdowns are also written into each run's `evaluations`, the first two also
    where asked. Everything but the audio comes from the runs' directories. Where there are several processes, all
    compute, and process 0 writes and prints.

    fusion: a language model and hot words for the beam search. tune: find their weights on these sources (if empty, on
    the config's dev set) in a single process; None keeps the given weights. window_seconds: longer recordings are
    decoded in windows of that length; None leaves it to each run. look_ahead_ms: look-ahead of the streaming layers, at
    most the longest that the runs were trained with; None uses the first of each run.

    nbest: with 1 or more, words have times and confidences, which get their own table, and that many hypotheses are
    kept (greedy decoding has one). calibrate: find the temperature of the confidences for each checkpoint, head and
    decoder on one half of these sources (if empty, of the config's dev set), and store it in the run; None uses the
    run's temperatures.
    """
    workdirs = list(dict.fromkeys(workdirs))
    found, problems = [], []
    for workdir in workdirs:
        for evaluation in evaluate_checkpoints(
            workdir, checkpoints, data, passes, decoders, fusion, tune, window_seconds, nbest, calibrate, look_ahead_ms
        ):
            found.append(evaluation)
            # Written at once, so that nothing later loses it.
            if current().is_first and evaluation.utterances:
                problems += keep_all(evaluation.files())

    def named(evaluation: Evaluation, rows: Iterable[dict]) -> list[dict]:
        return [({"run": str(evaluation.run.root)} if len(workdirs) > 1 else {}) | row for row in rows]

    drawn = [one.rows if draw == UTTERANCES else one.rows_of(draw) for one in found]
    rows = [row for evaluation, own in zip(found, drawn) for row in named(evaluation, own)]
    unread = list(dict.fromkeys(line for evaluation in found for line in evaluation.unread))
    if not rows:
        raise UserError("; ".join(unread))
    if not current().is_first:
        return rows
    broken_down = {evaluation.table: {name: evaluation.broken_down(name) for name in by} for evaluation in found}
    problems = keep_all(_files(found, rows, broken_down if by else {}, json_file, jsonl_file)) + problems
    rich.print(make_table(rows))
    for name in by:
        table = [row for one in found for row in named(one, one.broken_down(name, draw))]
        if table:
            rich.print(make_breakdown_table(table, name))
        for line in dict.fromkeys(
            line for evaluation in found for line in explain_unstated(evaluation.utterances, name)
        ):
            print(line, file=sys.stderr)
    if errors:
        for evaluation in found:
            if len(found) > 1:
                print(f"{evaluation.run.root}, step {evaluation.step}")
            for table in make_word_error_tables(evaluation.word_errors):
                rich.print(table)
    for evaluation in found:
        if evaluation.confidences and evaluation.confidences.rows:
            rich.print(make_confidence_table(evaluation.confidences.rows, evaluation.name))
    raise_first(problems)
    if unread:
        raise UserError("; ".join(unread))
    return rows


def _files(
    found: Sequence[Evaluation],
    rows: Sequence[dict],
    broken_down: Mapping[Path, dict],
    json_file: Path | None,
    jsonl_file: Path | None,
) -> Iterator[tuple[Path, Callable[[Path], None]]]:
    """Yield the files asked for, and the breakdowns: each, and what writes it."""

    def records() -> Iterator[dict]:
        for evaluation in found:
            which = {"run": str(evaluation.run.root), "step": evaluation.step} if len(found) > 1 else {}
            yield from (which | one.record() for one in evaluation.utterances)

    if json_file:
        yield json_file, lambda path: write_output_rows(rows, path)
    if jsonl_file:
        yield jsonl_file, lambda path: storage.write_output(path, make_lines(records()))
    for evaluation in found:
        if evaluation.utterances and (own := broken_down.get(evaluation.table)):
            file = evaluation.table.with_suffix(".breakdowns.json")
            yield file, lambda path, own=own: write_rows(own, path)


def evaluate_checkpoints(
    workdir: Path,
    checkpoints: Sequence[str],
    data: Mapping[str, Source] | None = None,
    passes: Sequence[str] = PASSES,
    decoders: Sequence[Decoder] = (Greedy(),),
    fusion: FusionFiles | None = None,
    tune: Mapping[str, Source] | None = None,
    window_seconds: float | None = None,
    nbest: int = 0,
    calibrate: Mapping[str, Source] | None = None,
    look_ahead_ms: float | None = None,
) -> Iterator[Evaluation]:
    """Yield the evaluations of checkpoints of the run in `workdir`, each step once; only the first one compiles.

    Nothing is written. Longer recordings are decoded in windows of `window_seconds`, or of the run's own length where it is
    None. nbest, calibrate, look_ahead_ms: see `evaluate_runs`.
    """
    peers = current()
    if peers.several:
        if tune is not None:
            raise UserError("--tune: works in a single process only; tune there, then pass the weights that it prints")
        check_config(peers, load(existing_run(workdir).config))
    if tune is not None and len(set(checkpoints)) > 1:
        raise UserError("--tune: takes one --checkpoint at a time, since each needs weights of its own")
    trained = load_trained(workdir, checkpoints[0]).with_look_ahead(look_ahead_ms)
    config = trained.config
    keep_compiled(config.training.compilation_cache)
    splits = trained.splits(data)
    # Read first, so that an unreadable file is reported before a corpus is built.
    fused = fusion.open(trained.tokenizer, trained.normalizer) if fusion else None
    with peers.process_zero_first("prepare the splits"):
        datasets = {
            name: open_paired(
                [source], config.data, config.model.features, trained.normalizer, trained.tokenizer, training=False
            )
            for name, source in splits.items()
        }
    check_data(peers, "".join(dataset.fingerprint for dataset in datasets.values()), ", ".join(datasets))
    if fused:
        if tune is not None:
            fused = tuned(fused, decoders, trained, tune, datasets, passes, window_seconds)
        decoders = fuse(decoders, fused)
    spell, plain = None, decoders
    if nbest or calibrate is not None:
        decode, normalize = trained.tokenizer.decode, trained.normalizer
        decoders = timed(decoders, nbest or 1, lambda labels: normalize(decode(labels)))
        spell = spell_heard(Words(trained.symbols, config.model.features.frame_seconds))
    judging = {} if calibrate is None else development_sets(trained, calibrate, datasets, "--calibrate")
    model = (config, trained.symbols.sizes, trained.mesh, decoders, passes)
    forward = Forward(*model)
    long = LongRecordings(*model, window_seconds=window_seconds or config.window_seconds)
    buckets = common_buckets(config, [*datasets.values(), *judging.values()], long.longest)
    done = set()
    for checkpoint in checkpoints:
        if done:
            trained = load_trained(workdir, checkpoint).with_look_ahead(look_ahead_ms)
        if trained.step in done:
            continue
        done.add(trained.step)
        unread, clocks = [], {name: Clock() for name in datasets}
        how = (splits, plain, long.seconds, trained.look_ahead_ms)
        origin = origin_of(trained.run, trained.step, str(trained.normalizer), *how)

        def hear(sets: Mapping[str, Dataset], clocks: Mapping[str, Clock], trained=trained, unread=unread) -> list:
            scored = []
            for name, dataset in sets.items():
                dataset.hashes = {}
                found = list(
                    recognise(
                        forward,
                        trained.weights,
                        dataset,
                        buckets,
                        trained.mesh,
                        config,
                        decoders=decoders,
                        passes=passes,
                        long=long,
                        clock=clocks.get(name),
                        name=name,
                        spell=spell,
                    )
                )
                gather_hashes(dataset)
                if not found:
                    unread.append(nothing_read(name, dataset))
                scored += score_recognised(found, dataset, name, trained)
                if len(done) == 1 and peers.is_first:
                    report_unread(name, dataset, len(dataset) - len(found))
            return scored

        with jax.set_mesh(trained.mesh):
            scored, judged = hear(datasets, clocks), hear(judging, {})
        confidences = None
        if spell:
            scored, confidences = judge_confidences(
                trained.run,
                scored,
                judged,
                {one.name: fingerprint(without_origin(one), trained.other_look_ahead_ms) for one in plain},
                trained.step,
                config.evaluation.bootstrap_samples,
                config.seed,
            )
        names = [decoder.name for decoder in decoders]
        some = [] if set(passes) == set(PASSES) else passes
        window = None if long.seconds == config.window_seconds else long.seconds
        table = trained.run.evaluation(trained.step, splits, names, some, trained.other_look_ahead_ms, window)
        name = str(trained.normalizer)
        yield Evaluation(trained.run, trained.step, name, config, scored, clocks, unread, table, origin, confidences)
