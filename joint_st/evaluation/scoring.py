"""`joint-st score`: the WER of any system's transcripts, and tests of whether one system's is lower than another's."""

from __future__ import annotations

import itertools
import string
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import rich
from rich import box
from rich.table import Table

from joint_st.data.normalizers import Normalizer, normalizer
from joint_st.errors import UserError
from joint_st.evaluation.bootstrap import paired_difference
from joint_st.evaluation.optional_words import FORMATS as NIST
from joint_st.evaluation.optional_words import count_optional, marks, without_unheard
from joint_st.evaluation.ranking import Metric, errors_and_length, metric_of
from joint_st.evaluation.rates import make_rates
from joint_st.evaluation.report import (
    DIFFERENCE_COLUMNS,
    about_few,
    between,
    difference_cells,
    percent,
    write_output_rows,
)
from joint_st.evaluation.transcript_files import (
    HYPOTHESIS_KEYS,
    REFERENCE_KEYS,
    TranscriptFile,
    named,
    read_transcripts,
)
from joint_st.evaluation.transcript_matching import by_segment, match_ids
from joint_st.evaluation.wer import ALL, Errors, count_errors, total
from joint_st.tables import escape

SAMPLES = 10_000
"""Resamples behind the differences, as of `joint-st compare`."""


class Rules(NamedTuple):
    """How files are read, and what is done about ids without a partner."""

    form: str | None = None
    """Format of the hypotheses; None to tell it from each file."""
    reference_form: str | None = None
    key: str | None = None
    """Key of the text in JSON lines of hypotheses."""
    reference_key: str | None = None
    id_key: str | None = None
    missing_as_empty: bool = False
    """Whether an utterance that a system lacks counts as one in which it heard nothing."""
    ignore_others: bool = False
    """Whether utterances that the reference lacks are left out."""


class System(NamedTuple):
    """The transcripts of a system, scored."""

    name: str
    file: TranscriptFile
    errors: list[Errors]
    """Errors in each utterance, in the order of the reference."""
    missing: int
    """Number of utterances that it lacks, scored as empty."""
    others: int
    """Number of utterances that the reference lacks, left out."""


def score_files(
    reference: Path,
    hypotheses: Sequence[Path],
    *,
    normalizer_name: str = "basic",
    rules: Rules | None = None,
    samples: int = SAMPLES,
    json_file: Path | None = None,
) -> dict[str, list[dict]]:
    """Score the transcripts in files against those of a reference, print tables, and return their rows.

    rules: `Rules()` by default. `systems`: a row for each file, as of `joint_st.evaluation.rates.make_rates`.
    `differences`: a row for each pair of files, by the paired bootstrap on the same utterances, of the character error
    rate where most letters of the references are in scripts without spaces between words (`metric`). Rates are fractions.
    Files whose ids have nothing in common are matched by their audio (`match_ids`), unless `rules` name the key of
    the ids. Raises `UserError` where files cannot be read, where ids occur twice, are missing or have no reference,
    unless `rules` say what to do, where a file has no id of the reference, and where the references have no words.
    """
    normalize, rules = normalizer(normalizer_name), rules or Rules()
    keys = (rules.reference_key,) if rules.reference_key else REFERENCE_KEYS
    how = {"id_key": rules.id_key, "folder": reference.parent}
    expected = read_transcripts(reference, rules.reference_form, keys=keys, flag="--ref-format", **how)
    if not expected.said:
        raise UserError(f"{reference}: has no transcripts; give a file that has some")
    keys = (rules.key,) if rules.key else HYPOTHESIS_KEYS
    files = [read_transcripts(path, rules.form, keys=keys, reference=expected, **how) for path in hypotheses]
    references, systems = {}, []
    for file in files:
        file = match_ids(expected, file, by_audio=rules.id_key is None)
        if expected.form == "stm":
            if file.form != "ctm":
                raise UserError(f"{file.path}: {file.form}; an STM needs the times of words: give a CTM")
            references, texts = by_segment(expected, file)
        else:
            references, texts = expected.texts(), file.texts()
        systems.append(_score(expected, file, references, texts, normalize, rules))
    if not all(any(errors.words for errors in system.errors) for system in systems):
        raise UserError(f"{reference}: its texts have no words under {normalize}; take another --normalizer")
    labels = _labels(len(systems))
    rows = [
        {
            "system": system.name,
            **make_rates(system.errors),
            "missing": system.missing,
            "others": system.others,
            "normalizer": str(normalize),
        }
        for system in systems
    ]
    pairs = list(itertools.combinations(range(len(systems)), 2))
    metric = metric_of(normalize(text) for text in references.values())
    differences = [_difference(systems[i], systems[k], metric, str(normalize), samples) for i, k in pairs]
    found = {"systems": rows, "differences": differences}
    # Written first, so that nothing is lost if the table cannot be printed.
    if json_file:
        write_output_rows(found, json_file)
    empty = sum(not normalize(text) for text in references.values())
    title = f"reference {reference} ({expected.how}), normalizer {normalize}"
    if empty:
        title += f"\n{empty} of {len(references)} references have no words under it: all words of their hypotheses are insertions"
    if optional := sum(map(count_optional, references.values())) if expected.form in NIST else 0:
        title += f"\n{optional} words of the references are in parentheses: they count where a system has them"
    if found_marks := marks(references.values(), normalize):
        each = ", ".join(f"{mark} {count}" for mark, count in found_marks.most_common())
        print(f"{reference}: marks that count as words to be recognised: {each}", file=sys.stderr)
    rich.print(make_score_table(title, labels, systems, rows))
    if differences:
        names = [(labels[i], labels[k]) for i, k in pairs]
        rich.print(make_difference_table(names, differences))
    return found


def _score(
    expected: TranscriptFile,
    file: TranscriptFile,
    references: dict[str, str],
    texts: dict[str, str],
    normalize: Normalizer,
    rules: Rules,
) -> System:
    missing = [id for id in references if id not in texts]
    others = [id for id in texts if id not in references]
    if texts and len(others) == len(texts):  # scored as empty, all of it would be wrong
        how = "--id-key names the key of the ids, such as --id-key audio_filepath"
        raise UserError(
            f"{file.path}: has no id of {expected.path}: {others[0]} here, {next(iter(references))} there; "
            + (how if "jsonl" in (file.form, expected.form) else "name the utterances alike in both")
        )
    problems = []
    if missing and not rules.missing_as_empty:
        nothing = "; a CTM has no line for an utterance without words" if file.form == "ctm" else ""
        problems.append(f"lacks {named(missing)} of {expected.path}{nothing}: --missing-as-empty scores them as empty")
    if others and not rules.ignore_others:
        problems.append(f"has {named(others)} that {expected.path} lacks: --ignore-others leaves them out")
    if problems:
        raise UserError(f"{file.path}: {'; '.join(problems)}")
    errors = []
    for id, text in references.items():
        heard = normalize(texts.get(id, ""))
        optional = expected.form in NIST and count_optional(text)
        said = without_unheard(text, heard, normalize) if optional else normalize(text)
        errors.append(count_errors(said, heard)[ALL])
    return System(str(file.path), file, errors, len(missing), len(others))


def _difference(a: System, b: System, metric: Metric, normalizer_name: str, samples: int) -> dict:
    counts = [np.array([errors_and_length(one, metric) for one in system.errors]).T for system in (a, b)]
    found = paired_difference(counts[0][0], counts[1][0], counts[0][1], samples, denominators_b=counts[1][1])
    totals = total(a.errors), total(b.errors)
    return {
        "system_a": a.name,
        "system_b": b.name,
        "metric": metric,
        "wer_a": totals[0].wer,
        "wer_b": totals[1].wer,
        "cer_a": totals[0].cer,
        "cer_b": totals[1].cer,
        **found.record(),
        "utterances": len(a.errors),
        "words": totals[0].words,
        "normalizer": normalizer_name,
    }


def _labels(count: int) -> list[str]:
    """Return a short name for each system: A, B, …, or numbers where there are more of them."""
    return list(string.ascii_uppercase[:count]) if count <= 26 else [str(n + 1) for n in range(count)]


def make_score_table(title: str, labels: Sequence[str], systems: Sequence[System], rows: Sequence[dict]) -> Table:
    """Return the rows of the systems as a table for `rich.print`; rates in per cent."""
    lines = [title, *(f"{label}: {one.name} ({one.file.how})" for label, one in zip(labels, systems))]
    for label, one in zip(labels, systems):
        if one.missing:
            lines.append(f"{label}: {one.missing} utterances are missing and count as empty")
        if one.others:
            lines.append(f"{label}: {one.others} utterances without a reference are left out")
    lines += about_few(rows)
    table = Table(title=escape("\n".join(lines)), title_justify="left", box=box.SIMPLE_HEAD, padding=0)
    table.add_column("")
    for name in ("WER %", "95 %", "CER %", "95 %", "ins", "del", "sub", "words", "utts"):
        table.add_column(name, justify="right", no_wrap=True)
    for label, row in zip(labels, rows):
        table.add_row(
            label,
            percent(row["wer"]),
            between(row["wer_low"], row["wer_high"]),
            percent(row["cer"]),
            between(row["cer_low"], row["cer_high"]),
            *(str(row[name]) for name in ("insertions", "deletions", "substitutions", "words", "utterances")),
        )
    return table


def make_difference_table(names: Sequence[tuple[str, str]], rows: Sequence[dict]) -> Table:
    """Return the differences, all of one metric, as a table for `rich.print`; rates in per cent. names: names of the
    systems of each row."""
    metric = rows[0]["metric"].upper()
    table = Table(title=f"paired bootstrap of {metric}", title_justify="left", box=box.SIMPLE_HEAD, padding=0)
    for name in ("A", "B"):
        table.add_column(name)
    for name in DIFFERENCE_COLUMNS:
        table.add_column(name, justify="right", no_wrap=True)
    for pair, row in zip(names, rows):
        table.add_row(*pair, *difference_cells(row, pair))
    return table
