"""Runs, checkpoints, manifests and models of other people: reading them executes no code of theirs, and touches no
other files.

The attacks tried here: caches that a config names (a compilation cache holds machine code), kinds that name modules,
features of TFDS that do, pickles in place of every file of a checkpoint, tokenizers whose model is elsewhere, links
that lead out of the run or lie in wait where a file is written, corpora that a config has built anywhere, ids and
splits with `..`, `/` and NUL, variables of the environment in messages, folders that another user made in /tmp, markup,
format strings and escape sequences in tables and messages, and hostile text in every place of a report.
"""

from __future__ import annotations

import ast
import collections
import io
import json
import os
import pickle
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
import rich.console

import joint_st
from joint_st import storage
from joint_st.cli import main
from joint_st.config import Config, TextSource, TfdsSource, load, override, save
from joint_st.data import paths
from joint_st.data.sources import open_source
from joint_st.data.text_units import load_units
from joint_st.data.tokenizers import load_tokenizer
from joint_st.errors import UserError, printable, told
from joint_st.evaluation.rates import make_rows
from joint_st.evaluation.report import make_table, read_utterances, score, write_utterances
from joint_st.reports.page import make_page
from joint_st.runs.checkpoints import Checkpoints
from joint_st.runs.directory import RunDirectory, existing_run
from joint_st.runs.trained import in_own_places
from joint_st.word_times.spans import Aligned
from joint_st.word_times.writers import Destination
from tests.reports.sample import content
from tests.reports.test_page import Page
from tests.tiny import tiny_config

HOSTILE = (
    "</script><script>alert(1)</script>",
    "<!--<script>",
    "<img src=x onerror=alert(1)>",
    '" onmouseover="alert(1)',
    "' autofocus onfocus='alert(1)",
    "javascript:alert(1)",
    "a\u2028b\u2029c",
    "]]>",
    "\\u003c/script>",
    "{{script}}",
    "__proto__",
    "\x00\x1b]0;title\x07",
)
"""What a transcript, an id or a name might hold."""


@pytest.fixture
def run(tmp_path) -> RunDirectory:
    """The files of a run but its checkpoints."""
    folder = tmp_path / "run"
    folder.mkdir()
    save(tiny_config(tmp_path), folder / "config.json")
    (folder / "tokenizer").mkdir()
    (folder / "tokenizer" / "tokenizer.json").write_text(json.dumps({"kind": "characters", "characters": [" ", "a"]}))
    return RunDirectory(folder)


def test_caches_that_a_run_names_are_not_used(tmp_path):
    """A compilation cache of other people holds their programs, which would be executed."""
    kept = jax.config.jax_compilation_cache_dir
    theirs = {"training.compilation_cache": str(tmp_path / "theirs"), "data.index_cache": "gs://theirs/index"}
    jax.config.update("jax_compilation_cache_dir", None)
    try:
        config = in_own_places(override(tiny_config(tmp_path), theirs))
    finally:
        jax.config.update("jax_compilation_cache_dir", kept)
    assert config.training.compilation_cache == "~/.cache/joint_st/compiled" and config.data.index_cache == ""
    assert in_own_places(tiny_config(tmp_path)).training.compilation_cache == ""


@pytest.mark.parametrize("kind", ["os", "corpus", "lines", "..tfds", "antigravity", "joint_st.cli", "", "\x00"])
def test_a_kind_is_one_that_there_is_and_no_module(run, kind):
    written = json.loads(run.config.read_text())
    written["data"]["train"] = [{"kind": kind, "path": "x"}]
    run.config.write_text(json.dumps(written))
    before = set(sys.modules)
    with pytest.raises(UserError, match="data.train.0.kind"):
        load(run.root)
    assert set(sys.modules) == before


EXECUTES = {"pickle", "marshal", "shelve", "dill", "joblib", "yaml", "cloudpickle", "runpy"}
"""Modules whose readers run what they read."""


def test_nothing_that_runs_what_it_reads_is_called():
    """The exceptions are the file of a config, which is the user's own, and what a process sends its own child."""
    allowed = {"training/compile_subprocess.py": {"pickle"}, "config/file.py": {"exec", "compile"}}
    root = Path(joint_st.__file__).parent
    found = []
    for file in sorted(root.rglob("*.py")):
        path = file.relative_to(root).as_posix()
        names = set()
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            match node:
                case ast.Import():
                    names |= {alias.name.partition(".")[0] for alias in node.names} & EXECUTES
                case ast.ImportFrom(module=str() as module):
                    names |= {module.partition(".")[0]} & EXECUTES
                case ast.Call(func=ast.Name(id=name)) if name in ("eval", "exec", "compile", "__import__"):
                    names.add(name)
                case ast.Call(func=ast.Attribute(attr="load", value=ast.Name(id="np"))):
                    names.add("np.load")
                case ast.keyword(arg="allow_pickle"):
                    names.add("allow_pickle")
        found += [f"{path}: {name}" for name in names - allowed.get(path, set())]
    assert found == []


class Bomb:
    """An object that writes a file when it is unpickled."""

    def __init__(self, place: Path):
        self.place = str(place)

    def __reduce__(self):
        return os.mkdir, (self.place,)


State = collections.namedtuple("State", "step average")


def test_a_pickle_in_place_of_any_file_of_a_checkpoint_is_not_read_as_one(tmp_path):
    place, state = tmp_path / "checkpoints", State(np.int32(3), {"a": np.arange(6.0)})
    with Checkpoints(place) as checkpoints:
        checkpoints.save(3, state, {"step": 3, "wer": 0.5}, 0.5)
    bomb = pickle.dumps(Bomb(tmp_path / "ran"))
    like = {
        "average": {
            "a": jax.ShapeDtypeStruct((6,), np.float64, sharding=jax.sharding.SingleDeviceSharding(jax.devices()[0]))
        }
    }
    files = [file for file in place.rglob("*") if file.is_file()]
    assert len(files) > 5
    for file in files:
        whole = file.read_bytes()
        file.write_bytes(bomb)
        try:
            with Checkpoints(place, read_only=True) as checkpoints:
                checkpoints.facts(3)
                checkpoints.restore_part(3, like)
        except Exception:  # whatever it is called: tests of damaged checkpoints say how it is told
            pass
        file.write_bytes(whole)
        assert not (tmp_path / "ran").exists(), file


@pytest.mark.parametrize("model", ["../../secret", "/etc/passwd", "~/secret", "tokenizer.model/../../x", ""])
def test_the_model_of_a_tokenizer_lies_beside_it(run, tmp_path, model):
    (tmp_path / "secret").write_text("secret")
    description = run.tokenizer / "tokenizer.json"
    description.write_text(json.dumps({"kind": "sentencepiece", "model": model}))
    with pytest.raises(UserError, match=r"tokenizer.json: sentencepiece.model: .*'tokenizer.model'"):
        load_tokenizer(run.tokenizer)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[",
        "[]",
        "null",
        '{"kind": "phonemes"}',
        '{"kind": "os"}',
        "[" * 100_000,
        '{"kind": "characters", "characters": [1]}',
    ],
)
def test_inventories_of_another_shape_are_refused_in_one_line(run, content):
    for name, read in (("tokenizer.json", load_tokenizer), ("units.json", load_units)):
        (run.tokenizer / name).write_text(content)
        with pytest.raises(UserError) as caught:
            read(run.tokenizer)
        assert str(run.tokenizer) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("line", ["", "{}", "[" * 100_000, '{"id": 1}', "1" * 5000, '"\\ud800"', "\x00", "NaN"])
def test_stored_utterances_of_another_shape_are_refused_in_one_line(tmp_path, line):
    whole = score(["u"], ["a b"], ["a"], [1.0], split="test", head="streaming")
    write_utterances(whole, tmp_path / "whole.jsonl")
    assert read_utterances(tmp_path / "whole.jsonl") == whole
    (tmp_path / "broken.jsonl").write_text((tmp_path / "whole.jsonl").read_text() + line + "\n")
    with pytest.raises(UserError, match=r"^\S*broken.jsonl:2: [^\n]*; move it away, so that it is made again$"):
        read_utterances(tmp_path / "broken.jsonl")


def test_features_of_tfds_import_no_module(tmp_path, monkeypatch):
    place = tmp_path / "data" / "theirs" / "1.0.0"
    place.mkdir(parents=True)
    (tmp_path / "theirs_module.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    monkeypatch.syspath_prepend(tmp_path)
    for features in (
        {"pythonClassName": "theirs_module.Feature"},
        {"type": "theirs_module.Feature", "content": {}},
        {
            "pythonClassName": "tensorflow_datasets.core.features.features_dict.FeaturesDict",
            "featuresDict": {"features": {"text": {"pythonClassName": "theirs_module.Feature"}}},
        },
    ):
        (place / "features.json").write_text(json.dumps(features))
        (place / "dataset_info.json").write_text(
            json.dumps({"name": "theirs", "version": "1.0.0", "fileFormat": "array_record"})
        )
        with pytest.raises(UserError, match="the feature theirs_module.Feature is not one of TFDS's own"):
            open_source(TfdsSource(name="theirs", split="train", data_dir=str(tmp_path / "data")))
    assert not (tmp_path / "ran").exists() and "theirs_module" not in sys.modules


def test_a_corpus_is_not_built_where_a_config_says(tmp_path):
    with pytest.raises(UserError, match="joint-st data build spoken_grammar/tiny --data-dir "):
        open_source(TfdsSource(name="spoken_grammar/tiny", split="test", data_dir=str(tmp_path / "anywhere")))
    assert not (tmp_path / "anywhere").exists()


@pytest.mark.parametrize("name", ["config.json", "tokenizer", "tokenizer/tokenizer.json", "evaluations", "report.html"])
def test_a_link_out_of_a_run_is_refused(run, tmp_path, name):
    place, outside = run.root / name, tmp_path / "outside"
    if place.exists():
        place.rename(outside)
    else:
        outside.mkdir()
    place.symlink_to(outside)
    with pytest.raises(UserError, match=r"a link that leads out of the run, to .*outside; copy"):
        existing_run(run.root)
    assert main(["evaluate", str(run.root)]) == 2 == main(["report", str(run.root)])


def test_links_inside_a_run_and_of_its_checkpoints_and_itself_are_none_of_that(run, tmp_path):
    (tmp_path / "scratch").mkdir()
    (run.root / "checkpoints").symlink_to(tmp_path / "scratch")
    (run.root / "latest").symlink_to("tokenizer")
    (tmp_path / "other").symlink_to(run.root)
    existing_run(tmp_path / "other")


def test_what_is_written_follows_no_link(tmp_path):
    mine = tmp_path / "mine"
    mine.write_text("mine")
    for draft in (storage.draft_of(Path("table.json")).name, "table.partial"):
        (tmp_path / draft).symlink_to(mine)
    (tmp_path / "table.json").symlink_to(mine)
    storage.write_whole(tmp_path / "table.json", "theirs")
    storage.append_file(tmp_path / "table.csv", "theirs").close()
    assert mine.read_text() == "mine" and (tmp_path / "table.json").read_text() == "theirs"
    assert not (tmp_path / "table.json").is_symlink()


@pytest.mark.parametrize("name", ["../../x", "/etc/x", "..", "a/../../b", "...", "~/x"])
def test_ids_and_splits_lead_nowhere(run, tmp_path, name):
    place = run.evaluation(3, [name]).resolve()
    assert place.parent == run.evaluations.resolve()
    aligned = Aligned(id=name, seconds=1.0, text="", head="streaming", log_prob=None, words=(), written=(), units=None)
    Destination("textgrid", tmp_path / "out", "test").write([aligned])
    assert [file.parent for file in tmp_path.rglob("*.TextGrid")] == [tmp_path / "out"]


def test_a_variable_that_is_no_path_is_not_printed(monkeypatch, tmp_path):
    monkeypatch.setenv("SECRET_KEY", "hunter2+abc")
    monkeypatch.setenv("CORPORA", str(tmp_path))
    for written in ("$SECRET_KEY", "$CORPORA/$SECRET_KEY", "/a/${SECRET_KEY}.jsonl", "~/$SECRET_KEY"):
        with pytest.raises(UserError) as caught:
            open_source(TextSource(path=written))
        assert "hunter2" not in str(caught.value) and written in str(caught.value)
    with pytest.raises(UserError, match=rf"^{tmp_path}/x.txt \(from \$CORPORA/x.txt\): no such file"):
        open_source(TextSource(path="$CORPORA/x.txt"))


def test_a_folder_in_tmp_that_another_made_is_not_taken(tmp_path, monkeypatch):
    (tmp_path / "home").touch()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(paths.tempfile, "gettempdir", lambda: str(tmp_path))
    (tmp_path / "theirs").mkdir()
    (tmp_path / f"joint_st_index_{os.getuid()}").symlink_to(tmp_path / "theirs")
    with pytest.raises(UserError, match="not a folder of this user's"):
        paths.cache_folder("index")
    assert paths.cache_folder("phonemes").stat().st_mode & 0o077 == 0


def test_no_table_and_no_message_obeys_a_name():
    odd = ("[/red] [link=x]y[/link]", "{0.__class__} %s", "\x1b[2J\x1b]0;t\x07", "\u202eevil", "[bold")
    scored = []
    for name in odd:
        scored += score(["u"], ["a"], ["b"], [1.0], split=name, head="streaming", decoder=f"beam 4, word 3-gram {name}")
    out = io.StringIO()
    rows = make_rows(scored, normalizer="basic v1", step=1, samples=100)
    rich.console.Console(file=out, width=200).print(make_table(rows))
    shown = out.getvalue()
    assert "[/red] [link=x]y[/link]" in shown and "{0.__class__} %s" in shown and "[bold" in shown
    assert not set("\x1b\x07\u202e") & set(shown)
    assert printable("a\tb\r\n\u2028\ud800 é ‍क") == "a\\tb\\r\\n\\u2028\\ud800 é ‍क"


def test_a_message_of_the_command_is_one_line_whatever_it_names(capsys, tmp_path):
    assert main(["evaluate", str(tmp_path / "a\nb\x1b[31m\u2028")]) == 2
    told = capsys.readouterr().err
    assert len(told.splitlines()) == 1 and "\x1b" not in told


def test_a_long_message_keeps_what_is_wrong_and_what_to_do():
    text = told(UserError(f"x.jsonl:3: duration is {'1' * 100_000}; it must be a number of seconds"))
    assert len(text) <= 2000 and text.startswith("x.jsonl:3: duration") and text.endswith("must be a number of seconds")


def _strings(tree, replace):
    """Return the tree with every string that is no key replaced."""
    if isinstance(tree, dict):
        return {key: _strings(value, replace) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_strings(value, replace) for value in tree]
    return replace(tree) if isinstance(tree, str) else tree


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_in_every_place_of_a_report_stays_text(tmp_path, text):
    data = _strings(content(tmp_path, 3), lambda value: f"{text}{value}")
    data["utterances"][0]["groups"][text] = text
    page = make_page(data)
    parsed = Page(page)
    assert len(parsed.scripts) == 2 and json.loads(parsed.scripts[0]) == data
    assert parsed.tags.count("img") == 0 and all(address.startswith(("#", "data:")) for address in parsed.addresses)
    head = page[: page.index("<style>")]
    assert "<script" not in head and "onerror=" not in head.replace("&lt;img src=x onerror=", "")


def test_configs_are_read_as_values(run):
    assert isinstance(load(run.root), Config)
    written = json.loads(run.config.read_text())
    written["name"] = "{0.__class__.__init__.__globals__} $HOME ${HOME} ~ `id` $(id)"
    run.config.write_text(json.dumps(written))
    assert load(run.root).name == written["name"]
