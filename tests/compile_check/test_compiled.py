"""The step of a small model compiled for eight chips, the report about it, and matrix products counted by hand."""

import dataclasses
import functools
import importlib.util
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.experimental import pallas as pl
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from joint_st.cli import main
from joint_st.compile_check.bounds import Sent
from joint_st.compile_check.check import changes, report, to_json
from joint_st.compile_check.compiled import Compiled, Memory, matrix_flops, memory_needed
from joint_st.config import ModelConfig, load, override, save
from joint_st.config.devices import check_devices
from joint_st.data.symbols import SymbolSizes
from joint_st.distributed.collectives import Collective
from joint_st.distributed.topology import GIB, parse_topology
from joint_st.heads.model import model_structure, weight_shapes
from tests.tiny import CHECKOUT, tiny_config

needs_libtpu = pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="no libtpu: joint_st[tpu]")

LABELS = 16
CHANGES = {"data.batch_size": 8, "data.max_seconds": 2.0, "model.dropout": 0.0}


@needs_libtpu
@pytest.mark.slow
def test_a_step_for_eight_chips(tmp_path, capsys):
    """The model is trained by data parallelism alone, on speech alone."""
    config = tiny_config(tmp_path, CHANGES)
    save(config, tmp_path / "config.json")
    command = ["compile", str(tmp_path), "--topology", "v5e:2x4", "--labels", str(LABELS), "--training.steps", "9"]
    command += ["--price", "2"]
    assert main([*command, "--json", str(tmp_path / "new" / "found.json")]) == 0
    printed, found = capsys.readouterr(), json.loads((tmp_path / "new" / "found.json").read_text())
    assert "fits: 15." in printed.out
    assert "16 labels, 0 text units" in printed.err

    leaves = jax.tree.leaves(weight_shapes(config, SymbolSizes(LABELS)))
    weights = sum(leaf.size for leaf in leaves)
    assert (found["parameters"], found["chips"], found["fits"]) == (weights, 8, True)
    assert found["memory"]["parameters"] == found["memory"]["average"] == 4 * weights
    # AdamW keeps two moments; it and the schedule count steps.
    assert 0 < found["memory"]["optimizer"] - 8 * weights < 100
    samples, labels = 50 * config.model.features.samples_per_frame, 40
    # One utterance: how long it and its text are, the frames its labels need, its language, and whether it is there.
    assert found["memory"]["batch"] == samples * 2 + labels * 4 + 4 * 4 + 1
    assert found["memory"]["usable"] == parse_topology("v5e:2x4").chip.usable

    # The gradient of every weight is summed over all chips once, and so are a few numbers of the batch.
    kinds = {one["kind"]: one for one in found["collectives"]}
    assert set(kinds) == {"all-reduce"} and kinds["all-reduce"]["devices"] == 8
    assert 4 * weights <= kinds["all-reduce"]["bytes"] < 4 * weights + 2000
    (sent,) = found["sent"]
    assert (sent["axes"], sent["sides"]) == (["data"], [0, 1])
    assert sent["bytes"] == pytest.approx(2 * 7 / 8 * kinds["all-reduce"]["bytes"], abs=100)
    # Weights, their average and two moments are read and written.
    assert found["hbm_traffic"] > 2 * 4 * 4 * weights
    bound, run = found["bounds"], found["run"]
    assert bound["seconds"] == max(bound["compute"], bound["memory"], bound["links"]) == bound[bound["largest"]]
    assert bound["memory"] == pytest.approx(found["hbm_traffic"] / 819e9)
    assert run["chip_hours"] == pytest.approx(9 * bound["seconds"] / 3600 * 8)
    assert run["cost"] == 2 * run["chip_hours"]
    assert f"a step of this program takes at least {1e3 * bound['seconds']:.2f} ms\n" in printed.out


@needs_libtpu
@pytest.mark.slow
def test_the_smallest_of_the_large_configs_for_eight_chips(tmp_path):
    path = CHECKOUT / "configs" / "librispeech_960h.py"
    command = ["compile", str(path), "--topology", "v5e:2x4", "--quick", "--json", str(tmp_path / "found.json")]
    batches = [f"--{name}=64" for name in ("data.batch_size", "data.text_batch_size", "evaluation.batch_size")]
    assert main([*command, *batches]) == 0
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["quick"] and found["fits"]

    # Its wordpieces, and as many phonemes as `sizes` assumes.
    weights = sum(leaf.size for leaf in jax.tree.leaves(weight_shapes(load(path), SymbolSizes(1024, 128))))
    assert found["parameters"] == weights and 115e6 < weights < 125e6
    assert found["memory"]["parameters"] == 4 * weights
    # Weights that the layers read as bfloat16 are summed as such, the others in float32.
    (sent,) = found["collectives"]
    assert (sent["kind"], sent["devices"]) == ("all-reduce", 8)
    assert 2 * weights < sent["bytes"] < 4 * weights


@needs_libtpu
def test_what_does_not_divide_is_refused_before_anything_is_compiled(tmp_path, capsys):
    save(tiny_config(tmp_path), tmp_path / "config.json")
    assert main(["compile", str(tmp_path), "--topology", "v5e:4x4"]) == 2
    assert "data.batch_size: 4 must be a multiple of the 16 devices" in capsys.readouterr().err


def test_the_compilers_refusals_are_read():
    short = "Ran out of memory on HBM, the total memory required for HLO temporaries (100.00G) exceeds available HBM"
    assert memory_needed(f"RESOURCE_EXHAUSTED: {short} (15.75G).") == 100 * GIB
    long = "Ran out of memory in memory space hbm. Used 17.50G of 15.75G hbm. Exceeded hbm capacity by 1.75G."
    assert memory_needed(f"RESOURCE_EXHAUSTED: XLA:TPU compile permanent error. {long}") == int(17.5 * GIB)
    assert memory_needed("INTERNAL: something else") is None


@needs_libtpu
def test_the_compilers_refusal_is_of_all_memory():
    """A function that is given a GiB on each chip and keeps ten: with twice as much it is refused, for 22 GiB."""
    mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,), devices=parse_topology("v5e:2x2").devices())

    def function(x):
        kept = jax.lax.scan(lambda x, _: (jnp.sin(x), x), x, length=9)[1]
        return jnp.cos(jnp.flip(kept, 0) * kept.sum()).sum()

    def compile_for(gib):
        x = jax.ShapeDtypeStruct(
            (gib * 4 * GIB // 4096, 1024), jnp.float32, sharding=NamedSharding(mesh, PartitionSpec("data"))
        )
        return jax.jit(function).lower(x).compile().memory_analysis()

    fits = compile_for(1)
    assert fits.argument_size_in_bytes == GIB
    assert fits.temp_size_in_bytes == pytest.approx(10 * GIB, rel=0.01)
    with pytest.raises(jax.errors.JaxRuntimeError) as refused:
        compile_for(2)
    assert memory_needed(str(refused.value)) == 22 * GIB


def compiled(config, *, state: float, temporaries: float, usable: float, chips: int = 8) -> Compiled:
    """Return the result for some config, its sizes in GiB."""
    parts = [int(share * state * GIB) for share in (0.25, 0.25, 0.5)]
    return Compiled(
        mesh={"data": chips // config.parallel.fsdp, "fsdp": config.parallel.fsdp, "tensor": 1},
        parameters=1_000_000,
        memory=Memory(*parts, batch=0, temporaries=int(temporaries * GIB), program=0),
        usable=int(usable * GIB),
        flops=197 * 10**9,
        collectives=(Collective("all-reduce", 8, 3, 5 << 20),),
        seconds=1.0,
    )


def lines(config, found) -> list[str]:
    return list(report(config, parse_topology("v5e:2x4"), found))


def test_a_step_that_does_not_fit_says_by_how_much_and_what_to_change(tmp_path):
    config = tiny_config(tmp_path, {"data.batch_size": 64})
    found = compiled(config, state=2, temporaries=17, usable=15.75)
    *_, missing, first, second, third, last = lines(config, found)
    assert missing == "does not fit: 3.25 GiB more than a chip has"
    assert first.startswith("change first  --model.remat true: ")
    assert second.startswith("        then  --training.accumulation 2: ")
    assert third.startswith("        then  --data.batch_size 32: 8 utterances a chip")
    assert "--data.max_seconds" in last
    assert not found.fits
    assert lines(config, dataclasses.replace(found, usable=20 * GIB))[-1] == "fits: 1.00 GiB of each chip are left"


def test_a_state_that_is_too_large_is_cut_first(tmp_path):
    config = tiny_config(tmp_path, {"data.batch_size": 8, "model.remat": True})
    first, *others = changes(config, compiled(config, state=40, temporaries=3, usable=16))
    assert first.startswith("--parallel.fsdp 8: ")  # 5 GiB of 16; by 4 it would be 10
    assert [other.split()[0] for other in others] == ["--data.max_seconds"]  # one row a chip: no parts, no halves
    narrow = override(config, {"model.width": 12, "model.heads": 2})
    assert next(changes(narrow, compiled(narrow, state=40, temporaries=3, usable=16))).startswith("--parallel.fsdp 4")
    cut = override(config, {"parallel.fsdp": 8})
    assert next(changes(cut, compiled(cut, state=40, temporaries=3, usable=16))).startswith("a smaller --model.width")


def test_an_impossible_change_is_not_proposed(tmp_path):
    """The fewest parts whose temporaries fit together with the state, and that divide text and speech of each chip."""
    text = {"data.units.kind": "phonemes", "data.text_batch_size": 48, "losses.reconstruction.full_context": 0.5}
    config = tiny_config(tmp_path, text | {"data.batch_size": 96, "model.remat": True})
    first, *_ = changes(config, compiled(config, state=1, temporaries=40, usable=16))
    assert first.startswith("--training.accumulation 3: ")  # 2 leave 20 GiB; 4 would leave 48 / 4 / 8 sentences


@pytest.mark.parametrize(
    "overrides",
    [{"data.batch_size": 24}, {"data.batch_size": 48, "training.accumulation": 2}, {"data.batch_size": 40}],
    ids=["three a chip", "three a chip and part", "five a chip"],
)
def test_a_smaller_batch_divides_over_the_chips(overrides, tmp_path):
    config = tiny_config(tmp_path, overrides | {"model.remat": True})
    found = list(changes(config, compiled(config, state=1, temporaries=40, usable=16)))
    [change] = [one for one in found if one.startswith("--data.batch_size ")]
    smaller = int(change.split()[1].rstrip(":"))
    assert config.data.batch_size / 2 <= smaller < config.data.batch_size
    check_devices(override(config, {"data.batch_size": smaller}), 8)
    assert change.endswith(f"{config.data.batch_size // 8} utterances a chip become {smaller // 8}")


@pytest.mark.parametrize("data", [-1, 8])
def test_the_first_change_fits_the_mesh_that_is_given(data, tmp_path):
    config = tiny_config(tmp_path, {"data.batch_size": 8, "model.remat": True, "parallel.data": data})
    change = next(changes(config, compiled(config, state=40, temporaries=3, usable=16)))
    flags = change.partition(": ")[0].replace("--", "").split()
    check_devices(override(config, dict(zip(flags[::2], flags[1::2]))), 8)


def test_the_report_names_every_part(tmp_path):
    config = tiny_config(tmp_path)
    text = "\n".join(lines(config, compiled(config, state=4, temporaries=2, usable=16)))
    assert "parameters                      1.000 GiB    6.2%" in text
    assert "optimizer state                 2.000 GiB   12.5%" in text
    assert "activations and temporaries     2.000 GiB   12.5%" in text
    assert "0.197 TFLOPs a step and chip: 1.00 ms at its peak" in text
    assert "all-reduce               3 among 8            5.00 MiB" in text


def test_the_report_says_what_bounds_the_step_and_what_a_run_costs_at_least(tmp_path):
    config = tiny_config(tmp_path, {"training.steps": 1_800_000})
    found = compiled(config, state=4, temporaries=2, usable=16)
    text = "\n".join(lines(config, found))
    assert "bound by matrix products: a step of this program takes at least 1.00 ms" in text
    assert "run      1,800,000 steps as long as this one take at least 0.5 h, 4 chip-hours\n" in text

    sent = (Sent(("data",), (0, 1), 125 * 10**6), Sent(("fsdp",), (0,), 10))
    counted = dataclasses.replace(found, hbm_traffic=1638 * 10**6, sent=sent)
    text = "\n".join(report(config, parse_topology("v5e:2x4"), counted, price=1.5))
    assert "memory           1.638 GB that the program reads and writes in HBM: 2.00 ms at its bandwidth" in text
    assert "links            0.125 GB sent to other chips (0.125 along data): 1.00 ms at their bandwidth" in text
    assert "bound by memory: a step of this program takes at least 2.00 ms" in text
    assert "take at least 1 h, 8 chip-hours, which cost 12 at 1.5 each" in text

    row = to_json(config, parse_topology("v5e:2x4"), counted, price=1.5)
    assert row["hbm_traffic"] == 1638 * 10**6
    assert row["sent"][0] == {"axes": ("data",), "sides": (0, 1), "bytes": 125 * 10**6}
    assert (row["bounds"]["compute"], row["bounds"]["memory"]) == (0.001, 0.002)
    assert row["run"] == {"steps": 1_800_000, "hours": 1, "chip_hours": 8, "cost": 12, "price": 1.5}


def test_a_step_that_does_not_fit_has_no_run(tmp_path):
    config = tiny_config(tmp_path)
    found = compiled(config, state=2, temporaries=17, usable=15.75)
    text = "\n".join(lines(config, found))
    assert "a step of this program takes at least 1.00 ms" in text
    assert "run  " not in text and "memory   " not in text
    row = to_json(config, parse_topology("v5e:2x4"), found)
    assert (row["run"], row["sent"], row["hbm_traffic"]) == (None, None, None)


def test_mistakes_are_told_in_one_line(tmp_path, capsys):
    save(tiny_config(tmp_path), tmp_path / "config.json")
    assert main(["compile", str(tmp_path)]) == 2
    assert "--topology NAME is missing" in capsys.readouterr().err
    assert main(["compile", str(tmp_path), "--topology", "v5e"]) == 2
    assert "written GENERATION:CHIPSxCHIPS" in capsys.readouterr().err


A, B, C = 3, 5, 7
X, W = np.zeros((A, B), np.float32), np.zeros((B, C), np.float32)
ONE = 2 * A * B * C


def count(function, *arguments) -> int:
    return matrix_flops(jax.make_jaxpr(function)(*arguments))


def test_two_for_each_multiplication():
    assert count(jnp.matmul, X, W) == ONE
    assert count(lambda x, w: jnp.einsum("gab,gbc->gac", x, w), np.stack([X] * 4), np.stack([W] * 4)) == 4 * ONE


def test_the_gradient_takes_two_more():
    assert count(jax.grad(lambda w, x: jnp.sum(jnp.sin(x @ w)), (0, 1)), W, X) == 3 * ONE


def test_what_is_computed_again_counts_again():
    layer = jax.checkpoint(lambda w, x: jnp.sin(jnp.sin(x @ w) @ w.T))
    assert count(layer, W, X) == 2 * ONE
    assert count(jax.grad(lambda w, x: jnp.sum(layer(w, x)), (0, 1)), W, X) == 8 * ONE


def test_loops_count_as_often_as_they_run():
    weights = np.zeros((6, B, B), np.float32)

    def layers(x, weights):
        return jax.lax.scan(lambda x, w: (jnp.tanh(x @ w), None), x, weights)[0]

    assert count(layers, X, weights) == 6 * 2 * A * B * B
    assert count(lambda x: jax.lax.fori_loop(0, 4, lambda i, x: x @ weights[0], x), X) == 4 * 2 * A * B * B


def test_of_branches_the_costliest():
    def choose(p, x, w):
        return jax.lax.cond(p, lambda: x @ w, lambda: jnp.zeros((A, C)))

    assert count(choose, True, X, W) == ONE


def test_devices_of_a_mapped_function_add_up():
    mesh = jax.sharding.AbstractMesh((4, 2), ("data", "tensor"), axis_types=(AxisType.Auto,) * 2)
    rows = PartitionSpec("data")

    @functools.partial(jax.shard_map, mesh=mesh, in_specs=(rows, None), out_specs=rows, check_vma=False)
    def mapped(x, w):
        return x @ w

    assert count(mapped, np.zeros((8, B), np.float32), W) == 2 * 2 * 8 * B * C  # both of `tensor` compute the same


def test_a_kernel_counts_for_each_point_of_its_grid():
    def kernel(x, w, y):
        y[...] = x[...] @ w[...]

    def product(x, w):
        blocks = [pl.BlockSpec((1, A, B), lambda i: (i, 0, 0)), pl.BlockSpec((B, C), lambda i: (0, 0))]
        shape = jax.ShapeDtypeStruct((4, A, C), jnp.float32)
        out = pl.BlockSpec((1, A, C), lambda i: (i, 0, 0))
        return pl.pallas_call(kernel, shape, grid=(4,), in_specs=blocks, out_specs=out)(x, w)

    assert count(product, np.stack([X] * 4), W) == 4 * ONE


@pytest.mark.parametrize("remat, times", [(False, 3), (True, 4)])
def test_a_layer_takes_what_its_weights_say(remat, times, tmp_path):
    """Two operations for each weight of a matrix and frame, plus attention; twice that backward, and the forward part
    again with remat."""
    width, frames, rows = 16, 12, 2
    config = ModelConfig(
        width=width,
        heads=2,
        feed_forward=4,
        kernel=3,
        audio_layers=2,
        streaming_layers=1,
        full_context_layers=1,
        remat=remat,
        dropout=0.0,
    )
    whole = tiny_config(tmp_path).model_copy(update={"model": config})
    sizes = SymbolSizes(8)
    structure, weights = model_structure(whole, sizes), weight_shapes(whole, sizes)
    x, mask = jnp.zeros((rows, frames, width)), jnp.ones((rows, frames), bool)

    def loss(weights, x):
        return jnp.sum(nnx.merge(structure, weights).audio(x, mask))

    per_frame = 16 * width**2 + 4 * width**2 + 3 * width**2
    forward = 2 * rows * frames * per_frame + 2 * 2 * rows * frames * frames * width
    found = count(jax.grad(loss, (0, 1)), weights, x)
    assert found == pytest.approx(config.audio_layers * times * forward, rel=0.1)
