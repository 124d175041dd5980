"""Where the weights of a run come from: its own checkpoints, another run, its seed."""

from __future__ import annotations

import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

from joint_st.config import Config, LmConfig, override, save
from joint_st.data.symbols import Symbols
from joint_st.data.text_units.units import Spelling
from joint_st.data.tokenizers import Characters
from joint_st.errors import UserError
from joint_st.runs.checkpoints import Checkpoints
from tests.tiny import saved_arrays
from tests.training.toy_run import CONFIG, SYMBOLS, arrays, assert_from, begin, init_state, init_weights, save_run

# Orbax is told no shardings when it reads arrays for comparison.
pytestmark = pytest.mark.filterwarnings("ignore:Sharding info not provided")


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """The other run; the second of its three checkpoints is the best."""
    return save_run(tmp_path_factory.mktemp("other") / "run", {3: 30, 5: 50, 8: 80}, {3: 0.5, 5: 0.2, 8: 0.4})


def drawn(**kind) -> dict[str, np.ndarray]:
    """Return the weights that a run has from its seed."""
    return arrays(init_state(SYMBOLS.sizes, CONFIG.seed, **kind).params)


def taking(source, **init) -> Config:
    """Return a config that takes weights of `source`; `init` are the further fields of `training.init`."""
    return override(CONFIG, {"training.init": {"run": str(source), **init}})


def message(*arguments, **options) -> str:
    with pytest.raises(UserError) as caught:
        begin(*arguments, **options)
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
def test_all_weights_are_those_of_the_checkpoint(source, tmp_path, init, step, part):
    state, origin, summary = begin(taking(source, **init), tmp_path)
    stored, params = saved_arrays(source, step), arrays(state.params)
    assert {part + name for name in params} == {name for name in stored if name.startswith(part)}
    assert_from(params, stored, part)
    assert_from(arrays(state.average), stored, part)
    assert origin == {"run": str(source), "step": step}
    assert summary == f"{len(params)} of {len(params)} arrays are those of step {step} of {source}"
    # All else is as before the first step, whatever the other run had done.
    assert int(state.step) == 0 and int(state.seed) == CONFIG.seed
    assert not any(x.any() for x in arrays(state.optimizer).values())
    # Not the same memory: a step is given all of it to write into.
    for a, b in zip(jax.tree.leaves(state.params), jax.tree.leaves(state.average)):
        assert a.unsafe_buffer_pointer() != b.unsafe_buffer_pointer()


def test_parts_are_taken_or_left_as_patterns_say(source, tmp_path):
    config = taking(source, include=["audio", "*_head", "shared.*.bias"], exclude=["unit_head"])
    state, _, summary = begin(config, tmp_path)
    params, stored = arrays(state.params), saved_arrays(source, 5)
    heads = {"shared_head.linear.kernel", "shared_head.linear.bias"}
    taken = {"audio.layers.kernel", "audio.layers.bias", "shared.layers.bias", *heads}
    assert_from(params, stored, "average.", taken)
    assert_from(params, drawn(), "", params.keys() - taken)
    assert_from(arrays(state.average), params)
    assert all(not np.array_equal(stored[f"average.{name}"], drawn()[name]) for name in params)
    assert summary == (
        f"5 of 10 arrays are those of step 5 of {source}; "
        "drawn from the seed: language.embedding, shared.layers.kernel, text.embed.embedding and 2 more"
    )


def test_parts_are_renamed(source, tmp_path):
    """Audio and shared layers are exchanged, and biases have other names."""
    pairs = {
        "audio.*.bias": "shared.*.bias",
        "audio": "shared",
        "shared.layers": "audio.layers",
        "shared_head.*": "shared_head.*",
    }
    params, stored = arrays(begin(taking(source, rename=pairs), tmp_path).state.params), saved_arrays(source, 5)
    exchanged = {"audio": "shared", "shared": "audio"}
    for name, value in params.items():
        part, _, rest = name.partition(".")
        assert value.tobytes() == stored[f"average.{exchanged.get(part, part)}.{rest}"].tobytes(), name


def test_own_checkpoints_come_before_the_other_run(source, tmp_path):
    config = taking(shutil.copytree(source, tmp_path / "other"))
    run = save_run(tmp_path / "run", {2: 70, 4: 72}, {2: 0.1, 4: 0.9})
    save(config, run / "config.json")
    shutil.rmtree(tmp_path / "other")  # not needed any more
    state, origin, summary = begin(config, run)
    jax.tree.map(np.testing.assert_array_equal, state.params, init_state(SYMBOLS.sizes, 72).params)
    jax.tree.map(np.testing.assert_array_equal, state.average, init_state(SYMBOLS.sizes, 73).params)
    assert int(state.step) == 4 and int(state.seed) == 72 and origin is None and not summary
    # Where its weights were from at first, its checkpoints tell.
    first = {"run": "elsewhere", "step": 9}
    with Checkpoints(run / "checkpoints") as checkpoints:
        checkpoints.save(6, init_state(SYMBOLS.sizes, 1), {"step": 6, "wer": 0.5, "init": first}, 0.5)
    assert begin(config, run).origin == first
    # Without one, the other run is asked for.
    assert message(config, tmp_path / "new") == f"{tmp_path / 'other'}: no such directory"


def test_without_either_they_are_fresh(tmp_path):
    state, origin, summary = begin(override(CONFIG, {"seed": 5}), tmp_path)
    jax.tree.map(np.testing.assert_array_equal, state, init_state(SYMBOLS.sizes, 5))
    assert origin is None and not summary


def test_other_shapes_are_refused_with_both_or_allowed(source, tmp_path):
    config = taking(source)
    assert message(config, tmp_path, layers=3) == (
        f"training.init.run: audio.layers.bias is (2, 4) in {source} and (3, 4) in this run (and 1 more weights); "
        "leave it out (training.init.exclude), or allow it to differ (training.init.allow)"
    )
    half = override(config, {"training.init.allow": ["*.kernel"]})
    assert "audio.layers.bias is (2, 4) in" in message(half, tmp_path, layers=3)
    params = arrays(begin(taking(source, allow=["audio", "shared"]), tmp_path / "all", layers=3).state.params)
    own = {"audio.layers.kernel", "audio.layers.bias"}
    assert_from(params, drawn(layers=3), "", own)
    assert_from(params, saved_arrays(source, 5), "average.", params.keys() - own)


def test_absent_weights_are_refused_or_allowed(source, tmp_path):
    """A layer that the other run has not, and text that this run has not."""
    more = taking(source)
    expected = f"training.init.run: text.layer.kernel is absent in {source} and (4, 4) in this run; leave it out"
    assert message(more, tmp_path / "a", text_layer=True).startswith(expected)
    for way in ("allow", "exclude"):
        more = taking(source, **{way: ["text.layer"]})
        params = arrays(begin(more, tmp_path / way, text_layer=True).state.params)
        assert_from(params, drawn(text_layer=True), "", ["text.layer.kernel"])
        assert_from(params, saved_arrays(source, 5), "average.", params.keys() - {"text.layer.kernel"})

    speech = Symbols(SYMBOLS.labels, None, SYMBOLS.languages)
    expected = f"training.init.run: text.embed.embedding is (8, 4) in {source} and absent in this run (and 2 more"
    assert message(taking(source), tmp_path / "b", speech).startswith(expected)
    for way in ("allow", "exclude"):
        less = taking(source, **{way: ["text", "unit_head"]})
        params = arrays(begin(less, tmp_path / f"{way}_text", speech).state.params)
        assert len(params) == 7
        assert_from(params, saved_arrays(source, 5), "average.")


@pytest.mark.parametrize("labels", ["cab", "abcd"])
def test_other_labels_are_refused_where_they_matter(source, tmp_path, labels):
    """The same labels in another order are refused, and one more of them."""
    symbols = Symbols(Characters(labels), SYMBOLS.units, SYMBOLS.languages)
    here = 2 + len(labels)
    assert message(taking(source), tmp_path / "a", symbols) == (
        f"training.init.run: shared_head.linear.bias is (5,) in {source} and ({here},) in this run, and the labels are "
        f"not the same (and 1 more weights); set data.tokenizer.path to {source}/tokenizer, or leave it out "
        "(training.init.exclude), or allow it to differ (training.init.allow)"
    )
    own = {"shared_head.linear.kernel", "shared_head.linear.bias"}
    for way in ("allow", "exclude"):
        params = arrays(begin(taking(source, **{way: ["shared_head"]}), tmp_path / way, symbols).state.params)
        expected = init_weights(symbols.sizes, jax.random.key(CONFIG.seed))
        assert_from(params, arrays(expected), "", own)
        assert_from(params, saved_arrays(source, 5), "average.", params.keys() - own)
    # Where none of them is taken, other labels do not matter.
    begin(taking(source, include=["audio"]), tmp_path / "audio", symbols)


@pytest.mark.parametrize(
    "symbols, name, what",
    [
        (
            Symbols(SYMBOLS.labels, Spelling(Characters("zyxwvu")), SYMBOLS.languages),
            "text.embed.embedding is (8, 4)",
            "text units",
        ),
        (Symbols(SYMBOLS.labels, SYMBOLS.units, ("", "en", "de")), "language.embedding is (3, 4)", "languages"),
    ],
)
def test_other_units_or_languages_are_refused_where_they_matter(source, tmp_path, symbols, name, what):
    assert f"{name} in {source} and (" in message(taking(source), tmp_path, symbols)
    assert f"in this run, and the {what} are not the same" in message(taking(source), tmp_path, symbols)
    begin(taking(source, exclude=["text", "unit_head", "language"]), tmp_path, symbols)


@pytest.mark.parametrize(
    "init, expected",
    [
        ({"exclude": ["shred"]}, "exclude: shred fits no weight of this run or of {source}; did you mean shared?"),
        ({"rename": {"x": "audio"}}, "rename: x fits no weight of {source}; there are audio, language, shared and "),
        (
            {"rename": {"shared": "audio"}},
            "rename: audio.layers.bias and shared.layers.bias of {source} both become audio.layers.bias",
        ),
        (
            {"include": ["audio"], "exclude": ["audio"]},
            ": no weight of {source} is taken; correct include, exclude or allow",
        ),
        ({"checkpoint": "4"}, "{source}/checkpoints: no checkpoint '4'; there are best, latest, 3, 5, 8"),
    ],
)
def test_mistakes(source, tmp_path, init, expected):
    assert expected.format(source=source) in message(taking(source, **init), tmp_path)


@pytest.mark.parametrize(
    "changes, expected",
    [
        ({"exclude": "text"}, "training.init.exclude: text, but init.run names no run to take weights from"),
        ({"run": "x", "checkpoint": "first"}, "training.init.checkpoint: first is neither best nor latest nor a step"),
        ({"run": "x", "rename": {"a.*": "b"}}, "training.init.rename: a.* and b must have the same number of *"),
    ],
)
def test_mistakes_that_the_config_tells(changes, expected):
    with pytest.raises(UserError) as caught:
        override(CONFIG, {f"training.init.{name}": value for name, value in changes.items()})
    assert str(caught.value) == expected


def test_runs_that_have_nothing_to_take(tmp_path):
    lm = LmConfig(data={"train": [{"kind": "text", "path": "x.txt"}]})
    save(lm, tmp_path / "lm" / "config.json")
    assert message(taking(tmp_path / "lm"), tmp_path / "run") == (
        f"{tmp_path / 'lm' / 'config.json'}: a config that `joint-st train-lm` takes, not `joint-st train`"
    )
    save(CONFIG, tmp_path / "begun" / "config.json")
    assert message(taking(tmp_path / "begun"), tmp_path / "run") == (
        f"{tmp_path / 'begun' / 'checkpoints'}: no complete checkpoint; train the run first"
    )


def test_a_relative_path_is_kept_whole(source, tmp_path, monkeypatch):
    monkeypatch.chdir(source.parent)
    monkeypatch.setenv("WHERE", source.name)
    _, origin, summary = begin(taking("$WHERE"), tmp_path)
    assert origin == {"run": str(source), "step": 5} and summary.endswith(f"of step 5 of {source.name}")


def test_from_a_bucket(cloud, bucket, source, tmp_path):
    cloud.upload(source, bucket, "other")
    state, origin, summary = begin(taking(f"gs://{bucket}/other"), tmp_path)
    assert_from(arrays(state.params), saved_arrays(source, 5), "average.")
    assert origin == {"run": f"gs://{bucket}/other", "step": 5}
    assert summary.endswith(f"of step 5 of gs://{bucket}/other")
    assert message(taking(f"gs://{bucket}/othre"), tmp_path) == f"gs://{bucket}/othre: no such directory"
