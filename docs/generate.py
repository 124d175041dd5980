"""Writes the parts of the site that show the package itself; every build makes them again, and none is written by hand.

- the reference of the configuration, from the sections' docstrings;
- the reference of the commands, from their `--help`;
- the Python modules, as lists for Sphinx's autodoc;
- the page of results, from `benchmarks/results/`;
- tables for the pages: the text normalisers on examples, the columns of `metrics.csv`.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import result_cells
import results
import run_notebooks

import joint_st
from joint_st.config import Config, LmConfig
from joint_st.config.sections.base import Section
from joint_st.config.show import groups, settings, type_of
from joint_st.config.tree import join, sections

HELP_COLUMNS = 100

ROOMS = {
    "config": "the schema of the configuration",
    "data": "sources, the index, mixtures, buckets, batches, text",
    "ops": "pure functions of arrays",
    "distributed": "the device mesh and the processes of a job",
    "models": "layers, encoders, language models",
    "heads": "what a pass of the encoder is read out by",
    "losses": "what is minimised",
    "runs": "what a run leaves on disk",
    "lm": "n-gram language models",
    "decoding": "fusion, rescoring, windows, streams",
    "evaluation": "WER, intervals, comparisons",
    "training": "the training scripts and what they use",
    "word_times": "when each word is said",
    "analysis": "how near speech and text are in each layer",
    "sweeps": "many runs from one file",
}
"""The packages below `joint_st` that others import, and what each is for."""

NORMALIZER_EXAMPLES = (
    "Hello, World!",
    "It's 5 o'clock",
    "On 3 May 1984, 1,984 people",
    "Agent 007",
    "café, naïve, Straße",
    "Łódź and Århus",
    "rock ‘n’ roll",
    "well-known e-mail",
    "¿Qué tal?",
    "Привет, мир",
    "१२३ नमस्ते",
)


def write_pages(folder: Path) -> None:
    """Write every generated page; one that has not changed is left alone, so that Sphinx does not read it again."""
    pages = {
        "configuration.md": configuration(),
        "commands.md": commands(),
        "results.md": result_page(),
        "modules/index.md": modules(),
        **{f"modules/{room}.rst": room_page(room) for room in ROOMS},
    }
    for name, text in pages.items():
        path = folder / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    for path in folder.rglob("*"):
        if path.is_file() and str(path.relative_to(folder)) not in pages:
            path.unlink()


def tables() -> dict[str, str]:
    """Return the tables, and the report, that pages include by name."""
    columns = {"train": training_columns(), "train_lm": lm_columns()}
    return {"normalizers": normalizers(), "columns": columns, "report": report()}


# The configuration.


def configuration() -> str:
    """Return the page of every field of `Config` and of `LmConfig`."""
    lines = [
        "# Configuration reference",
        "",
        "Every field, made from the docstrings of the sections. A field is set in a config file, by `--PATH VALUE` on "
        "the command line, and by the same path in a sweep. "
        "[Write your own config](../your_data.md#a-config-of-your-own) shows how.",
        "",
        "## Config",
        "",
        "What `joint-st train` takes.",
        "",
        *_fields(Config, indexed=True),
        "## LmConfig",
        "",
        "What `joint-st train-lm` takes: a neural language model.",
        "",
        *_fields(LmConfig, indexed=False),
        "## Sections of several kinds",
        "",
        "A field of one of these types takes a section of one kind. It is written short, `KIND` or `KIND:VALUE`, or as "
        'JSON, `{"kind": "KIND", ...}`.',
        "",
    ]
    for name, kinds in groups(Config).items():
        lines += [f"### {name}", ""]
        for kind, section in kinds.items():
            lines += [f"#### {name} {kind}", "", _prose(section.__doc__), ""]
            for field_name, field in settings(section):
                lines += _confval(f"{name}.{kind}.{field_name}", field, indexed=False)
    return "\n".join(lines) + "\n"


def _fields(root: type[Section], indexed: bool) -> Iterator[str]:
    for prefix, section in sections(root):
        found = list(settings(section))
        if not found:
            continue
        if prefix:
            yield from (f"### {root.__name__}: {prefix}" if not indexed else f"### {prefix}", "")
            yield from (_prose(section.__doc__), "")
        for name, field in found:
            yield from _confval(join(prefix, name), field, indexed)


def _confval(path: str, field: Any, indexed: bool) -> Iterator[str]:
    yield f"````{{confval}} {path}"
    if not indexed:
        yield ":no-index:"
    yield f":type: {_option(type_of(field))}"
    if not field.is_required():
        yield f":default: {_option(_shown(field.get_default(call_default_factory=True)))}"
    yield from ("", _prose(field.description), "````", "")


def _shown(value: Any) -> str:
    return json.dumps(value, default=lambda section: section.model_dump(mode="json"), ensure_ascii=False)


def _option(text: str) -> str:
    """Text as the value of a directive's option, in code type."""
    return json.dumps(f"`{text}`", ensure_ascii=False)


def _prose(text: str | None) -> str:
    return re.sub(r"[ \t]*\n[ \t]*", "\n", (text or "").strip())


# The commands.


def commands() -> str:
    """Return the page of every command, as its `--help` says it."""
    lines = [
        "# Command reference",
        "",
        "What `joint-st COMMAND --help` prints. Commands that take a CONFIG also take every field of it, by its path in "
        "the [configuration reference](configuration.md).",
        "",
    ]
    for name, text in _helps(()):
        lines += [f"## {' '.join(('joint-st', *name))}", "", "```text", text.rstrip(), "```", ""]
    return "\n".join(lines)


def _helps(name: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield the words of a command, and of those below it, with their help."""
    text = _help(name)
    yield name, text
    _, found, listed = text.partition("\ncommands:\n")
    for line in listed.splitlines() if found else ():
        if match := re.match(r"  ([\w-]+)", line):
            yield from _helps((*name, match[1]))


def _help(name: tuple[str, ...]) -> str:
    from joint_st.cli import main

    before, os.environ["COLUMNS"] = os.environ.get("COLUMNS"), str(HELP_COLUMNS)
    text = io.StringIO()
    try:
        with contextlib.redirect_stdout(text), contextlib.suppress(SystemExit):
            main([*name, "--help"])
    finally:
        del os.environ["COLUMNS"]
        if before is not None:
            os.environ["COLUMNS"] = before
    return text.getvalue()


# The modules.


def modules() -> str:
    """Return the list of the rooms of the package."""
    lines = [
        "# Python modules",
        "",
        "Made from the docstrings. Imports run one way: each room uses those above it only.",
        "",
    ]
    lines += ["| room | what it holds |", "| --- | --- |"]
    lines += [f"| [`joint_st.{room}`]({room}.rst) | {what} |" for room, what in ROOMS.items()]
    lines += ["", "```{toctree}", ":hidden:", "", *ROOMS, "```", ""]
    return "\n".join(lines)


def room_page(room: str) -> str:
    """Return the page of a room: every module of it for autodoc."""
    title = f"joint_st.{room}"
    package, *modules = _modules(room)
    lines = [title, "=" * len(title), "", f".. automodule:: {package}", ""]
    for name in modules:
        lines += [name, "-" * len(name), "", f".. automodule:: {name}", ""]
    return "\n".join(lines)


def _modules(room: str) -> list[str]:
    folder = Path(joint_st.__file__).parent / room
    found = [f"joint_st.{room}"]
    for module in pkgutil.walk_packages([str(folder)], f"joint_st.{room}."):
        if ".sections" not in module.name and ".corpora" not in module.name:  # the configuration reference has sections
            found.append(module.name)
    return found


def as_rst(app, what, name, thing, options, lines: list[str]) -> None:
    """Turn a docstring, which is plain text with `code` in backticks, into reStructuredText (for autodoc).

    A name is set in code type, indented lines become a block of code, and lines after `- ` a list; no other character has
    a meaning.
    """
    if re.fullmatch(r"Alias for field number \d+", " ".join(lines).strip()):
        lines[:] = []  # what Python says of a field without a docstring
    blocks, block = [], []
    for line in [*lines, ""]:
        indented = line.startswith("    ") and bool(line.strip())
        if block and (not line.strip() or indented != block[0].startswith("    ")):
            blocks.append(block)
            block = []
        if line.strip():
            block.append(line)
    lines[:] = []
    for block in blocks:
        if block[0].startswith("    "):
            lines += [".. code-block:: text", "", *block, ""]
        elif block[0].startswith("- "):
            items = re.split(r"^- ", "\n".join(line.strip() for line in block), flags=re.MULTILINE)[1:]
            lines += [f"- {_escaped(' '.join(item.split()))}" for item in items]
            lines.append("")
        else:
            text = _escaped("\n".join(line.strip() for line in block))
            lines += [*text.splitlines(), ""]


def _escaped(text: str) -> str:
    parts = text.split("`")
    if len(parts) % 2 == 0:  # a backtick without its fellow
        return re.sub(r"([\\`*|_])", r"\\\1", text)
    for i, part in enumerate(parts):
        if i % 2:
            code = " ".join(part.split())
            parts[i] = f"\\ ``{code}``\\ " if code else ""
        else:
            part = re.sub(r"([\\*|_])", r"\\\1", part)
            parts[i] = re.sub(r"(?m)^([-+•]|\d+[.)]|[A-Za-z][.)]|\.\.|>>>|:)(?=\s|$|\w)", r"\\\1", part)
    return "".join(parts)


# Results and tables.


def result_page() -> str:
    """Return the page of results; a file of results that is not there has no section."""
    found = results.values()
    lines = [
        "# Results",
        "",
        "Made from the files in `benchmarks/results/`, which the commands below wrote. WER in %; in brackets the 95 % "
        "bootstrap interval ([what it means](../evaluation.md)). *Heard* are the words that occur in the training audio, "
        "*text only* those that occur in training text alone.",
        "",
    ]
    figure = results.RESULTS / "quickstart_layers.png"
    if figure.exists():
        lines += [
            "## Speech and text, layer by layer",
            "",
            "```text",
            "joint-st analyze runs/quickstart",
            "```",
            "",
            f"![Distance of speech and text, retrieval and word boundaries by layer](../../benchmarks/results/{figure.name})",
            "",
        ]
    for title, name, what, command, parts in RESULT_SECTIONS:
        if name not in found:
            continue
        lines += [f"## {title}", "", what, "", "```text", command, "```", ""]
        for heading, key in ((heading, key) for heading, key in parts if key in found[name]):
            lines += [heading.format(**found[name]), "", "{.numbers}", found[name][key], ""]
    return "\n".join(lines)


SWEEP_PARTS = (
    ("WER on `{split}`, {utterances} utterances, seeds: {seeds}, decoder {decoder}, normaliser {normalizer}:", "rates"),
    ("Change from `audio_only`, in % of its errors:", "relative_to_audio_only"),
    ("Change from `reconstruction`, in % of its errors:", "relative_to_reconstruction"),
)
RECORDED_REFERENCES = ("audio_only", "audio_units", "reconstruction")
RECORDED_PARTS = tuple(
    (f"{what}{words}:", f"{table}{end}")
    for words, end in ((", all words", ""), (", words that occur in text alone", "_text_only"))
    for what, table in (
        ("WER, where `beam` is {beam} (best checkpoints: {steps} steps)", "rates"),
        *((f"Change from `{other}`, in % of its errors", f"versus_{other}") for other in RECORDED_REFERENCES),
    )
)
ARMS = (
    "`audio_only` is trained without text, `reconstruction` with text injection, `reconstruction_consistency` also with "
    "consistency under `dtw`, all on the same speech. Changes are between the same seeds and utterances; their intervals "
    "are not corrected for their number."
)
RECORDED_ARMS = (
    "Five arms, as many steps of speech each: no text; the auxiliary CTC of phonemes; text that is reconstructed; and "
    "consistency under two alignments. The language model is a 3-gram of the transcripts and the texts, the same for all "
    "arms, its weights tuned on the dev set. Arms without a finished run are left out."
)
TURNS = (
    "All took turns in one process with as many threads each; times are medians over the rounds, and the range in brackets "
    "is that of the middle 80 % of the rounds' ratios. Above 1, ours is faster. Letters are sizes: `B` utterances, `T` "
    "frames, `R` text positions, `U` labels, `V` symbols, `D` dimensions."
)
COLLECT = "joint-st sweep configs/sweeps/{0}.py --collect --json benchmarks/results/{0}.json"
RESULT_SECTIONS = (
    (
        "The quickstart",
        "quickstart",
        "One training of minutes, decoded in several ways. The language models are made of the training texts alone.",
        "joint-st train configs/quickstart.py\n"
        "python -m benchmarks.quickstart runs/quickstart --json benchmarks/results/quickstart.json",
        (("WER on the test split, by decoder:", "decoders"),),
    ),
    (
        "What text adds: synthesised speech",
        "text_injection",
        f"{ARMS} The arms below differ from that one in the alignment alone. A small grammar made all sentences, also "
        "those of the test split, which inflates what text gives.",
        COLLECT.format("text_injection"),
        SWEEP_PARTS,
    ),
    *(
        (
            f"What text adds: {title}",
            name,
            f"{RECORDED_ARMS} {more}",
            f"joint-st sweep configs/sweeps/{name}.py\npython -m benchmarks.recorded configs/sweeps/{name}.py",
            RECORDED_PARTS,
        )
        for name, title, more in (
            (
                "recorded_read",
                "recorded reading",
                "An hour of one reader, and sentences of novels as text. In `deep` and `long` arms two of the streaming "
                "layers come before the shared ones, and CTC of phonemes counts for more; `long` arms take three times as "
                "many steps, with more dropout and masks. The file of the sweep says what each arm is, and what some arms "
                "need first.",
            ),
            ("recorded", "recorded English", "All recordings of English."),
            ("recorded_dutch", "recorded Dutch", "Two readers, 1.4 hours."),
        )
    ),
    *(
        (
            title,
            name,
            f"{what} One factor at a time from the arm `base`, which has speech and text in every step "
            "(`configs/experiments/text_and_speech.py`); the file of the sweep says what each arm changes.",
            f"joint-st sweep configs/sweeps/{name}.py\npython -m benchmarks.kept_runs configs/sweeps/{name}.py",
            (SWEEP_PARTS[0], ("Change from `base`, in % of its errors:", "relative_to_base")),
        )
        for name, title, what in (
            ("text_options", "Choices of text injection", "How text enters the model."),
            ("consistency", "Choices of consistency", "Where consistency matters."),
        )
    ),
    (
        "Memory and traffic on TPU slices, compiled without one",
        "pods",
        "What the compiler for TPUs says of a training step. Nothing was run on a TPU.",
        "python benchmarks/pod_scaling.py",
        (("The training step of each config, on one chip:", "table"),),
    ),
    (
        "Speed on one GPU",
        "one_gpu_h200",
        "Variants whose loss did not stay a number are left out; the file has them with a note.",
        "benchmarks/one_gpu",
        (("Training steps on {device}:", "steps"),),
    ),
    (
        "Time of joint steps",
        "joint_step",
        "A joint step has speech, text alone, and the consistency of speech and its text, which takes a pass of the paired "
        "text. Its time is divided by that of the same step on speech alone, and by that without consistency; the three took "
        "turns. It has as many times the matrix products as the column before the last says. Shares are of what one large "
        "matrix product reaches.",
        "python -m benchmarks.joint_step",
        (("On {device}:", "table"),),
    ),
    (
        "Speed of CTC",
        "ctc",
        f"The loss and its gradient, of random batches. {TURNS}",
        "python -m benchmarks.ctc",
        (("On {device}, which had a load of {load} from other programs; the last column has the {rule}:", "table"),),
    ),
    (
        "Speed of alignments",
        "alignment",
        "Losses of alignments with their gradients, and forced alignment, of random batches. The paper's recursion is "
        f"written out literally, and jitted; the soft DTW of ott-jax has no masks. {TURNS}",
        "python -m benchmarks.alignment",
        (("On {device}, which had a load of {load} from other programs; the last column has the {rule}:", "table"),),
    ),
    (
        "Forms of operations on a TPU, compiled without one",
        "tpu_forms",
        "What the compiler for TPUs makes of several ways to compute the same, on one chip. joint_st takes the form in bold "
        "there. `HBM` is what the program reads and writes in the chip's memory, and the least time for that; `products` is "
        "the least time of the matrix products at the peak for bfloat16, one pass each. Compiling is in seconds of the CPU. "
        "Nothing was run on a TPU.",
        "python -m benchmarks.tpu_forms",
        (
            ("Log-mel features of a chip's batch ({topology}):", "log_mel"),
            ("Attention over whole utterances, forward and backward:", "attention"),
            ("Four conformer layers, forward and backward:", "layers"),
        ),
    ),
    (
        "What was tried against it",
        "faults",
        "Accidents that befall processes, files, buckets and file systems, and inputs that are nearly valid. A try survives "
        "where the result is that without the fault, and is refused where one line says what is wrong and nothing is "
        "lost. A traceback, another result without a word, and lost work are mistakes.",
        "python -m benchmarks.faults",
        (("How {tried} tries ended:", "table"),),
    ),
)


def normalizers() -> str:
    """Return a table of examples, each by the newest version of every text normaliser."""
    from joint_st.data.normalizers import NORMALIZERS, normalizer

    found = [normalizer(name) for name in dict.fromkeys(one.name for one in NORMALIZERS.values())]
    rows = [[_cell(text), *(_cell(one(text)) for one in found)] for text in NORMALIZER_EXAMPLES]
    return result_cells.table(["text", *(f"`{one}`" for one in found)], rows)


def training_columns() -> str:
    """Return a table of the columns of `metrics.csv` that `joint-st train` writes, with those of every loss."""
    from joint_st.config import registered
    from joint_st.losses.base import LOSSES, Column
    from joint_st.training.asr import COLUMNS
    from joint_st.training.step import SKIPPED

    step = Column("step", description="Steps done when the row was written.")
    found = [(column, "") for column in (step, *COLUMNS)] + [(SKIPPED, "`optimizer.skip_above`")]
    found += [(column, f"`losses.{name}`") for name in registered("losses") for column in LOSSES[name].columns]
    return result_cells.table(["column", "there with", "unit", "what it holds"], [_column(*one) for one in found])


def lm_columns() -> str:
    """Return a table of the columns of `metrics.csv` that `joint-st train-lm` writes."""
    from joint_st.training.lm import COLUMNS

    rows = [_column(column, "") for column in COLUMNS]
    return result_cells.table(["column", "unit", "what it holds"], [[row[0], *row[2:]] for row in rows])


def _column(column: Any, there_with: str) -> list[str]:
    rate = column.unit == "%"  # the unit of the report's panel; the file has fractions
    return [f"`{column.name}`", there_with, "fraction" if rate else column.unit, column.description]


def _cell(text: str) -> str:
    return f"`{text}`" if text else "(empty)"


def report() -> str:
    """Return the report that the notebooks have written, as a frame; where they were not executed, how to make it."""
    if not run_notebooks.REPORT.exists():
        return "This copy of the site was built without it; `.ci/notebooks` before `.ci/docs` makes it."
    name = run_notebooks.REPORT.name
    frame = f'<iframe class="report" src="{name}" title="Report of a run" loading="lazy"></iframe>'
    return f'{frame}\n<p><a href="{name}">Open it in a page of its own</a></p>'
