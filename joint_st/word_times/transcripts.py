"""Transcripts of audio, word by word, with times, confidences and alternatives."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from joint_st import interrupts, storage
from joint_st.data.symbols import Symbols
from joint_st.data.text_units.units import Spelling
from joint_st.decoding.decoders import Beam, Greedy, fingerprint, fuse, without_origin
from joint_st.decoding.fusion.build import FusionFiles
from joint_st.decoding.inputs import AudioFiles
from joint_st.decoding.timed import Timed, TimedLabels
from joint_st.decoding.transcribe import decode_files, listen
from joint_st.errors import UserError
from joint_st.passes import FULL_CONTEXT
from joint_st.runs.temperatures import Temperature, read_temperatures
from joint_st.runs.trained import Trained, load_trained
from joint_st.word_times.confidence import tempered, word_confidence
from joint_st.word_times.spans import Frames, Span, divided, word_spans
from joint_st.word_times.writers import Destination


@dataclass(frozen=True)
class Transcript:
    """The transcript of a file."""

    id: str
    audio: str
    """Path of the file, as it was given."""
    seconds: float
    """Length of the audio in seconds."""
    text: str
    head: str
    """`full_context` or `streaming`."""
    decoder: str
    language: str
    """BCP 47 tag without its region, if all training data of the run are in one language; empty otherwise."""
    words: tuple[Span, ...]
    """Every word of `text`, in order; in scripts without spaces, every character (`joint_st.data.scripts.tokens_of`)."""
    alternatives: tuple[tuple[str, float], ...]
    """The likeliest texts with their scores, the best first; see `joint_st.decoding.timed.Alternative`."""
    temperature: float | None
    """Temperature of the confidences; None where they are not calibrated."""
    units: None = None
    channel: int = 1

    @property
    def written(self) -> tuple[Span, ...]:
        return self.words

    def record(self) -> dict:
        """Return `id`, `audio_filepath`, `duration` (seconds), `text` and `language`, as in a manifest; `head`,
        `decoder`, `temperature`; `words`, each with `start` and `end` in seconds and a `confidence`; and `nbest`, each
        a `text` with its `score`."""
        return {
            "id": self.id,
            "audio_filepath": self.audio,
            "duration": round(self.seconds, 6),
            "text": self.text,
            "language": self.language,
            "head": self.head,
            "decoder": self.decoder,
            "temperature": self.temperature,
            "words": [{"word": span.text, **span.record()} for span in self.words],
            "nbest": [{"text": text, "score": round(score, 4)} for text, score in self.alternatives],
        }


class Words:
    """Turns the labels of a decoder into words (in scripts without spaces: characters) with times and confidences, and into texts."""

    def __init__(self, symbols: Symbols, frame_seconds: float):
        self._spelling = Spelling(symbols.labels)
        self._frame_s = frame_seconds

    def text(self, found: TimedLabels) -> str:
        """Return the text of the best hypothesis."""
        return self._spelling.tokenizer.decode(found.labels)

    def spans(self, found: TimedLabels, seconds: float, temperature: float = 1.0) -> tuple[Span, ...]:
        """Return the words of the best hypothesis in audio of so many seconds."""
        tokens, label, token = self._spelling.label_tokens(found.labels.tolist())
        frames = divided(Frames(found.starts, found.ends, found.peaks), label)
        spans = word_spans(tokens, token, frames, self._frame_s, seconds, word_confidence)
        return tuple(span._replace(confidence=float(tempered(span.confidence, temperature))) for span in spans)

    def alternatives(self, found: TimedLabels) -> tuple[tuple[str, float], ...]:
        """Return the texts of all hypotheses with their scores; a text that several hypotheses spell has the best of
        their scores."""
        texts: dict[str, float] = {}
        for one in found.alternatives:
            texts.setdefault(self._spelling.tokenizer.decode(one.labels), one.score)
        return tuple(texts.items())


def transcribe_to(
    workdir: Path,
    files: AudioFiles,
    *,
    head: str = FULL_CONTEXT,
    decoder: Greedy | Beam = Greedy(),
    fusion: FusionFiles | None = None,
    window_seconds: float | None = None,
    look_ahead_ms: float | None = None,
    checkpoint: str = "best",
    best: int = 1,
    form: str = "json",
    output: Path | None = None,
) -> None:
    """Write the transcript of each file that can be read to `output` or standard output, in one of the formats of
    `joint_st.word_times.writers`.

    best: number of hypotheses to list, at most as many as a beam keeps. See
    `joint_st.decoding.transcribe.transcribe_files` for the other arguments. Prints on stderr whether confidences are
    calibrated. At SIGINT and SIGTERM, the transcripts so far are written. Raises `UserError` at once where `output`
    cannot be written.
    """
    destination = Destination(form, output, None if len(files.paths) == 1 else "transcripts")
    destination.prepare()
    trained = load_trained(workdir, checkpoint).with_look_ahead(look_ahead_ms)
    if fusion:
        (decoder,) = fuse([decoder], fusion.open(trained.tokenizer, trained.normalizer))
    temperature = find_temperature(trained, head, decoder)
    words = Words(trained.symbols, trained.config.model.features.frame_seconds)
    ids, kept = ids_of(files.paths), []
    destination.check(ids[path] for path in files.paths)
    timed = Timed(decoder, best, trained.tokenizer.decode)
    found = decode_files(trained, files, head=head, decoder=timed, window_seconds=window_seconds)
    complete = False
    with interrupts.sigterm_exits():
        try:
            for path, seconds, labels in found:
                one = transcript(words, labels, trained, path, ids[path], seconds, head, decoder.name, temperature)
                if destination.is_stdout:
                    destination.write([one])
                    sys.stdout.flush()
                else:
                    kept.append(one)
            complete = True
        finally:
            # The transcripts so far are not lost if something ends the command.
            if kept and not complete:
                print(f"joint-st: {len(kept)} of {len(files.paths)} files were transcribed until then", file=sys.stderr)
            if kept and (problem := destination.write(kept)):
                raise UserError(problem)


def transcript(
    words: Words,
    found: TimedLabels,
    trained: Trained,
    path: Path | str,
    id: str,
    seconds: float,
    head: str,
    decoder: str,
    temperature: Temperature | None,
) -> Transcript:
    """Return the result for a file as a transcript."""
    degrees = temperature.temperature if temperature else None
    languages = {tag.partition("-")[0] for tag in trained.symbols.languages if tag}
    return Transcript(
        id=id,
        audio=storage.printable(path),
        seconds=seconds,
        text=words.text(found),
        head=head,
        decoder=decoder,
        language=languages.pop() if len(languages) == 1 else "",
        words=words.spans(found, seconds, degrees or 1.0),
        alternatives=words.alternatives(found),
        temperature=degrees,
    )


def ids_of(files: Sequence[Path]) -> dict[Path, str]:
    """Return the name of each file without its ending, or its whole path if several files have the same name."""
    stems = Counter(file.stem for file in dict.fromkeys(files))
    return {file: storage.printable(file.stem if stems[file.stem] == 1 else file) for file in files}


def find_temperature(trained: Trained, head: str, decoder: Greedy | Beam) -> Temperature | None:
    """Return the temperature of a run's checkpoint for a head and a decoder; None where none was fitted.

    Prints on stderr whether confidences are calibrated, and how.
    """
    temperature = read_temperatures(trained.run).get(
        (trained.step, head, fingerprint(without_origin(decoder), trained.other_look_ahead_ms))
    )
    what = f"{head}, {decoder.name}, step {trained.step}"
    if temperature:
        how = f"temperature {temperature.temperature:.3g} of {what}, fitted on {temperature.fitted_on}"
    else:
        how = f"not calibrated for {what}; `joint-st evaluate {trained.run.root} --calibrate` does that"
    print(f"confidences: {how}", file=sys.stderr)
    return temperature


def listen_to(
    workdir: Path,
    source: Path | BinaryIO,
    *,
    checkpoint: str = "best",
    look_ahead_ms: float | None = None,
    **options,
) -> Iterator[str]:
    """Yield a line of JSON for each new hypothesis of a stream; see `joint_st.decoding.transcribe.listen`.

    While audio comes, a line has `seconds` (of audio until then), `head` and `text`. The last one, of the second
    pass, is the `record` of a transcript: only then are words, their times and confidences final.
    """
    trained = load_trained(workdir, checkpoint).with_look_ahead(look_ahead_ms)
    decoder = Timed(Greedy())
    temperature = find_temperature(trained, FULL_CONTEXT, decoder.decoder)
    words = Words(trained.symbols, trained.config.model.features.frame_seconds)
    path = source if isinstance(source, Path) else Path("-")
    for said in listen(workdir, source, trained=trained, second_pass=decoder, **options):
        record = {"seconds": round(said.seconds, 6), "head": said.head, "text": said.text}
        if said.found is not None:
            own = transcript(
                words, said.found, trained, path, path.stem, said.seconds, said.head, decoder.name, temperature
            )
            record = own.record()
        yield json.dumps(record, ensure_ascii=False)
