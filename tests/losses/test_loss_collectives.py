"""The dynamic programs in the losses, CTC and the alignment, and their gradients make the devices send nothing."""

from __future__ import annotations

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from joint_st.config import override
from joint_st.distributed.collectives import collectives
from joint_st.distributed.mesh import BATCH, make_mesh, put_batch
from joint_st.heads import ctc
from joint_st.heads.ctc import CtcHead
from joint_st.losses import consistency
from joint_st.losses.base import EncodedTexts, Passes, make_losses, passes_of
from joint_st.losses.passes import TEXT_PASSES, Pass
from joint_st.losses.text_rows import add_repetitions, gather_rows
from joint_st.models.encoder import Encoded
from tests.tiny import UNOPTIMISED, call_on_eight_devices
from tests.training.test_joint_step import JOINT, joint_batch
from tests.training.test_step import CONFIG, UNITS, VOCABULARY

MESHES = [{"data": 4, "fsdp": 2}, {"data": 2, "fsdp": 2, "tensor": 2}]
ROWS, FRAMES, TEXT_FRAMES, DEPTH, WIDTH = 8, 12, 16, 3, 4


def sent(mesh) -> tuple[dict[str, int], bool]:
    """Return how often each kind of collective runs in the losses and their gradients with respect to the model's
    outputs.

    And whether there is a loop in them, as every dynamic program is one.
    """
    config = override(CONFIG, JOINT)
    losses = make_losses(config)
    wanted = passes_of(losses)
    of_text = [one for one in TEXT_PASSES if one in wanted]

    class AlreadyLogits(CtcHead):
        """A head whose embeddings are its logits, so that all that is compiled are the losses."""

        def __init__(self):
            pass

        def __call__(self, x):
            return x

    def loss(audio, text, audio_mask, text_mask, batch):
        batch = add_repetitions(config, ["paired", "text"], batch, jax.random.key(0))
        rows = gather_rows(of_text, [one is not Pass.PAIRED_CLEAN for one in of_text], batch, mesh)
        heads = {name: AlreadyLogits() for name in ("streaming", "full_context")}
        audio, text = Encoded(mask=audio_mask, **audio), Encoded(mask=text_mask, **text)
        passes = Passes({Pass.AUDIO: audio}, dict.fromkeys(of_text, EncodedTexts(text, rows)), heads)
        found = [loss.values(passes, batch, wanted, jax.random.key(1), mesh) for loss in losses]
        values = [rows for one in found for rows in (one.values | one.monitored).values()]
        return sum(jnp.sum(value) for rows in values for value in rows.values())

    def outputs(rows, frames, **more):
        shapes = {"streaming": VOCABULARY, "full_context": VOCABULARY, **more}
        whole = {name: put((rows, frames, size), BATCH) for name, size in shapes.items()}
        return whole | {"layers": put((DEPTH, rows, frames, WIDTH), PartitionSpec(None, *BATCH))}

    def put(shape, spec, dtype=jnp.float32):
        return jax.ShapeDtypeStruct(shape, dtype, sharding=NamedSharding(mesh, spec))

    text_rows = ROWS * len(of_text)
    arguments = (
        outputs(ROWS, FRAMES, units=UNITS),
        outputs(text_rows, TEXT_FRAMES),
        put((ROWS, FRAMES), BATCH, bool),
        put((text_rows, TEXT_FRAMES), BATCH, bool),
        put_batch(joint_batch(), mesh),
    )
    hlo = jax.jit(jax.grad(loss, argnums=(0, 1))).lower(*arguments).compile().as_text()
    found = {}
    for one in collectives(hlo):
        if one.devices > 1:
            found[one.kind] = found.get(one.kind, 0) + one.count
    return found, " while(" in hlo


def without_dynamic_programs(patch) -> None:
    """Replace the losses by sums."""
    patch.setattr(ctc, "ctc_loss", lambda logits, *_: (logits.sum((1, 2)), None))

    def distance(a, b, *_, **__):
        value = a.sum((1, 2)) + b.sum((1, 2))
        return SimpleNamespace(value=value, coverage=value)

    patch.setattr(consistency, "alignment_loss", distance)


def on_eight_devices():
    assert jax.device_count() == 8
    for sizes in MESHES:
        mesh = make_mesh(override(CONFIG, {"parallel": sizes}).parallel)
        with jax.set_mesh(mesh):
            found, loops = sent(mesh)
            assert loops
            with pytest.MonkeyPatch.context() as patch:
                without_dynamic_programs(patch)
                without, _ = sent(mesh)
        assert found == without, sizes
        assert set(found) <= {"all-reduce"}, "of sums over the batch"


def test_dynamic_programs_send_nothing():
    call_on_eight_devices("tests.losses.test_loss_collectives:on_eight_devices", UNOPTIMISED)
