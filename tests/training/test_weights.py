"""Where the weights of a run come from: its own checkpoints, another run, its seed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

from joint_st.cli import main
from joint_st.config import InitConfig, override, save
from joint_st.data.tokenizers import Characters
from joint_st.distributed.mesh import make_mesh
from joint_st.errors import UserError
from joint_st.runs.checkpoints import Checkpoints, named_leaves
from joint_st.runs.directory import RunDirectory, open_run
from joint_st.training.setup import open_symbols
from joint_st.training.step import init_state, make_init, state_shapes
from joint_st.training.weights import starting_state
from tests.tiny import saved_arrays, tiny_config

pytestmark = pytest.mark.filterwarnings("ignore:Sharding info not provided")

UNITS = {"data.units.kind": "characters", "data.text_batch_size": 4, "losses.reconstruction.full_context": 0.5}


def save_untrained(config, folder: Path, seeds: dict[int, tuple[int, int]], wers: dict[int, float]) -> RunDirectory:
    """A run with a checkpoint at each step of `seeds`, its weights and their average drawn from two seeds."""
    run, mesh = open_run(folder, config), make_mesh(config.parallel)
    sizes = open_symbols(config, run).sizes
    drawn = jax.jit(lambda seed: init_state(config, sizes, seed))
    with jax.set_mesh(mesh), Checkpoints(run.checkpoints, keep_latest=9) as checkpoints:
        for step, (seed, seed_of_average) in seeds.items():
            state = drawn(np.uint32(seed))._replace(
                step=np.int32(step), average=drawn(np.uint32(seed_of_average)).params
            )
            checkpoints.save(step, state, {"step": step, "wer": wers[step]}, wers[step])
    return run


@pytest.fixture(scope="module")
def source(once, corpora) -> Path:
    """A run with text units; the second of three checkpoints is the best."""
    wers = {3: 0.5, 5: 0.2, 8: 0.4}
    seeds = {step: (step, 10 * step) for step in wers}
    return once("source", lambda folder: save_untrained(tiny_config(corpora, UNITS), folder, seeds, wers) and None)


def begin(config, folder: Path):
    """(state, facts, summary) that a run in `folder` begins with, made in this process."""
    run, mesh = open_run(folder, config), make_mesh(config.parallel)
    symbols = open_symbols(config, run)
    with jax.set_mesh(mesh), Checkpoints(run.checkpoints) as checkpoints:
        return starting_state(
            config,
            checkpoints,
            symbols,
            lambda sizes: state_shapes(config, sizes, mesh),
            make_init(config, symbols.sizes, mesh),
        )


def arrays(tree) -> dict[str, np.ndarray]:
    return {name: np.asarray(x) for name, x in named_leaves(tree).items()}


def fresh(config, folder: Path) -> dict[str, np.ndarray]:
    """The weights from the seed alone."""
    return arrays(begin(override(config, {"training.init": InitConfig()}), folder).state.params)


def assert_from(found: dict, expected: dict, part: str = "", names=None) -> None:
    """Bit for bit; `part` is how names of `expected` begin."""
    for name in found if names is None else names:
        assert found[name].tobytes() == expected[part + name].tobytes(), name


def taking(corpora, source, **init):
    """A config that takes weights of `source`; `init` are the further fields of `training.init`."""
    return tiny_config(corpora, {**UNITS, "training.init": {"run": str(source), **init}})


def message(config, folder) -> str:
    with pytest.raises(UserError) as caught:
        begin(config, folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    "init, step, part",
    [
        ({}, 5, "average."),
        ({"average": False}, 5, "params."),
        ({"checkpoint": "latest"}, 8, "average."),
        ({"checkpoint": "3"}, 3, "average."),
    ],
)
def test_all_weights_are_those_of_the_checkpoint(corpora, source, tmp_path, init, step, part):
    state, facts, summary = begin(taking(corpora, source, **init), tmp_path)
    stored, params = saved_arrays(source, step), arrays(state.params)
    assert {part + name for name in params} == {name for name in stored if name.startswith(part)}
    assert_from(params, stored, part)
    assert_from(arrays(state.average), stored, part)
    assert facts == {"init": {"run": str(source), "step": step}}
    assert summary == f"weights  {len(params)} of {len(params)} arrays are those of step {step} of {source}"
    # All else is as before the first step, whatever the other run had done.
    assert int(state.step) == 0 and int(state.seed) == 0
    for name, x in arrays(state.optimizer).items():
        assert not x.any(), name
    # Not the same memory: a step is given all of it to write into.
    for a, b in zip(jax.tree.leaves(state.params), jax.tree.leaves(state.average)):
        assert a.unsafe_buffer_pointer() != b.unsafe_buffer_pointer()


def test_parts_are_taken_or_left_as_patterns_say(corpora, source, tmp_path):
    config = taking(corpora, source, include=["audio", "*_head", "streaming.*.bias"], exclude=["unit_head"])
    state, _, summary = begin(config, tmp_path / "run")
    params, stored, drawn = arrays(state.params), saved_arrays(source, 5), fresh(config, tmp_path / "fresh")
    taken = {name for name in params if name.startswith(("audio.", "streaming_head.", "full_context_head."))}
    taken |= {name for name in params if name.startswith("streaming.") and name.endswith(".bias")}
    assert len(taken) > 20 and params.keys() - taken
    assert_from(params, stored, "average.", taken)
    assert_from(params, drawn, "", params.keys() - taken)
    assert_from(arrays(state.average), params)
    assert any(not np.array_equal(stored[f"average.{name}"], drawn[name]) for name in taken)
    assert f"weights  {len(taken)} of {len(params)} arrays" in summary
    assert "; drawn from the seed: front_end." in summary and summary.endswith(" more")


def test_parts_are_renamed(corpora, source, tmp_path):
    """The source's full-context layer becomes the streaming one, and both heads are exchanged."""
    pairs = {
        "full_context.*": "streaming.*",
        "streaming": "spare",
        "streaming_head.*.bias": "full_context_head.*.bias",
        "streaming_head": "full_context_head",
        "full_context_head": "streaming_head",
    }
    config = taking(corpora, source, rename=pairs, exclude=["full_context", "spare"])
    params, stored = arrays(begin(config, tmp_path / "run").state.params), saved_arrays(source, 5)
    drawn = fresh(config, tmp_path / "fresh")
    for name, value in params.items():
        part, _, rest = name.partition(".")
        of = {
            "streaming": "full_context",
            "streaming_head": "full_context_head",
            "full_context_head": "streaming_head",
        }.get(part, part)
        expected = drawn[name] if part == "full_context" else stored[f"average.{of}.{rest}"]
        assert value.tobytes() == expected.tobytes(), name


def test_own_checkpoints_come_before_the_other_run(corpora, source, tmp_path):
    config = taking(corpora, tmp_path / "other")
    shutil.copytree(source, tmp_path / "other")
    run = save_untrained(config, tmp_path / "run", {2: (70, 71), 4: (72, 73)}, {2: 0.1, 4: 0.9})
    shutil.rmtree(tmp_path / "other")  # not needed any more
    state, facts, summary = begin(config, run.root)
    assert int(state.step) == 4 and not summary and facts == {"init": None}
    stored = saved_arrays(run.root, 4)
    assert_from(arrays(state.params), stored, "params.")
    assert_from(arrays(state.average), stored, "average.")
    # Without one, the other run is asked for.
    assert message(config, tmp_path / "new") == f"{tmp_path / 'other'}: no such directory"


def test_neither_is_fresh(corpora, tmp_path):
    config = tiny_config(corpora, UNITS | {"seed": 5})
    state, facts, summary = begin(config, tmp_path)
    expected = make_init(config, open_symbols(config, RunDirectory(tmp_path)).sizes, make_mesh(config.parallel))()
    jax.tree.map(np.testing.assert_array_equal, state, expected)
    assert facts == {"init": None} and not summary


def test_other_shapes_are_refused_with_both_or_allowed(corpora, source, tmp_path):
    config = override(taking(corpora, source), {"model.kernel": 5})
    name = "audio.layers.modules.2.depthwise.filters"
    there, here = "(1, 3, 16)", "(1, 5, 16)"
    assert message(config, tmp_path / "a") == (
        f"training.init.run: {name} is {there} in {source} and {here} in this run (and 2 more weights); "
        "leave it out (training.init.exclude), or allow it to differ (training.init.allow)"
    )
    config = override(config, {"training.init.allow": ["*.depthwise.filters", "audio"]})
    params, drawn = (arrays(begin(config, tmp_path / "b").state.params), fresh(config, tmp_path / "c"))
    differing = {name for name in params if name.endswith("filters")}
    assert len(differing) == 3
    assert_from(params, drawn, "", differing)
    assert_from(params, saved_arrays(source, 5), "average.", params.keys() - differing)


def test_absent_weights_are_refused_or_allowed(corpora, source, tmp_path):
    """A text layer that the other run has not, and text that this run has not."""
    more = override(taking(corpora, source), {"model.text_layers": 1})
    assert "is absent in" in message(more, tmp_path / "a") and "and (1, 16, 2, 8) in this run" in message(
        more, tmp_path / "a"
    )
    more = override(more, {"training.init.allow": ["text.layers"]})
    params, drawn = arrays(begin(more, tmp_path / "b").state.params), fresh(more, tmp_path / "c")
    added = {name for name in params if name.startswith("text.layers.")}
    assert len(added) > 10
    assert_from(params, drawn, "", added)
    assert_from(params, saved_arrays(source, 5), "average.", params.keys() - added)

    less = tiny_config(corpora, {"training.init.run": str(source)})
    expected = f"training.init.run: text.embed.embedding is (29, 16) in {source} and absent in this run (and 3 more"
    assert message(less, tmp_path / "d").startswith(expected)
    for way in ("exclude", "allow"):
        less = override(less, {f"training.init.{way}": ["text", "unit_head"]})
        assert_from(arrays(begin(less, tmp_path / way).state.params), saved_arrays(source, 5), "average.")


@pytest.mark.parametrize("size", [0, 3])
def test_other_labels_are_refused_where_they_matter(corpora, source, tmp_path, size):
    """As many labels in another order, or more of them."""
    own = json.loads((source / "tokenizer" / "tokenizer.json").read_text())["characters"]
    Characters([*reversed(own), *"xyz"[:size].upper()]).save(tmp_path / "labels")
    config = override(taking(corpora, source), {"data.tokenizer.path": str(tmp_path / "labels")})
    n = len(own) + 2
    assert message(config, tmp_path / "a") == (
        f"training.init.run: full_context_head.linear.bias is ({n},) in {source} and ({n + size},) in this run, and the "
        f"labels are not the same (and 3 more weights); set data.tokenizer.path to {source / 'tokenizer'}, or leave it "
        "out (training.init.exclude), or allow it to differ (training.init.allow)"
    )
    heads = ["full_context_head", "streaming_head"]
    for way in ("exclude", "allow"):
        other = override(config, {f"training.init.{way}": heads})
        params = arrays(begin(other, tmp_path / way).state.params)
        drawn = fresh(config, tmp_path / f"{way}_fresh")
        left = {name for name in params if name.startswith(tuple(heads))}
        assert len(left) == 4
        assert_from(params, drawn, "", left)
        assert_from(params, saved_arrays(source, 5), "average.", params.keys() - left)
    same = override(config, {"data.tokenizer.path": str(source / "tokenizer")})
    assert_from(arrays(begin(same, tmp_path / "same").state.params), saved_arrays(source, 5), "average.")


def test_other_units_are_refused_where_they_matter(corpora, source, tmp_path):
    config = override(taking(corpora, source), {"data.units": {"kind": "sentencepiece", "vocabulary_size": 40}})
    assert message(config, tmp_path / "a").startswith(
        f"training.init.run: text.embed.embedding is (29, 16) in {source} and (40, 16) in this run, and the text units "
        "are not the same (and 2 more weights); leave it out"
    )
    config = override(config, {"training.init.exclude": ["text.embed", "unit_head"]})
    params = arrays(begin(config, tmp_path / "b").state.params)
    kept = {name for name in params if not name.startswith(("text.embed", "unit_head"))}
    assert_from(params, saved_arrays(source, 5), "average.", kept)


@pytest.mark.parametrize(
    "init, expected",
    [
        (
            {"exclude": ["streming_head"]},
            "exclude: streming_head fits no weight of this run or of {source}; did you mean ",
        ),
        ({"rename": {"encoder": "audio"}}, "rename: encoder fits no weight of {source}; "),
        ({"rename": {"streaming": "audio"}}, "rename: audio.{a} and streaming.{a} of {source} both become audio.{a}"),
        (
            {"include": ["audio"], "exclude": ["audio"]},
            ": no weight of {source} is taken; correct include, exclude or allow",
        ),
        ({"checkpoint": "4"}, "no checkpoint '4'; there are best, latest, 3, 5, 8"),
    ],
)
def test_mistakes(corpora, source, tmp_path, init, expected):
    a = "layers.modules.0.inner.bias"
    assert expected.format(source=source, a=a) in message(taking(corpora, source, **init), tmp_path / "run")


def test_mistakes_that_the_config_tells(corpora):
    for changes, expected in (
        ({"exclude": "text"}, "training.init.exclude: text, but init.run names no run to take weights from"),
        ({"run": "x", "checkpoint": "first"}, "training.init.checkpoint: first is neither best nor latest nor a step"),
        ({"run": "x", "rename": {"a.*": "b"}}, "training.init.rename: a.* and b must have the same number of *"),
    ):
        with pytest.raises(UserError) as caught:
            tiny_config(corpora, {f"training.init.{name}": value for name, value in changes.items()})
        assert str(caught.value) == expected


def test_a_run_of_another_kind_is_refused(corpora, tmp_path):
    from joint_st.config import LmConfig

    save(LmConfig(data={"train": [{"kind": "text", "path": "x.txt"}]}), tmp_path / "lm" / "config.json")
    assert message(taking(corpora, tmp_path / "lm"), tmp_path / "run") == (
        f"{tmp_path / 'lm' / 'config.json'}: a config that `joint-st train-lm` takes, not `joint-st train`"
    )


def test_from_a_bucket(cloud, bucket, corpora, source, tmp_path):
    cloud.upload(source, bucket, "source")
    state, facts, summary = begin(taking(corpora, f"gs://{bucket}/source"), tmp_path / "run")
    assert_from(arrays(state.params), saved_arrays(source, 5), "average.")
    assert facts == {"init": {"run": f"gs://{bucket}/source", "step": 5}}
    assert summary.endswith(f"of step 5 of gs://{bucket}/source")


def test_trained_on(corpora, source, tmp_path, capfd):
    """The command trains on from the weights of another run, and says so; what it goes on from is its own."""
    config = taking(corpora, source, exclude=["streaming_head"])
    save(override(config, {"data.dev": [], "data.test": {}, "training.steps": 2}), tmp_path / "mine.json")
    command = ["train", str(tmp_path / "mine.json"), "--workdir", str(tmp_path / "run")]
    assert main(command) == 0
    said = [line for line in capfd.readouterr().err.splitlines() if line.startswith("weights  ")]
    assert len(said) == 1 and f"are those of step 5 of {source}; drawn from the seed: streaming_head." in said[0]
    origin = {"run": str(source), "step": 5}
    with Checkpoints(tmp_path / "run" / "checkpoints", read_only=True) as checkpoints:
        assert checkpoints.facts(2)["init"] == origin
    assert main([*command, "--training.steps", "3"]) == 0
    assert "weights  " not in capfd.readouterr().err
    with Checkpoints(tmp_path / "run" / "checkpoints", read_only=True) as checkpoints:
        assert checkpoints.facts(3)["init"] == origin
