"""Results of an evaluation: scored utterances, tables of the rows made from them (`rates`), and the files of both."""

from __future__ import annotations

import json
import re
import string
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated

import pydantic
from rich import box
from rich.table import Table

from joint_st import storage
from joint_st.data.scripts import tokens_of
from joint_st.data.utterance import Entry
from joint_st.errors import UserError
from joint_st.evaluation.bootstrap import A_LOWER, B_LOWER, FEWEST, SPEAKERS, UNDECIDED, UTTERANCES
from joint_st.evaluation.wer import ALL, EQUAL, Errors, Op, align_words, count_errors
from joint_st.json_files import parse_json
from joint_st.tables import escape

Key = tuple[str, str, str]
"""Split, head and decoder."""


Numbered = tuple[str, int]
"""An id and the number of its earlier occurrences, since old evaluations may have several utterances with one id."""


def numbered(ids: Iterable[str]) -> list[Numbered]:
    """Return each id with the number of its earlier occurrences, so that all are different."""
    seen: dict[str, int] = defaultdict(int)
    found = []
    for id in ids:
        found.append((id, seen[id]))
        seen[id] += 1
    return found


def without_tuned_weights(decoder: str) -> str:
    """Return the name of a decoder without the weights in it, where these were tuned on a dev set: `beam 16, word 3-gram
    lm.arpa, tuned on dev`. Two runs whose decoders differ in such weights alone were evaluated alike."""
    return re.sub(r"( weight \S+)? bonus [^\s,]+", "", decoder) if ", tuned on " in decoder else decoder


STATED = ("speaker", "language", "noise", "snr", "synthetic")
"""Fields of an `Entry` that a scored utterance keeps."""


@dataclass(frozen=True)
class ScoredUtterance:
    """A hypothesis and its reference, both normalised, and its errors."""

    id: str
    split: str
    head: str
    """Head, `streaming` or `full_context`."""
    decoder: str
    """Name of the decoder, such as `greedy` or `beam 16`."""
    seconds: float
    """Length of the audio in seconds."""
    reference: str
    hypothesis: str
    errors: dict[str, Errors]
    """Errors by subset of the reference words; `all` is always there, others where they have a word."""
    speaker: str = ""
    """Name of the speaker; empty where the source does not state it."""
    language: str = ""
    noise: str = ""
    snr: float | None = None
    """Signal-to-noise ratio in dB; None where its source does not state it."""
    synthetic: bool = False
    """Whether its source states that a machine speaks."""
    samples: str = ""
    """Hash of the audio's samples, of `Utterance.hash`; empty where it is not known."""
    hypothesis_words: list[dict] | None = None
    """Words of the hypothesis (in scripts without spaces: characters): `word`, `start`, `end` (seconds), `confidence`, and whether it is `correct`; None where
    the evaluation has none, [] where the normaliser has changed them beyond recognition."""
    nbest: list[dict] | None = None
    """The likeliest texts, the best first, each a `text` with its `score`; None where the evaluation has none."""

    @cached_property
    def ops(self) -> list[Op]:
        """Return the alignment of the reference's words with the hypothesis's."""
        return align_words(self.reference.split(), self.hypothesis.split())

    @classmethod
    def from_record(cls, record: dict) -> ScoredUtterance:
        """Make an utterance from what `record` returned."""
        own = {name: record[name] for name in cls.__dataclass_fields__ if name in record}
        counted = {ALL: record, **record.get("subsets", {})}
        errors = {name: Errors(**{key: one[key] for key in Errors.__slots__}) for name, one in counted.items()}
        return cls(**own, errors=errors)

    def record(self) -> dict:
        """Return the utterance as a dictionary for JSON: the errors of all words, then, in `subsets`, the same counts
        of each subset.

        It has speaker, language, noise and snr as far as the source states them, and `synthetic` where it is true.
        `ops` is the alignment: `[kind, reference word, hypothesis word]` each.
        """
        stated = {name: getattr(self, name) for name in ("speaker", "language", "noise", "snr", "samples")}
        return {
            "id": self.id,
            "split": self.split,
            "head": self.head,
            "decoder": self.decoder,
            "seconds": round(self.seconds, 3),
            **{name: value for name, value in stated.items() if value not in ("", None)},
            **({"synthetic": True} if self.synthetic else {}),
            "reference": self.reference,
            "hypothesis": self.hypothesis,
            **asdict(self.errors[ALL]),
            "subsets": {name: asdict(errors) for name, errors in self.errors.items() if name != ALL},
            "ops": [list(op) for op in self.ops],
            **({} if self.hypothesis_words is None else {"hypothesis_words": [*map(_rounded, self.hypothesis_words)]}),
            **({} if self.nbest is None else {"nbest": self.nbest}),
        }

    def with_details(self, hypothesis_words: list[dict], nbest: list[dict]) -> ScoredUtterance:
        """Return the same with the words of the hypothesis (in scripts without spaces: its characters), and mark which of
        them are correct."""
        texts = ([word for word, _ in tokens_of(text)] for text in (self.reference, self.hypothesis))
        correct = [op.kind == EQUAL for op in align_words(*texts) if op.hypothesis is not None]
        # The last frame may extend beyond the end of the audio.
        words = [
            word | {"end": round(min(word["end"], self.seconds), 6), "correct": right}
            for word, right in zip(hypothesis_words, correct, strict=bool(hypothesis_words))
        ]
        return replace(self, hypothesis_words=words, nbest=nbest)


def _rounded(word: dict) -> dict:
    """Return a word of a hypothesis as it is written: its confidence is rounded only now, after all temperatures."""
    return word | {"confidence": round(word["confidence"], 6)}


def score(
    ids: Sequence[str],
    references: Sequence[str],
    hypotheses: Sequence[str],
    seconds: Sequence[float],
    *,
    split: str,
    head: str,
    decoder: str = "greedy",
    subset_of: Callable[[str], str | None] | None = None,
    entries: Sequence[Entry | None] | None = None,
    samples: Sequence[str] | None = None,
) -> list[ScoredUtterance]:
    """Score hypotheses, one for each reference; the texts are normalised already.

    subset_of: the subset of the vocabulary that a reference word is in, or None if it is in none. entries: the source's
    statements about the utterances, if known. samples: hashes of their samples, if known.
    """
    return [
        ScoredUtterance(
            id=utterance_id,
            split=split,
            head=head,
            decoder=decoder,
            seconds=float(length),
            reference=reference,
            hypothesis=hypothesis,
            errors=count_errors(reference, hypothesis, subset_of),
            samples=own_samples,
            **(entry and {name: getattr(entry, name) for name in STATED} or {}),
        )
        for utterance_id, reference, hypothesis, length, entry, own_samples in zip(
            *(ids, references, hypotheses, seconds),
            entries or [None] * len(ids),
            samples or [""] * len(ids),
            strict=True,
        )
    ]


def make_table(rows: Sequence[dict]) -> Table:
    """Return the rows as a table for `rich.print`, about 80 columns wide; rates in per cent, subsets below splits.

    The title has what all rows share (mostly the decoder), and what the decoders of a table are fused with. Where
    there are subsets, the caption says what they are, and how many words are in none; it also says where there are too
    few utterances for an interval.
    """
    shared = [name for name in ("decoder", "normalizer", "step") if len({row[name] for row in rows}) == 1]
    title = ", ".join(f"{name} {rows[0][name]}" for name in shared)
    if lengths := sorted({row["look_ahead_ms"] for row in rows if "look_ahead_ms" in row}):
        title += f", look-ahead {' or '.join(f'{length:g}' for length in lengths)} ms"
    short = {} if "decoder" in shared else short_names(row["decoder"] for row in rows)
    title = "\n".join([title, *(f"{label}: {name}" for name, label in short.items() if label != name)])
    table = Table(
        title=escape(title),
        title_justify="left",
        caption=escape("\n".join([*_about_subsets(rows), *about_few(rows)])) or None,
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        padding=0,
    )
    texts = ["head", *(name for name in ("decoder", "normalizer", "step") if name not in shared)]
    if any("run" in row for row in rows):
        table.add_column("run", overflow="fold")
    # In a narrow terminal, names are wrapped before any number is cut.
    for name in ("split", *texts):
        table.add_column(name, overflow="fold")
    timed = any("real_time_factor" in row for row in rows)
    for name in ("WER %", "95 %", "CER %", "ins", "del", "sub", "words", "utts", *(["RTF"] if timed else [])):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(
            *([escape(row["run"])] if "run" in row else []),
            escape(row["split"] if row["subset"] == ALL else f"  {row['subset']}"),
            *(escape(short.get(row[name], str(row[name]))) for name in texts),
            percent(row["wer"]),
            between(row["wer_low"], row["wer_high"]),
            percent(row["cer"]),
            *(str(row[name]) for name in ("insertions", "deletions", "substitutions", "words", "utterances")),
            *([_factor(row)] if timed else []),
        )
    return table


def _about_subsets(rows: Sequence[dict]) -> list[str]:
    """Return what the subsets of words are, and how many of each split are in none; [] where there are no subsets."""
    words: dict[str, dict[tuple, dict[str, int]]] = defaultdict(lambda: defaultdict(dict))
    for row in rows:
        one = row.get("run"), row["step"], row["head"], row["decoder"]
        words[row["split"]][one][row["subset"]] = row["words"]
    known = {split: [own for own in tables.values() if len(own) > 1] for split, tables in words.items()}
    if not any(known.values()):
        return []
    lines = ["heard: words that training audio has; text_only: that training text alone has"]
    for split, tables in known.items():
        # Runs with other training texts have other counts.
        rest = sorted({2 * own[ALL] - sum(own.values()) for own in tables})
        if rest and rest[-1]:
            counts = " to ".join(map(str, dict.fromkeys((rest[0], rest[-1]))))
            lines.append(
                f"{split}: {counts} of {tables[0][ALL]} words are in neither, and count in its first row alone"
            )
    return lines


def about_few(rows: Iterable[dict]) -> list[str]:
    """Return lines where some row's utterances, or speakers where those were drawn, are too few for its interval, or not
    stated; and that speakers were drawn."""
    counts = [(name, row[name]) for row in rows for name in [SPEAKERS if SPEAKERS in row else UTTERANCES]]
    lines = ["95 %: of speakers, drawn with all their utterances"] * any(name == SPEAKERS for name, _ in counts)
    if any(count is None for _, count in counts):
        lines.append("no interval: not all utterances state a speaker (manifest key, TFDS feature `speaker`)")
    for name in dict.fromkeys(name for name, count in counts if count is not None and count < FEWEST):
        lines.append(f"fewer than {FEWEST} {name} are too few for an interval: it is narrower than it should be")
    return lines


def _factor(row: dict) -> str:
    """Return the real-time factor, shown once for all subsets of a split."""
    factor = row.get("real_time_factor")
    return "" if row["subset"] != ALL else "-" if factor is None else f"{factor:.3f}"


def short_names(decoders: Iterable[str]) -> dict[str, str]:
    """Return the name of each decoder in a table's column: `beam 16 a` for `beam 16, word 3-gram lm.arpa, ...`."""
    fused = (name for name in dict.fromkeys(decoders) if "," in name)
    return {name: f"{name.partition(',')[0]} {letter}" for name, letter in zip(fused, string.ascii_lowercase)}


def percent(rate: float | None) -> str:
    """Return a fraction as per cent with one decimal; a dash for None."""
    return "-" if rate is None else f"{100 * rate:.1f}"


def between(low: float | None, high: float | None) -> str:
    """Return an interval of fractions as per cent: `1.5-2.0`; a dash for None."""
    return "-" if low is None else f"{percent(low)}-{percent(high)}"


DIFFERENCE_COLUMNS = ("A %", "B %", "A - B", "95 %", "p", "lower")
"""Headings of `difference_cells`."""


def difference_cells(row: dict, names: tuple[str, str] = ("A", "B")) -> tuple[str, ...]:
    """Return the cells of a row with the `metric`, the rates `wer_a`, `wer_b` or `cer_a`, `cer_b`, and what
    `Difference.record` has; `names` of the two systems."""
    metric = row["metric"]
    return (
        percent(row[f"{metric}_a"]),
        percent(row[f"{metric}_b"]),
        f"{100 * row['difference']:+.1f}",
        "-" if row["low"] is None else f"{100 * row['low']:+.1f} to {100 * row['high']:+.1f}",
        "<0.001" if row["p_value"] < 0.001 else f"{row['p_value']:.3f}",
        {A_LOWER: names[0], B_LOWER: names[1], UNDECIDED: "-"}[row["verdict"]],
    )


def write_rows(rows: Sequence[dict] | dict, path: Path | str) -> None:
    """Write rows as a JSON list, or several kinds of rows by name; a reader sees the old file or the whole new one."""
    storage.write_whole(storage.path(path), as_json(rows))


def write_output_rows(rows: Sequence[dict] | dict, path: Path | str) -> None:
    """Write rows as `write_rows` does, to a file that a user names (`storage.write_output`)."""
    storage.write_output(storage.path(path), as_json(rows))


def as_json(rows: Sequence[dict] | dict) -> str:
    """Return what `write_rows` writes."""
    return json.dumps(rows, indent=2, ensure_ascii=False) + "\n"


def keep_all(files: Iterable[tuple[Path, Callable[[Path], None]]]) -> list[str]:
    """Write as many files as possible; return a line about each that could not be written."""
    return [problem for path, write in files if (problem := storage.keep(write, path))]


def raise_first(problems: Sequence[str]) -> None:
    """Raise `UserError` where there are problems: the first, and how many more there are."""
    if problems:
        raise UserError(problems[0] + (f" (and {len(problems) - 1} more files)" if len(problems) > 1 else ""))


def write_utterances(utterances: Iterable[ScoredUtterance], path: Path | str) -> None:
    """Write one JSON object a line, each an utterance under one head and decoder (`ScoredUtterance.record`)."""
    write_lines((utterance.record() for utterance in utterances), path)


def write_lines(records: Iterable[dict], path: Path | str) -> None:
    """Write one JSON object a line; a reader sees the old file or the whole new one."""
    storage.write_whole(storage.path(path), make_lines(records))


def make_lines(records: Iterable[dict]) -> str:
    """Return one JSON object a line, in UTF-8; half a surrogate is escaped."""
    lines = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    return lines.encode(errors="backslashreplace").decode()


Count = Annotated[int, pydantic.Field(ge=0, lt=2**40)]

_Counts = pydantic.create_model("_Counts", **{name: Count for name in Errors.__slots__})


class _Record(_Counts):
    """The fields of `ScoredUtterance.record` that are read again, to count with them or to show their text."""

    model_config = pydantic.ConfigDict(extra="allow")

    id: str
    split: str
    head: str
    decoder: str
    seconds: float = pydantic.Field(ge=0, allow_inf_nan=False)
    reference: str
    hypothesis: str
    subsets: dict[str, _Counts] = {}
    speaker: str = ""
    language: str = ""
    noise: str = ""
    snr: float | None = pydantic.Field(default=None, allow_inf_nan=False)
    synthetic: bool = False
    hypothesis_words: list[dict] | None = None
    nbest: list[dict] | None = None


def read_utterances(path: Path | str) -> list[ScoredUtterance]:
    """Read what `write_utterances` wrote."""
    lines = storage.path(path).read_bytes().splitlines()
    do = "move it away, so that it is made again"
    return [
        ScoredUtterance.from_record(parse_json(line, _Record, f"{storage.printable(path)}:{n}", do).model_dump())
        for n, line in enumerate(lines, 1)
    ]


def by_key(utterances: Sequence[ScoredUtterance]) -> dict[Key, list[ScoredUtterance]]:
    """Return the utterances by split, head and decoder."""
    found = defaultdict(list)
    for one in utterances:
        found[one.split, one.head, one.decoder].append(one)
    return found
