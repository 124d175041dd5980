"""The command line: its imports, the calls that it makes, and its errors about mistakes."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import types
from pathlib import Path

import pytest

from joint_st.cli import _command, main
from joint_st.config import ManifestSource, TfdsSource
from joint_st.decoding.decoders import Beam, Greedy
from joint_st.decoding.fusion import Weights
from joint_st.decoding.fusion.build import FusionFiles
from joint_st.decoding.rescoring import RescoringWeights
from joint_st.runs.directory import open_run
from tests.tiny import small_config


@pytest.fixture
def config(tmp_path) -> Path:
    return small_config(tmp_path)


@pytest.fixture
def run(config) -> Path:
    from joint_st.config import load

    return open_run(config.with_name("run"), load(config)).root


def test_warnings_are_printed_as_lines_of_their_own(config, monkeypatch, capsys):
    def train(*arguments):
        logging.basicConfig()  # absl does this when Orbax is imported
        logging.getLogger("joint_st.data.dataset").warning("left out %s: %s", "nope", "no such file")

    monkeypatch.setattr(logging.root, "handlers", [])
    monkeypatch.setitem(sys.modules, "joint_st.training.asr", types.SimpleNamespace(train_asr=train))
    assert main(["train", str(config)]) == 0
    assert capsys.readouterr().err == "left out nope: no such file\n"


@pytest.fixture
def stand_in(monkeypatch):
    """Replace the function that does the work, and return the calls to it."""

    def put(module: str, function: str, result=None):
        calls = []
        stub = types.ModuleType(module)
        setattr(stub, function, lambda *arguments, **keywords: (calls.append((arguments, keywords)), result)[1])
        monkeypatch.setitem(sys.modules, module, stub)
        return calls

    return put


def imported(*arguments: str) -> set[str]:
    """Modules that a run of the command imports."""
    program = (
        "import json, sys\nfrom joint_st.cli import main\n"
        "try: main(sys.argv[1:])\nexcept SystemExit: pass\n"
        "print(json.dumps(list(sys.modules)), file=sys.stderr)"
    )
    # A coverage or distribution plugin of pytest must not bring its own modules in.
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=True)
    return set(json.loads(done.stderr.splitlines()[-1]))


HEAVY = {"jax", "flax", "optax", "orbax", "grain", "numpy", "tensorflow_datasets", "rich"}


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["train"],
        ["train-lm"],
        ["evaluate"],
        ["analyze"],
        ["confusions"],
        ["report"],
        ["score"],
        ["transcribe"],
        ["align"],
        ["compile"],
        ["data"],
        ["data", "inspect"],
    ],
)
def test_help_imports_nothing_heavy(arguments):
    assert imported(*arguments, "--help") & (HEAVY | {"pydantic"}) == set()


def test_showing_a_config_imports_no_jax(config):
    assert imported("train", str(config), "--print-config") & HEAVY == set()
    assert imported("train", str(config), "--help") & HEAVY == set()


def test_openblas_gets_one_thread_unless_told_otherwise(monkeypatch, capsys, config):
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    main(["train", str(config), "--print-config"])
    assert os.environ["OPENBLAS_NUM_THREADS"] == "1"
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "3")
    main(["train", str(config), "--print-config"])
    assert os.environ["OPENBLAS_NUM_THREADS"] == "3"


def test_every_command_has_examples(capsys):
    for command in (
        ["train"],
        ["train-lm"],
        ["evaluate"],
        ["analyze"],
        ["confusions"],
        ["report"],
        ["score"],
        ["transcribe"],
        ["align"],
        *(["data", c] for c in ("build", "tokenizer", "ngram", "inspect", "synthesize")),
    ):
        try:
            main([*command, "--help"])
        except SystemExit as exit:
            assert exit.code == 0
        assert f"joint-st {' '.join(command)}" in capsys.readouterr().out.split("example")[1]


def test_with_is_in_the_usage_of_the_command_that_takes_it(capsys):
    for command, usage in ((["--help"], "joint-st [-h] [--with FILE]"), (["data", "--help"], "joint-st data [-h]")):
        with pytest.raises(SystemExit):
            main(command)
        assert capsys.readouterr().out.startswith(f"usage: {usage} COMMAND ...\n")


@pytest.mark.parametrize("command", ["train", "doctor"])
def test_help_of_a_config_shows_its_docstring_and_its_fields(command, capsys, config):
    assert main([command, str(config), "--model.width", "256", "--help"]) == 0
    out = capsys.readouterr().out
    assert "A small config.\n\nWER 3 %." in out
    assert "--model.width INTEGER   = 256\n      Width of every layer (D)." in out


def test_print_config_is_the_resolved_config(capsys, config):
    assert main(["train", "--data.strict", str(config), "--parallel.data", "-1", "--print-config"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.split() == ["data.strict", "=", "true", "#", "default", "false"] for line in lines)


def test_train_gets_the_config_and_the_directory(stand_in, config):
    calls = stand_in("joint_st.training.asr", "train_asr")
    assert main(["train", str(config), "--model.width=256"]) == 0
    assert main(["train", str(config), "--workdir", "elsewhere"]) == 0
    (first, default, _), (_, given, _) = (arguments for arguments, _ in calls)
    assert (first.model.width, default, given) == (256, Path("runs/small"), Path("elsewhere"))


@pytest.mark.parametrize(
    "options, expected",
    [
        ([], None),
        (["--profile"], range(0)),
        (["--profile", "--model.width", "256"], range(0)),
        (["--profile", "3:8", "--model.width", "256"], range(3, 8)),
        (["--model.width=256", "--profile=0:1"], range(0, 1)),
    ],
)
def test_steps_to_trace(stand_in, config, options, expected):
    calls = stand_in("joint_st.training.asr", "train_asr")
    assert main(["train", str(config), *options]) == 0
    assert main(["train", *options, "--workdir", "elsewhere", str(config)]) == 0
    for (found, _, traced), _ in calls:
        assert traced == expected and found.model.width == (256 if len(options) > 1 else 144)


def test_evaluate_passes_sources_and_files_on(stand_in, run):
    calls = stand_in("joint_st.evaluation.evaluate", "evaluate_runs")
    assert main(["evaluate", str(run)]) == 0
    arguments = [
        "--data",
        "a=x.jsonl",
        "b=tfds:g:test[:9]",
        "--data",
        "c=y=z",
        "--checkpoint",
        "100",
        "latest",
        "--json",
        "t",
        *["--head", "full_context", "--by", "noise", "speaker", "noise", "--errors"],
        *["--decoder", "beam", "greedy", "beam", "--beam", "4"],
        *["--window-seconds", "12.5"],
        *["--lm", "lm.arpa", "--lm-weight", "0.7", "--insertion-bonus", "-1", "--unknown-penalty", "3", "--tune"],
        *["--nbest", "3", "--calibrate", "d=x.jsonl"],
    ]
    assert main(["evaluate", str(run), *arguments]) == 0
    default, given = (keywords for _, keywords in calls)
    assert default == {
        "checkpoints": ["best"],
        "data": {},
        "passes": ("streaming", "full_context"),
        "decoders": [Greedy()],
        "by": [],
        "draw": "utterances",
        "errors": False,
        "nbest": 0,
        **dict.fromkeys(("fusion", "tune", "calibrate", "window_seconds", "json_file", "jsonl_file", "look_ahead_ms")),
    }
    assert given["data"] == {
        "a": ManifestSource(path="x.jsonl"),
        "b": TfdsSource(name="g", split="test[:9]"),
        "c": ManifestSource(path="y=z"),
    }
    assert (given["checkpoints"], given["json_file"]) == (["100", "latest"], Path("t"))
    assert (given["passes"], given["by"], given["errors"]) == (("full_context",), ["noise", "speaker"], True)
    assert given["decoders"] == [Beam(beam=4), Greedy()]
    rescoring = RescoringWeights(unknown_penalty=3.0)
    expected = FusionFiles(Path("lm.arpa"), None, Weights(0.7, -1.0, 3.0), rescoring_weights=rescoring)
    assert given["fusion"] == expected
    assert (given["tune"], given["window_seconds"]) == ({}, 12.5)
    assert (given["nbest"], given["calibrate"]) == (3, {"d": ManifestSource(path="x.jsonl")})


def test_streams_are_of_one_checkpoint_of_one_run(capsys, run):
    for arguments, message in (
        ([str(run), "--stream"], "--stream: one RUN and one --checkpoint at a time"),
        (["--stream", "--checkpoint", "1", "2"], "--stream: one RUN and one --checkpoint at a time"),
        (["--stream", "--by", "speaker"], "--by: --stream decodes greedily and with both heads; leave it out"),
        (["--stream", "--errors"], "--errors: --stream decodes greedily and with both heads; leave it out"),
        (["--stream", "--calibrate"], "--calibrate: --stream decodes greedily and with both heads; leave it out"),
        ([str(run), "--decoder", "beam", "--beam", "4", "--nbest", "5"], "--nbest 5: the beam keeps 4 hypotheses"),
    ):
        assert main(["evaluate", str(run), *arguments]) == 2
        assert message in capsys.readouterr().err


def test_compare_passes_both_checkpoints_on(stand_in, run):
    calls = stand_in("joint_st.evaluation.compare", "compare_runs")
    for given, expected in (([], ("best", "best")), (["7"], ("7", "7")), (["7", "latest"], ("7", "latest"))):
        assert main(["compare", str(run), str(run), *(["--checkpoint", *given] if given else [])]) == 0
        arguments, keywords = calls[-1]
        assert arguments == (run, run) and keywords["checkpoints"] == expected
        assert (keywords["data"], keywords["decoders"]) == ({}, [Greedy()])


def test_transcribe_prints_names_only_for_several_files(stand_in, capsys, run, tmp_path):
    one, two = tmp_path / "1.wav", tmp_path / "2.wav"
    one.touch()
    two.touch()
    calls = stand_in("joint_st.decoding.transcribe", "transcribe_files", [(one, "one")])
    assert main(["transcribe", str(run), str(one), "--head", "streaming"]) == 0
    assert capsys.readouterr().out == "one\n"
    expected = {"head": "streaming", "decoder": Greedy(), "checkpoint": "best"}
    [((directory, files), keywords)] = calls
    assert (directory, files.paths) == (run, (one,))
    assert keywords == {**expected, **dict.fromkeys(("fusion", "window_seconds", "look_ahead_ms"))}
    stand_in("joint_st.decoding.transcribe", "transcribe_files", [(one, "one"), (two, "two")])
    assert main(["transcribe", str(run), str(one), str(two)]) == 0
    assert capsys.readouterr().out == f"{one}\tone\n{two}\ttwo\n"


@pytest.mark.parametrize(
    "arguments, line",
    [
        ("trian", "invalid choice: 'trian' (choose from"),
        ("", "the following arguments are required: COMMAND (see `joint-st --help`)"),
        ("data bild", "invalid choice: 'bild' (choose from"),
        ("data build nope", "nope: this package builds no such corpus; it builds spoken_grammar"),
        ("train", "CONFIG is missing (see `joint-st train --help`)"),
        ("train {missing}", "{missing}: no such file"),
        ("train {config} more", "unrecognized arguments: more"),
        ("train {config} --model.widht 3", "model.widht: unknown key (= 3); did you mean model.width?"),
        ("train {config} --workdri x", "--workdri: unknown option; did you mean --workdir?"),
        ("train {config} --with mine.py", "--with: stands before the command: joint-st --with FILE COMMAND"),
        (
            "evaluate {run} --with mine.py",
            "unrecognized arguments: --with mine.py; it stands before the command: joint-st",
        ),
        ("--with {missing} evaluate {run}", "{missing}: no such file"),
        ("--with", "argument --with: expected one argument (see `joint-st --help`)"),
        ("train {config} --profile 15:10", "argument --profile: 15:10 has no step in it; FROM must be below TO"),
        ("train {config} --profile 10", "argument --profile: '10' is not FROM:TO, two whole numbers such as 10:15"),
        ("train {config} --profile 10:-1", "argument --profile: '10:-1' is not FROM:TO"),
        ("train {config} --profile 0:101", "argument --profile: 0:101 has 101 steps, whose trace no tool opens"),
        ("train --profile wrong.py", "argument --profile: 'wrong.py' is not FROM:TO"),
        ("train-lm", "CONFIG is missing (see `joint-st train-lm --help`)"),
        ("train-lm {config}", "{config}: config() returned Config, not joint_st.config.LmConfig; `joint-st train`"),
        ("train {config} --model.heads 5", "model.heads: 5 heads must divide width 144 into even parts"),
        ("data tokenizer {config}", "--out DIR is missing (see `joint-st data tokenizer --help`)"),
        ("data ngram {config}", "--out FILE is missing (see `joint-st data ngram --help`)"),
        ("data ngram {config} --order 0 --out x", "argument --order: '0' is not a whole number from 1 to 20"),
        (
            "data synthesize text:x",
            "the following arguments are required: --out (see `joint-st data synthesize --help`)",
        ),
        (
            "data synthesize text:x --out x --most 0",
            "argument --most: '0' is not a whole number from 1 to 1,000,000,000",
        ),
        ("evaluate", "the following arguments are required: RUN (see `joint-st evaluate --help`)"),
        ("evaluate {missing}", "{missing}: no such directory"),
        (
            "evaluate {run} --data x.jsonl",
            "--data x.jsonl: written NAME=SOURCE, as in mine=corpus/test.jsonl",
        ),
        (
            "evaluate {run} --data a=tfds:b",
            "tfds:b: names no split; a TFDS dataset is written tfds:NAME:SPLIT",
        ),
        (
            "evaluate {run} --checkpoint bst",
            "argument --checkpoint: 'bst' is neither best, latest nor a step",
        ),
        ("evaluate {run} --widht 3", "unrecognized arguments: --widht 3"),
        ("evaluate {run} --hed streaming", "unrecognized arguments: --hed streaming; did you mean --head?"),
        ("compile {config} --topologi v5e:4x4", "--topologi: unknown option; did you mean --topology?"),
        ("evaluate {run} --data a=x.jsonl b=y.jsonl a=z.jsonl", "--data a=z.jsonl: the name a is given twice"),
        ("compare {run} {run} --data a=x.jsonl a=x.jsonl", "--data a=x.jsonl: the name a is given twice"),
        ("evaluate {run} --decoder beam --lm x --tune a=x.jsonl a=y.jsonl", "--tune a=y.jsonl: the name a is given"),
        ("evaluate {run} --nbest 1 --calibrate a=x.jsonl a=y.jsonl", "--calibrate a=y.jsonl: the name a is given"),
        ("evaluate {run} --decoder bean", "argument --decoder: invalid choice: 'bean' (choose from"),
        ("evaluate {run} --beam 4", "--beam: needs the beam search; add --decoder beam"),
        ("evaluate {run} --decoder beam --beam 0", "argument --beam: '0' is not a whole number from 1 to 10,000"),
        ("evaluate {run} --lm x --lm-weight nan", "argument --lm-weight: 'nan' is not a number from 0 to 100"),
        ("evaluate {run} --lm x --lm-weight inf", "argument --lm-weight: 'inf' is not a number from 0 to 100"),
        (
            "transcribe {run} {config} --lm x --lm-weight 1e30",
            "argument --lm-weight: '1e30' is not a number from 0 to 100",
        ),
        (
            "transcribe {run} x --lm x --insertion-bonus 1e30",
            "argument --insertion-bonus: '1e30' is not a number from -100 to",
        ),
        (
            "transcribe {run} x --lm x --unknown-penalty nan",
            "argument --unknown-penalty: 'nan' is not a number from 0 to 1000",
        ),
        (
            "transcribe {run} x --hot-words x --hot-word-bonus inf",
            "argument --hot-word-bonus: 'inf' is not a number from -100",
        ),
        (
            "transcribe {run} x --hot-words x --hot-word-bonus 1e30",
            "argument --hot-word-bonus: '1e30' is not a number from",
        ),
        (
            "transcribe {run} x --rescore x --rescore-weight nan",
            "argument --rescore-weight: 'nan' is not a number from 0 to 1",
        ),
        (
            "transcribe {run} x --rescore x --rescore-bonus inf",
            "argument --rescore-bonus: 'inf' is not a number from -100",
        ),
        (
            "transcribe {run} x --stream --chunk-ms nan",
            "argument --chunk-ms: 'nan' is not a number of ms from 1 to 60000",
        ),
        (
            "transcribe {run} x --stream --chunk-ms inf",
            "argument --chunk-ms: 'inf' is not a number of ms from 1 to 60000",
        ),
        (
            "evaluate {run} --window-seconds inf",
            "argument --window-seconds: 'inf' is not a number of seconds from 2 to 3600",
        ),
        (
            "evaluate {run} --window-seconds nan",
            "argument --window-seconds: 'nan' is not a number of seconds from 2 to 3600",
        ),
        (
            "evaluate {run} --checkpoint " + 30 * "9",
            "argument --checkpoint: '999999999999999999999999999999' is neither best",
        ),
        (
            "evaluate {run} --beam " + 5000 * "9",
            "argument --beam: '99999999999999999999999999999999999999…' is not a whole number from 1 to 10,000",
        ),
        ("transcribe {run} {missing}", "{missing}: no such file"),
        ("transcribe {run} {config} --head ful", "argument --head: invalid choice: 'ful' (choose from"),
        ("align {run} {config}", "give AUDIO and TEXT, or --data NAME=SOURCE (see `joint-st align --help`)"),
        ("align {missing} {config} hello", "{missing}: no such directory"),
        ("align {run} {missing} hello", "{missing}: no such file"),
        ("align {run} {config} said.txt", "said.txt: no such file, and .txt is the ending of a file; correct the path"),
        ("align {run} {config} hello --data a=b.jsonl", "--data a=b.jsonl: takes the place of AUDIO and TEXT"),
        ("align {run} --data a=b.jsonl --format srt", "--format srt writes a file for each utterance: name a folder"),
        ("align {run} {config} hello --format txt", "argument --format: invalid choice: 'txt' (choose from"),
    ],
)
def test_a_mistake_is_one_line_and_status_2(capsys, config, run, arguments, line):
    names = {"config": config, "run": run, "missing": "nowhere/missing"}
    assert main(arguments.format(**names).split()) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"joint-st: error: {line.format(**names)}")
    assert err.count("\n") == 1


@pytest.mark.parametrize("place", ["", ".", ".."])
@pytest.mark.parametrize(
    "arguments",
    [
        "analyze run --json",
        "compare a b --json",
        "compile {config} --topology v5e:2x4 --json",
        "confusions run --output",
        "doctor {config} --json",
        "evaluate run --json",
        "evaluate run --jsonl",
        "score {config} {config} --json",
        *(f"sweep a.py --{form}" for form in ("json", "markdown", "csv", "plot")),
    ],
)
def test_a_folder_is_no_file_to_write(arguments, place, capsys, config):
    assert main([*arguments.format(config=config).split(), place]) == 2
    _, err = capsys.readouterr()
    what = f"{place!r} is a folder" if place else "'' is empty"
    assert err.startswith(f"joint-st: error: argument {arguments.split()[-1]}: {what}; name a file")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        ("sweep a.py -- --nodes 1", "sweep"),
        ("--with a.py sweep b.py", "sweep"),
        ("--with=a.py --with sweep evaluate run", "evaluate"),
        ("--with a.py", ""),
        ("", ""),
    ],
)
def test_the_command_stands_after_the_files_to_run_first(arguments, command):
    assert _command(arguments.split()) == command
