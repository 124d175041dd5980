"""Compiling the step for every bucket before the first one runs."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from joint_st.data.buckets import Buckets
from joint_st.parallel.mesh import batch_sharding


def batch_shapes(buckets: Buckets, bucket: int, mesh: jax.sharding.Mesh) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes of a batch of bucket `bucket`, over all hosts."""
    rows = buckets.batch_sizes[bucket]
    shapes = {
        "audio": ((rows, buckets.bounds[bucket]), jnp.int16),
        "audio_lengths": ((rows,), jnp.int32),
        "labels": ((rows, buckets.label_bounds[bucket]), jnp.int32),
        "label_lengths": ((rows,), jnp.int32),
        "valid": ((rows,), jnp.bool_),
    }
    sharding = batch_sharding(mesh)
    return {name: jax.ShapeDtypeStruct(*shape, sharding=sharding) for name, shape in shapes.items()}


def compile_for_buckets(step, state, buckets: Buckets, mesh: jax.sharding.Mesh) -> list:
    """The jitted `step` compiled for each bucket.

    One after the other: XLA's compiler is parallel in itself, and several at once took longer and far more memory.
    """
    like = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state)
    return [step.lower(like, batch_shapes(buckets, k, mesh)).compile() for k in range(len(buckets))]
