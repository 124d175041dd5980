"""`joint-st align`: finds when each word of a known text is spoken, writes it to a file, and measures how good these
times are."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import rich

from joint_st import interrupts, storage
from joint_st.config import Source
from joint_st.data.audio import audio_channels, tell_averaged
from joint_st.data.index import Indexes, name_most_frequent
from joint_st.data.word_times import not_compared
from joint_st.distributed.mesh import keep_compiled
from joint_st.errors import UserError
from joint_st.passes import FULL_CONTEXT
from joint_st.runs.trained import Trained, load_trained
from joint_st.word_times.aligner import Aligner
from joint_st.word_times.boundaries import make_rows, make_times_table
from joint_st.word_times.by_text import EmbeddingAligner
from joint_st.word_times.spans import Aligned, Failed
from joint_st.word_times.text import OnePair
from joint_st.word_times.writers import Destination


def aligners(trained: Trained, head: str, ways: Sequence[int | None]) -> list[Aligner]:
    """Return an aligner for each way: None aligns by the labels of a head, a number by the text's embeddings in that
    shared layer."""
    return [Aligner(trained, head) if layer is None else EmbeddingAligner(trained, layer) for layer in ways]


def align_file(
    workdir: Path,
    audio: Path,
    text: str,
    *,
    language: str = "",
    head: str = FULL_CONTEXT,
    ways: Sequence[int | None] = (None,),
    checkpoint: str = "best",
    form: str = "json",
    output: Path | None = None,
) -> Aligned:
    """Align an audio file with its text by the run in `workdir`, and write it to `output` or standard output.

    language: BCP 47 tag of the text, for its phonemes; by default the run's own (`data.units.language`), which is told
    where the run knows others. Only the first of `ways` is taken (see `aligners`). Raises `UserError` where the audio
    cannot be aligned.
    """
    destination = Destination(form, output)
    destination.prepare()
    trained = load_trained(workdir, checkpoint)
    keep_compiled(trained.config.training.compilation_cache)
    aligner = aligners(trained, head, ways)[0]
    if language and not aligner.language:
        raise UserError(f"--language {language}: no phonemes are aligned; leave it out")
    others = [tag for tag in trained.symbols.languages if tag.lower() not in ("", aligner.language.lower())]
    if others and aligner.language and not language:
        known = ", ".join(others)
        print(f"joint-st: phonemes of {aligner.language}; the run also knows {known} (--language TAG)", file=sys.stderr)
    [result] = aligner(OnePair(audio, text, language), audio.name)
    if isinstance(result, Failed):
        raise UserError(result.why if str(audio) in result.why else f"{audio}: {result.why}")
    _tell_unknown(aligner)
    tell_averaged(audio_channels(audio) > 1)
    if problem := destination.write([result]):
        raise UserError(problem)
    return result


def _tell_unknown(aligner: Aligner) -> None:
    if aligner.unknown_units:
        named = name_most_frequent(aligner.unknown_units.most_common())
        print(f"joint-st: not among the run's units, <unk> in the alignment: {named}", file=sys.stderr)


def align_split(
    workdir: Path,
    split: str,
    source: Source,
    *,
    head: str = FULL_CONTEXT,
    ways: Sequence[int | None] = (None,),
    checkpoint: str = "best",
    form: str = "json",
    output: Path | None = None,
    json_file: Path | None = None,
) -> tuple[list[dict], int]:
    """Align the utterances of a source by the run in `workdir`, and write them to `output` or standard output.

    ways: see `aligners`; the table compares them, and only what the first one finds is written. json_file: where to write
    the rows of the table. Prints a line for each utterance that cannot be aligned, and the table, with the errors of
    word boundaries where the source has true times. Returns the rows of the table and the number of utterances that were
    not aligned. At SIGINT and SIGTERM, what was found so far is written and its table printed.

    Raises `UserError` before it aligns anything where two utterances would be written to the same file or `output` cannot
    be written, and at the end where it could not be written after all; what was found then lies in the folder for
    temporary files.
    """
    destination = Destination(form, output, split)
    destination.prepare()
    if json_file:
        Destination("json", json_file).prepare()
    trained = load_trained(workdir, checkpoint)
    keep_compiled(trained.config.training.compilation_cache)
    corpus = Indexes(trained.config.data.index_cache, trained.normalizer).entries(source)
    if not len(corpus):
        raise UserError(f"{corpus.name}: has no utterances; correct the source")
    destination.check(corpus.entry(i).id for i in range(len(corpus)))
    title = f"forced alignment, normalizer {trained.normalizer}, step {trained.step}"
    compared = aligners(trained, head, ways)
    found: list[dict[int, Aligned | Failed]] = [{} for _ in compared]
    with interrupts.sigterm_exits():
        try:
            for aligner, results in zip(compared, found):
                aligner.align(corpus, results, split)
        finally:
            # What was found so far is not lost if something ends the command.
            in_order = [[results[i] for i in sorted(results)] for results in found]
            _tell_unknown(max(compared, key=lambda one: one.unknown_units.total()))
            rows, failed = _report(split, in_order, len(corpus), destination, title, json_file)
    return rows, failed


def _report(
    split: str,
    found: Sequence[Sequence[Aligned | Failed]],
    count: int,
    destination: Destination,
    title: str,
    json_file: Path | None,
) -> tuple[list[dict], int]:
    """Write what the first way has found of `count` utterances, and print what went wrong and the table; see
    `align_split`."""
    first = found[0]
    failed = [result for result in first if isinstance(result, Failed)]
    for one in failed:
        print(f"joint-st: not aligned: {one.id}: {one.why}", file=sys.stderr)
    aligned = [result for result in first if isinstance(result, Aligned)]
    if len(first) < count:
        print(f"joint-st: {split}: {len(aligned)} of {count} utterances were aligned until then", file=sys.stderr)
    if unmatched := sum(one.states_times and one.true is None for one in aligned):
        print(f"joint-st: {split}: {not_compared(unmatched, len(aligned))}", file=sys.stderr)
    # Where nothing was found before an interrupt, a file of that name is left as it was.
    problems = [destination.write(aligned)] if aligned or len(first) == count else []
    rows = [row for some in found for row in make_rows(split, some)]
    if json_file:
        text = json.dumps(rows, indent=2, ensure_ascii=False) + "\n"
        problems.append(storage.keep(lambda path: storage.write_output(path, text), json_file))
    rich.print(make_times_table(rows, title), file=sys.stderr if destination.is_stdout else None)
    if any(problems):
        raise UserError("; ".join(filter(None, problems)))
    return rows, len(failed)
