"""Which of several forms of an operation is better on a TPU, by what its compiler makes of them; no TPU is needed.

    python -m benchmarks.tpu_forms                          # everything; about 15 minutes of one CPU core
    python -m benchmarks.tpu_forms --only log-mel attention --out /tmp/tpu_forms.json

Each form is compiled by libtpu for one chip of a slice (`--topology`), and a row says what the program needs: `hbm_bytes`
that it reads and writes in HBM (`joint_st.compile_check.hbm`), `temporary_bytes` of memory, `program_bytes`, `flops` of its
matrix products, and `compile_seconds`, the CPU's seconds for tracing and compiling. Operations that are bound by HBM, as
most of a training step's are, take at least `hbm_ms`. This tells nothing about how long an operation computes where it is
not bound so: the matrix products' own time is at least `product_ms`, and a Fourier transform's is not known.

    log-mel     features of a chip's batch by a fast Fourier transform, and by matrix products
    attention   attention over whole utterances, forward and backward: JAX's own, with our gradient, and fused (Pallas)
    layers      four conformer layers, forward and backward, with those forms of attention and those of dropout

`ours` marks the form that joint_st takes on TPUs. Only one process at a time can use libtpu.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import jax
import jax.numpy as jnp
from flax import nnx
from jax.ad_checkpoint import checkpoint_name

from benchmarks import machine
from benchmarks.side_by_side import Rows
from joint_st.compile_check.compiled import matrix_flops
from joint_st.compile_check.hbm import hbm_bytes
from joint_st.config import FeaturesConfig
from joint_st.distributed.topology import Topology, parse_topology
from joint_st.models import attention as attention_layer
from joint_st.models import conformer, layer
from joint_st.ops import attention, log_mel
from joint_st.ops.fused_attention import attend_fused

RESULTS = machine.RESULTS / "tpu_forms.json"

WIDTH, HEADS, KERNEL, LAYERS = 512, 8, 31, 4
"""Those of configs/librispeech_960h.py, but for the number of layers."""
ROWS = 16
"""Utterances on a chip."""
SECONDS = 16.8
FRAMES = {"attention": (420, 750, 1500), "layers": (420,)}
"""Encoder frames, of 40 ms."""


class Form(NamedTuple):
    """A form of an operation, to be compiled."""

    kind: str
    name: str
    ours: bool
    sizes: dict[str, int]
    function: Callable
    arguments: tuple
    patches: tuple[tuple[Any, str, Any], ...] = ()
    """Attributes to replace while it is traced."""


# Log-mel


def log_mel_forms() -> Iterator[Form]:
    features = FeaturesConfig()
    names = ("sample_rate", "window", "hop", "mels", "low_hz", "high_hz")
    given = {name: getattr(features, name) for name in names}
    frames = round(SECONDS * features.sample_rate) // features.hop
    audio = jax.ShapeDtypeStruct((ROWS, frames * features.hop), jnp.int16)

    def features_of(audio, form):
        return log_mel.normalised_log(log_mel.mel_power(audio, **given, form=form))

    for form in log_mel.FORMS:
        call = functools.partial(features_of, form=form)
        yield Form("log-mel", form, form == "products", {"batch": ROWS, "frames": frames}, call, (audio,))


# Attention


def own(q, k, v, allowed):
    """JAX's attention and its gradient."""
    return jax.nn.dot_product_attention(q, k, v, mask=allowed[:, None])


@jax.custom_vjp
def ours(q, k, v, allowed):
    """Attention with our gradient, as CPUs have it."""
    return attention._attend_on_cpu(q, k, v, allowed)


def _forward(q, k, v, allowed):
    y = checkpoint_name(ours(q, k, v, allowed), attention.ATTENDED)
    return y, (q, k, v, allowed, y)


ours.defvjp(_forward, lambda saved, g: (*attention._gradient_on_cpu(*saved, g), None))


def fused(q, k, v, allowed):
    return attend_fused(q, k, v, allowed[:, 0])


def padded(x, to: int):
    return jnp.pad(x, ((0, 0), (0, -x.shape[1] % to)) + ((0, 0),) * (x.ndim - 2))


def flash(q, k, v, allowed):
    """Pallas's flash attention: frames padded to blocks of 128, and padding as a segment of its own."""
    from jax.experimental.pallas.ops.tpu import flash_attention as pallas

    frames = q.shape[1]
    ids = padded(allowed[:, 0], 128).astype(jnp.int32)
    q, k, v = (padded(x, 128).transpose(0, 2, 1, 3) for x in (q, k, v))
    y = pallas.flash_attention(q, k, v, segment_ids=pallas.SegmentIds(ids, ids), sm_scale=q.shape[-1] ** -0.5)
    return y.transpose(0, 2, 1, 3)[:, :frames]


TAKEN = "JAX's own"
"""The form that joint_st takes on TPUs."""
ATTENTION = {TAKEN: own, "our gradient": ours, "flash (Pallas)": flash, "splash (Pallas)": fused}


def attention_forms() -> Iterator[Form]:
    for frames in FRAMES["attention"]:
        x = jax.ShapeDtypeStruct((ROWS, frames, HEADS, WIDTH // HEADS), jnp.bfloat16)
        allowed = jax.ShapeDtypeStruct((ROWS, 1, frames), jnp.bool_)

        def with_gradient(q, k, v, allowed, g, attend):
            y, back = jax.vjp(lambda q, k, v: attend(q, k, v, allowed), q, k, v)
            return y, back(g)

        for name, form in ATTENTION.items():
            call = functools.partial(with_gradient, attend=form)
            sizes = {"batch": ROWS, "frames": frames}
            yield Form("attention", name, name == TAKEN, sizes, call, (x, x, x, allowed, x))


# Layers


def layer_forms() -> Iterator[Form]:
    def make(rngs):
        return conformer.ConformerLayer(
            WIDTH,
            heads=HEADS,
            feed_forward=4,
            kernel=KERNEL,
            left_context=None,
            dropout=0.1,
            dtype=jnp.bfloat16,
            rngs=rngs,
        )

    for frames in FRAMES["layers"]:
        stack = layer.Stack(make, LAYERS, remat=False, dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
        definition, weights = nnx.split(stack)

        def loss(weights, x, mask, key, g, definition=definition):
            return jnp.vdot(nnx.merge(definition, weights)(x, mask, key), g).astype(jnp.float32)

        x = jax.ShapeDtypeStruct((ROWS, frames, WIDTH), jnp.bfloat16)
        mask = jax.ShapeDtypeStruct((ROWS, frames), jnp.bool_)
        arguments = (weights, x, mask, jax.random.key(0), x)
        sizes = {"batch": ROWS, "frames": frames}

        # Only forms that name what a layer keeps for its gradient; joint_st's own is the one that it takes.
        for name, form in {TAKEN: attention.attend, "our gradient": ours, "splash (Pallas)": fused}.items():
            patches = ((attention_layer, "attend", form),)
            what = f"attention: {name}"
            yield Form("layers", what, name == TAKEN, sizes, jax.grad(loss, (0, 1)), arguments, patches)
        # The rows above have a number for each value.
        patches = ((layer, "kept", layer.kept_by_halves),)
        what = "dropout: a number for two values"
        yield Form("layers", what, False, sizes, jax.grad(loss, (0, 1)), arguments, patches)


KINDS = {"log-mel": log_mel_forms, "attention": attention_forms, "layers": layer_forms}


def needs(form: Form, topology: Topology) -> dict[str, Any]:
    """Return what a form's program needs on one chip, or why it cannot be compiled."""
    device = topology.devices()[0]
    sharding = jax.sharding.SingleDeviceSharding(device)
    arguments = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), form.arguments)
    began = time.process_time()
    with contextlib.ExitStack() as patched:
        for patch in form.patches:
            patched.enter_context(mock.patch.object(*patch))
        try:
            traced = jax.jit(form.function).trace(*arguments)
            program = traced.lower().compile()
        except (jax.errors.JaxRuntimeError, NotImplementedError, ValueError) as error:
            return {"missing": " ".join(str(error).split())[:300]}
    seconds = time.process_time() - began
    memory, flops = program.memory_analysis(), matrix_flops(traced.jaxpr)
    moved = hbm_bytes(program.as_text())
    return {
        "hbm_bytes": moved,
        "hbm_ms": round(1e3 * moved / topology.chip.hbm_bandwidth, 3),
        "temporary_bytes": memory.temp_size_in_bytes,
        "program_bytes": memory.generated_code_size_in_bytes,
        "flops": flops,
        "product_ms": round(1e3 * flops / topology.chip.peak_flops, 3),
        "compile_seconds": round(seconds, 1),
    }


def describe(row: dict[str, Any]) -> str:
    """Return a row in words."""
    what = f"{row['kind']}, {row['form']}, B {row['batch']}, T {row['frames']}"
    if "missing" in row:
        return f"{what}: {row['missing']}"
    return (
        f"{what}: {row['hbm_bytes'] / 1e6:,.0f} MB through HBM ({row['hbm_ms']:.2f} ms), "
        f"{row['temporary_bytes'] / 1e6:,.0f} MB of temporaries, products {row['product_ms']:.2f} ms, "
        f"program {row['program_bytes'] / 1e6:.2f} MB, compiled in {row['compile_seconds']:.1f} s"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=KINDS, metavar="KIND", help=", ".join(KINDS))
    parser.add_argument("--form", nargs="+", metavar="TEXT", help="only forms whose names contain one of these")
    parser.add_argument("--topology", default="v5e:2x2")
    parser.add_argument("--out", type=Path, metavar="FILE", help="the rows; of all, benchmarks/results/tpu_forms.json")
    options = parser.parse_args()
    topology = parse_topology(options.topology)
    jax.config.update("jax_platforms", "cpu")  # nothing is computed on a TPU, and one that is here may be in use
    forms = [form for kind in options.only or KINDS for form in KINDS[kind]()]
    forms = [form for form in forms if not options.form or any(text in form.name for text in options.form)]
    # Some rows alone must not take the place of all.
    file = options.out or (None if options.only or options.form else RESULTS)
    rows = Rows(file, ("jax", "jaxlib", "libtpu"), of=len(forms))
    for form in forms:
        row = {"kind": form.kind, "form": form.name, "ours": form.ours, "topology": options.topology, **form.sizes}
        row |= needs(form, topology)
        rows.add(row, describe(row))
    rows.end()


if __name__ == "__main__":
    main()
