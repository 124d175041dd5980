"""The README and the pages: results come from files, links lead somewhere, and pages are short. The language of all text."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
from urllib.parse import urldefrag

import pytest

from benchmarks import recorded
from tests.docs.blocks import blocks, commands, missing
from tests.docs.test_pages import PAGES
from tests.tiny import CHECKOUT

README = CHECKOUT / "README.md"
SCREENSHOT = CHECKOUT / "docs" / "drawings" / "report.webp"
"""The picture of a report, which `docs/screenshot.py` takes."""
MOST_WORDS = 1_200
REFERENCE = {"comparison.md", "glossary.md"}
"""Pages in which one looks things up; they may be longer."""

NOT_PROSE = re.compile(
    r"^(?P<fence>`{3,}|~{3,}).*?^(?P=fence)\s*$|<!-- results: [\w.]+ -->.*?<!-- end -->|<!--.*?-->|\{\{.*?\}\}|`[^`\n]*`",
    re.DOTALL | re.MULTILINE,
)
"""Code, regions that a command fills, comments, placeholders."""
RESULT = re.compile(
    r"\d[\d.,]*(?:\s*(?:-|–|to)\s*\d[\d.,]*)?\s*(?:%|×|ms\b)|\b(?:WER|CER)\b[^.\n|]{0,40}?\d+\.\d|^\s*\|.*\d+\.\d+.*\|",
    re.MULTILINE,
)
"""A WER, a CER, a factor, milliseconds or percent; or a table with fractions."""
LEVEL = re.compile(r"95\s%(?=\s+(?:bootstrap\s+|confidence\s+)?(?:intervals?|confidence|of))")
"""The level of the intervals, which is no result."""


def by_hand(text: str) -> list[str]:
    """Return the results that a text states itself."""
    prose = NOT_PROSE.sub(lambda match: re.sub(r"[^\n]", " ", match[0]), text)
    return [match[0].strip() for match in RESULT.finditer(LEVEL.sub("", prose))]


@pytest.mark.parametrize(
    "text",
    [
        "The WER is 13.0 there.",
        "It removes 42 % of errors.",
        "It is 3.5× faster, and takes 320 ms.",
        "| `dtw` | 63.2 (58.6-68.1) |",
        "between 96 and 97 %",
        "a CER of 1.2",
    ],
)
def test_a_result_by_hand_is_found(text):
    assert by_hand(text)


@pytest.mark.parametrize(
    "text",
    [
        "The 95 % interval over 600 utterances; 95 % bootstrap intervals.",
        "`--chunk-ms 320` feeds 320 samples.",
        "WER {{ text_injection.audio_only.wer }} %",
        "<!-- results: a.b -->22.7 % (20.8-24.5)<!-- end -->",
        "```\nWER 22.7 %\n```\n",
        "Python 3.11, JAX 0.10",
    ],
)
def test_what_is_no_result_is_left_alone(text):
    assert not by_hand(text)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_no_page_states_a_result_by_hand(page):
    assert by_hand(page.read_text(encoding="utf-8")) == []


def test_the_readme_states_no_result_by_hand():
    assert by_hand(README.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("page", [page for page in PAGES if page.name not in REFERENCE], ids=lambda page: page.stem)
def test_a_page_is_short(page):
    words = len(page.read_text(encoding="utf-8").split())
    assert words <= MOST_WORDS, f"{page.name} has {words} words"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_blocks_can_be_read(page):
    for block in blocks(page):
        if block.language == "console":
            assert commands(block.text), f"{page.name}:{block.line}"


def test_every_key_of_a_manifest_and_every_kind_of_source_is_explained():
    from joint_st.config import Source
    from joint_st.data.sources.manifest import KNOWN, OF_RESULTS

    page = (CHECKOUT / "docs" / "your_data.md").read_text(encoding="utf-8")
    for name in [*KNOWN, *OF_RESULTS, *Source.registered]:
        assert re.search(rf"^\|[^|]*`{name}`", page, re.MULTILINE), name


def test_messages_that_the_pages_quote_are_in_the_source():
    """What stands between `...` in a quoted message is some string of the package, or of several that it joins."""
    known = "\n".join(map(_strings, sorted((CHECKOUT / "joint_st").rglob("*.py"))))
    quoted = [
        line
        for page in PAGES
        for block in blocks(page)
        if block.language == "text"
        for line in block.text.splitlines()
        if "..." in line
    ]
    assert quoted
    for line in quoted:
        for part in line.removeprefix("joint-st: error: ").split("..."):
            assert part.strip(" :;,()") in known, f"no message says {part!r}"


def _strings(path) -> str:
    """Return the texts of a file, each in a line; a text with inserted values is cut at them."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.append(node.value)
    return "\n".join(found)


def test_regions_of_the_readme_are_fresh():
    done = subprocess.run([sys.executable, CHECKOUT / "docs" / "results.py", "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_readme_links_to_files_that_are_there():
    for address in re.findall(r"\]\(([^)\s]+)\)", README.read_text(encoding="utf-8")):
        if not address.startswith(("http", "#", "mailto:")):
            assert (CHECKOUT / urldefrag(address)[0]).exists(), address


def test_figures_of_results_come_from_the_results():
    for page in [README, *PAGES]:
        for address in re.findall(r"!\[[^\]]*\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
            file = (page.parent / address).resolve()
            assert file.exists(), address
            of_results = file.parent == CHECKOUT / "benchmarks" / "results"
            assert file.suffix == ".svg" or of_results or file == SCREENSHOT, address


def test_the_front_page_is_small():
    assert README.stat().st_size <= 8_000
    assert SCREENSHOT.stat().st_size < 150_000


def test_a_region_is_filled_once_and_by_name(monkeypatch):
    results = _results(monkeypatch)
    text = "It is <!-- results: a.wer -->old<!-- end -->.\n<!-- results: a.table -->\n<!-- end -->\n"
    texts = {"a.wer": "1.0 % (0.5-1.5)", "a.table": "| x |\n| --- |"}
    new, stale = results.filled(text, texts)
    assert stale == ["a.wer", "a.table"]
    assert "It is <!-- results: a.wer -->1.0 % (0.5-1.5)<!-- end -->." in new and "-->\n| x |\n| --- |\n<!--" in new
    assert results.filled(new, texts) == (new, [])
    with pytest.raises(KeyError):
        results.filled(text, {})


def test_the_quickstart_s_table_has_a_row_for_each_decoder(monkeypatch):
    rates = {"wer": 0.299, "wer_low": 0.282, "wer_high": 0.316}
    row = {"name": "greedy", "split": "test", "head": "full_context", "subset": "all", **rates}
    found = _results(monkeypatch).BY_FILE["quickstart"]({"rows": [row, {**row, "name": "beam_lstm", "wer": 0.031}]})
    lines = found["decoders"].splitlines()
    assert lines[2].startswith("| greedy | 29.9 (28.2-31.6) | - |") and lines[3].startswith("| beam 16, LSTM | 3.1 ")
    assert found["greedy"]["full_context"]["all"] == "29.9 % (28.2-31.6)"


def test_rows_of_recorded_speech_are_those_of_the_sweep_and_stand_in_tables(monkeypatch):
    rates = {"wer": 0.5, "wer_low": 0.4, "wer_high": 0.6, "wer_by_seed": [0.5]}
    fewer = {"audio_only": {"all": {"change": -0.25, "low": -0.3, "high": -0.2}}}
    common = {"split": "read", "decoder": "greedy", "seeds": [0], "steps": [7], "words": 8}
    swept = [
        {"name": "audio_only", **common, **rates, "relative_to": {}},
        {"name": "reconstruction", **common, **rates, "wer": 0.375, "relative_to": fewer},
    ]
    rows, changes = recorded.rates(swept, "a laptop"), recorded.changes(swept)
    assert [(row["name"], row["test"], row["head"], row["subset"], row["wer"]) for row in rows] == [
        ("audio_only", "read", "full_context", "all", 0.5),
        ("reconstruction", "read", "full_context", "all", 0.375),
    ]
    assert [(row["name"], row["relative_to"], row["change"]) for row in changes] == [
        ("reconstruction", "audio_only", -0.25)
    ]
    found = _results(monkeypatch).BY_FILE["recorded"]({"rates": rows, "changes": changes})
    assert found["rates"].splitlines()[-1] == "| `read` | `reconstruction` | 1 | 37.5 (40.0-60.0) |"
    assert found["rates"].splitlines()[0] == "| test | arm | seeds | full context, greedy |"
    assert found["versus_audio_only"].splitlines()[-1] == "| `read` | `reconstruction` | 1 | -25.0 (-30.0 to -20.0) |"
    kind = ("read", "full_context_greedy", "all")
    assert _at(found["reconstruction"], kind) == "37.5 % (40.0-60.0)"
    assert _at(found["reconstruction"], ("versus_audio_only", *kind)) == "25.0 % (20.0-30.0)"
    assert (found["seeds"], found["steps"], found["device"]) == ("1", "7", "a laptop")


def _at(values, names):
    for name in names:
        values = values[name]
    return values


def test_commands_and_what_they_print():
    found = commands("$ one \\\n  --two\nfirst\n...\nlast\n$ next\n")
    assert [(one.command, one.output) for one in found] == [("one \\\n  --two", ("first", "...", "last")), ("next", ())]
    assert missing(("a ... c", "d"), "x\na b c\nd\n") is None
    assert missing(("d", "a"), "a\nd\n") == "a"


FRAGMENT = re.compile(r"(Of|As)\b")
NO_VERB = re.compile(r"(Of|As|A|An|The|What|Whether|How|Why|Which|Who|Whom)\b")
"""Beginnings of a docstring that does not say by a verb what a function does."""
NOUNS = {"property", "cached_property", "fixture", "fault"}
"""Decorators of functions whose docstrings say what a thing is, or what happens to it."""
UNUSED = re.compile(r"^- Prefer the common word\. These are not used: (.*?)(?=\n\n|\n- )", re.DOTALL | re.MULTILINE)
"""The words in the guide of CONTRIBUTING.md that are not used here."""
FOLDERS = ("joint_st", "configs", "benchmarks", "docs", ".ci")


def _python_files(*folders):
    return [file for folder in folders for file in sorted((CHECKOUT / folder).rglob("*.py"))]


def _documented(file):
    """Yield what has a docstring in a file, with the docstring."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            if text := ast.get_docstring(node):
                yield node, text


def _decorators(node) -> set[str]:
    """Return the last names of a function's decorators."""
    called = [one.func if isinstance(one, ast.Call) else one for one in node.decorator_list]
    return {ast.unparse(one).rpartition(".")[2] for one in called}


def test_docstrings_begin_with_what_they_are_about():
    found = [
        f"{file.relative_to(CHECKOUT)}:{getattr(node, 'lineno', 1)}: {text.splitlines()[0]}"
        for file in _python_files(*FOLDERS, "tests")
        for node, text in _documented(file)
        if FRAGMENT.match(text)
    ]
    assert found == []


def test_docstrings_of_functions_begin_with_a_verb():
    found = [
        f"{file.relative_to(CHECKOUT)}:{node.lineno}: {text.splitlines()[0]}"
        for file in _python_files("joint_st")
        for node, text in _documented(file)
        if isinstance(node, ast.FunctionDef) and NO_VERB.match(text) and not _decorators(node) & NOUNS
    ]
    assert found == []


def _unused_words() -> list[str]:
    guide = UNUSED.search((CHECKOUT / "CONTRIBUTING.md").read_text(encoding="utf-8"))
    return [" ".join(words.split()) for words in re.findall(r"\*([^*]+)\*", guide[1])]


def test_words_that_the_guide_does_not_use_are_not_used():
    """Strings and docstrings of Python, whole pages and scripts; names in backticks and tags do not count."""
    words = _unused_words()
    assert len(words) > 5
    either = "|".join(word.replace(" ", r"\s+") for word in words)
    unused = re.compile(rf"\b({either})\b", re.IGNORECASE)
    texts = {file: _strings(file) for file in _python_files(*FOLDERS)}
    for pattern in (
        "docs/*.md",
        "README.md",
        "CHANGELOG.md",
        "SECURITY.md",
        "launch/*.sh",
        "joint_st/reports/page/*.html",
    ):
        texts |= {file: file.read_text(encoding="utf-8") for file in sorted(CHECKOUT.glob(pattern))}
    texts[CHECKOUT / "CONTRIBUTING.md"] = (
        (CHECKOUT / "CONTRIBUTING.md").read_text(encoding="utf-8").split("## Language")[0]
    )
    found = [
        f"{file.relative_to(CHECKOUT)}: {match[0]}"
        for file, text in texts.items()
        for match in unused.finditer(re.sub(r"`[^`]*`|<[^<>\n]*>", "", text))
    ]
    assert found == []


def _results(monkeypatch):
    monkeypatch.syspath_prepend(str(CHECKOUT / "docs"))
    return importlib.import_module("results")
