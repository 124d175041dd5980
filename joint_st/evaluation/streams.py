"""Streaming as a user experiences it: how soon words appear, how often they change, and how much time it takes."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import rich
import tqdm
from rapidfuzz.distance import Levenshtein
from rich import box
from rich.table import Table

from joint_st.config import Source
from joint_st.data.audio import UnreadableAudio
from joint_st.data.dataset import Dataset, open_paired
from joint_st.data.word_times import not_compared, states_times, word_times
from joint_st.decoding.decoders import Greedy
from joint_st.decoding.forward import Clock
from joint_st.decoding.streaming import Heard, Streams, chunk_frames, pieces
from joint_st.distributed.mesh import keep_compiled
from joint_st.errors import UserError
from joint_st.evaluation.recognised import nothing_read, report_unread
from joint_st.evaluation.report import keep_all, raise_first, write_output_rows
from joint_st.evaluation.wer import ALL, Errors, count_errors, total
from joint_st.passes import FULL_CONTEXT, STREAMING
from joint_st.runs.trained import Trained, load_trained
from joint_st.tables import escape


@dataclasses.dataclass
class Streamed:
    """Measures of one streamed utterance."""

    errors: dict[str, Errors]
    """Errors by head."""
    delays: list[float]
    """Seconds from the true end of each correctly recognised word to the end of the chunk in which it was complete."""
    first: float | None
    """Seconds from the true start of the first word to the end of the chunk in which the first label was emitted."""
    shown: int
    """Number of words in the last partial hypothesis."""
    revised: int
    """Number of words of partial hypotheses that a later one changed, other than by continuing the last word."""
    changed: int
    """Number of words that the second pass changed."""
    not_timed: bool = False
    """Whether the source states times of words that cannot be matched with those of the text."""


def evaluate_streams(
    workdir: Path,
    *,
    data: Mapping[str, Source] | None = None,
    chunk_ms: float | None = None,
    look_ahead_ms: float | None = None,
    streams: int = 16,
    window_seconds: float | None = None,
    checkpoint: str = "best",
    json_file: Path | None = None,
) -> list[dict]:
    """Stream the utterances of named sources, the run's test splits by default, `streams` at a time in one batch.

    Writes the table where asked, prints it, and returns its rows. chunk_ms: see `chunk_frames`. look_ahead_ms: at
    most the longest that the run was trained with (None: the first). window_seconds: see `Streams`.
    """
    trained = load_trained(workdir, checkpoint).with_look_ahead(look_ahead_ms)
    config = trained.config
    keep_compiled(config.training.compilation_cache)
    splits = trained.splits(data)
    features = config.model.features
    frames = chunk_frames(chunk_ms, features, config.model.blocks[0])
    chunk_ms = features.frames_ms(frames)
    batch = Streams(trained, streams, frames, window_seconds)
    rows = []
    for name, source in splits.items():
        dataset = open_paired(
            [source], config.data, config.model.features, trained.normalizer, trained.tokenizer, training=False
        )
        batch.clock = Clock()
        streamed = list(
            tqdm.tqdm(
                stream_dataset(batch, trained, dataset, streams),
                name,
                len(dataset),
                unit="utterance",
                disable=None,
                leave=False,
            )
        )
        if not streamed:
            raise UserError(nothing_read(name, dataset))
        report_unread(name, dataset, len(dataset) - len(streamed))
        if count := sum(one.not_timed for one in streamed):
            print(f"joint-st: {name}: {not_compared(count, len(streamed))}", file=sys.stderr)
        factor = batch.clock.factor(Greedy.name, FULL_CONTEXT) or 0.0
        rows.append(make_row(name, streamed, batch, chunk_ms, streams, factor, trained))
    # Written first, so that nothing is lost with the terminal.
    problems = keep_all([(json_file, lambda path: write_output_rows(rows, path))] if json_file else [])
    chunks = f"{streams} streams in chunks of {chunk_ms:g} ms, look-ahead {batch.look_ahead_ms:g} ms"
    rich.print(make_streams_table(rows, f"{chunks}; greedy, normalizer {trained.normalizer}, step {trained.step}"))
    raise_first(problems)
    return rows


def stream_dataset(streams: Streams, trained: Trained, dataset: Dataset, count: int) -> Iterator[Streamed]:
    """Yield each utterance of a dataset, decoded as `count` parallel streams; when one ends, the next begins in its
    place."""
    waiting = readable(dataset)
    running: dict[int, tuple[int, Iterator[np.ndarray], list[str]]] = {}
    rate = dataset.features.sample_rate
    while True:
        for row in set(range(count)) - running.keys():
            n, audio = next(waiting, (None, None))
            if n is not None:
                running[row] = n, pieces(audio, streams.chunk_samples), []
        if not running:
            return
        turn = {row: next(audio) for row, (_, audio, _) in running.items()}
        for row, heard in streams.turn(turn).items():
            n, _, partials = running[row]
            partials.append(trained.tokenizer.decode(heard.labels))
            if streams.clock:
                streams.clock.audio += len(turn[row]) / rate
            if len(turn[row]) < streams.chunk_samples:
                streams.end(row)
                del running[row]
                final = trained.tokenizer.decode(streams.full_context(heard))
                known = ends_of_chunks(heard, streams, rate, len(partials))
                yield account(dataset, n, heard, partials, final, known, trained)


def readable(dataset: Dataset) -> Iterator[tuple[int, np.ndarray]]:
    """Yield the number and the audio of each utterance that can be read."""
    for n in range(len(dataset)):
        try:
            yield n, dataset.load(n).audio
        except UnreadableAudio as error:
            dataset.note_unreadable(n, error)


def ends_of_chunks(heard: Heard, streams: Streams, rate: int, chunks: int) -> np.ndarray:
    """Return the seconds of audio that had been fed when each label of a stream was known."""
    frames = streams.chunk_samples // streams.samples_per_frame
    chunk = np.array(heard.frames, int) // frames
    length = heard.length * streams.samples_per_frame / rate
    return np.minimum((np.minimum(chunk, chunks - 1) + 1) * streams.chunk_samples / rate, length)


def account(dataset, n: int, heard: Heard, partials: Sequence[str], final: str, known, trained) -> Streamed:
    """Return the measures of one utterance, from its partial hypotheses and that of the second pass."""
    reference = dataset.text(n)
    streaming, full = dataset.normalizer(partials[-1]), dataset.normalizer(final)
    errors = {head: count_errors(reference, text)[ALL] for head, text in ((STREAMING, streaming), (FULL_CONTEXT, full))}
    utterance = dataset.utterance(n)
    times = word_times(utterance, reference, dataset.normalizer)
    delays, first = [], None
    if times is not None:
        starts, ends = times
        whole = known[last_labels(heard.labels, trained.tokenizer.decode)] if heard.labels else np.zeros(0)
        first = float(known[0] - starts[0]) if heard.labels else None
        words = streaming.split()
        if len(words) == len(whole):  # the normaliser kept the number of words
            for tag, a, b, i, j in Levenshtein.opcodes(reference.split(), words).as_list():
                if tag == "equal":
                    late = whole[i:j] - ends[a:b]
                    delays += late[~np.isnan(late)].tolist()
    return Streamed(
        errors,
        delays,
        first,
        len(streaming.split()),
        revisions(partials),
        Levenshtein.distance(streaming.split(), full.split()),
        times is None and states_times(utterance),
    )


def last_labels(labels: Sequence[int], decode) -> list[int]:
    """Return the index of the label with which each word of a hypothesis is complete."""
    words = decode(list(labels)).split()
    found = []
    for k in range(len(labels)):
        so_far = decode(list(labels[: k + 1])).split()
        while len(found) < len(words) and so_far[: len(found) + 1] == words[: len(found) + 1]:
            found.append(k)
    return found


def revisions(partials: Sequence[str]) -> int:
    """Return the number of words in a partial hypothesis that the next one lacks, except for a last word that
    continues."""
    count = 0
    for before, after in zip(map(str.split, partials), map(str.split, partials[1:])):
        for place, word in enumerate(before):
            now = after[place] if place < len(after) else ""
            goes_on = place == len(before) - 1 and now.startswith(word)
            count += not (now == word or goes_on)
    return count


def make_row(split, streamed: Sequence[Streamed], streams, chunk_ms, count, factor, trained) -> dict:
    """Return a row of the table. Times are in ms, shares fractions; None where the source states no times of words."""
    delays = 1000 * np.array([delay for one in streamed for delay in one.delays])
    firsts = 1000 * np.array([one.first for one in streamed if one.first is not None])
    shown = max(sum(one.shown for one in streamed), 1)
    return {
        "split": split,
        "utterances": len(streamed),
        "streams": count,
        "chunk_ms": chunk_ms,
        "look_ahead_ms": streams.look_ahead_ms,
        "real_time_factor": factor,
        "first_ms": float(firsts.mean()) if len(firsts) else None,
        "word_ms": float(delays.mean()) if len(delays) else None,
        "word_ms_95": float(np.quantile(delays, 0.95)) if len(delays) else None,
        "flicker": sum(one.revised for one in streamed) / shown,
        "changed_by_second_pass": sum(one.changed for one in streamed) / shown,
        "wer_streaming": total(one.errors[STREAMING] for one in streamed).wer,
        "wer_full_context": total(one.errors[FULL_CONTEXT] for one in streamed).wer,
        "normalizer": str(trained.normalizer),
        "step": trained.step,
    }


def make_streams_table(rows: Sequence[dict], title: str) -> Table:
    """Return the rows as a table for `rich.print`."""
    table = Table(title=escape(title), title_justify="left", box=box.SIMPLE_HEAD, padding=0)
    table.add_column("split", overflow="fold")
    for name in ("utts", "RTF", "first ms", "word ms", "95 %", "flicker %", "changed %", "WER %", "2nd pass"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        shares = ("flicker", "changed_by_second_pass", "wer_streaming", "wer_full_context")
        table.add_row(
            escape(row["split"]),
            str(row["utterances"]),
            f"{row['real_time_factor']:.3f}",
            *("-" if row[name] is None else f"{row[name]:.0f}" for name in ("first_ms", "word_ms", "word_ms_95")),
            *("-" if row[name] is None else f"{100 * row[name]:.1f}" for name in shares),
        )
    return table
