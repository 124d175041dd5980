"""Attention over whole sequences by one kernel of the platform, which never writes the weights of all pairs of frames
into the device's memory (as in FlashAttention, arXiv 2205.14135).

On TPUs it is the splash attention of JAX's Pallas, on NVIDIA GPUs that of cuDNN; elsewhere JAX computes the same in several
steps. Both kernels take sequences of different lengths, padded to one. The gradient computes the kernel's forward pass
again. Its results cannot be kept, because they differ by platform, and a program is traced before its platform is known.
"""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp
from jax import lax
from jax.ad_checkpoint import checkpoint_name

from joint_st.ops.attention import ATTENDED

TILE = 128
"""Frames of the smallest block of splash attention; sequences are padded to a multiple of them."""
LONGEST_BLOCK, LONGEST_PART = 1024, 512
"""Frames of the longest block of queries or of keys, and of the keys in it that are computed at a time: the scores of so
many queries and keys have to fit into a TPU core's fast memory, several times."""


@jax.custom_vjp
def attend_fused(q: jax.Array, k: jax.Array, v: jax.Array, mask: jax.Array) -> jax.Array:
    """Attend with `q` to `k`, `v`, all [B, T, H, E]; `mask` bool [B, T] is true up to the length of each sequence. Returns
    [B, T, H, E], of which those of the padding are finite and otherwise undefined.

    cuDNN takes float16 and bfloat16 alone, and heads of a width that is a multiple of 8. A TPU's kernels can not be cut by
    the compiler: on several devices, call this in `jax.shard_map`.
    """
    return lax.platform_dependent(q, k, v, mask, tpu=splash, default=by_lengths)


def _forward(q, k, v, mask):
    return checkpoint_name(attend_fused(q, k, v, mask), ATTENDED), (q, k, v, mask)


def _backward(saved, g):
    def pull(form):
        return lambda q, k, v, mask, g: jax.vjp(lambda q, k, v: form(q, k, v, mask), q, k, v)[1](g)

    return *lax.platform_dependent(*saved, g, tpu=pull(splash), default=pull(by_lengths)), None


attend_fused.defvjp(_forward, _backward)


def by_lengths(q, k, v, mask):
    """Attend as `attend_fused` does, by JAX's function, which calls cuDNN on a GPU."""
    # A sequence of no frames would divide by zero.
    lengths = jnp.maximum(mask.sum(axis=1, dtype=jnp.int32), 1)
    # Named when it is traced: without a GPU, JAX refuses to trace a call of cuDNN.
    implementation: Literal["cudnn", "xla"] = "cudnn" if jax.default_backend() == "gpu" else "xla"
    return jax.nn.dot_product_attention(q, k, v, key_value_seq_lengths=lengths, implementation=implementation)


def splash(q, k, v, mask, interpret: bool = False):
    """Attend as `attend_fused` does, by Pallas's splash attention. Frames and padding are segments that do not see each
    other. interpret: compute on a CPU what a TPU would."""
    from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel as kernel
    from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_mask as masks

    frames, heads, width = q.shape[1:]
    whole = -(-frames // TILE) * TILE

    def padded(x):
        return jnp.pad(x, ((0, 0), (0, whole - frames)) + ((0, 0),) * (x.ndim - 2))

    q, k, v = (padded(x).transpose(0, 2, 1, 3) for x in (q * width**-0.5, k, v))
    segments = padded(mask).astype(jnp.int32)
    attend = kernel.make_splash_mha_single_device(
        masks.MultiHeadMask([masks.FullMask((whole, whole))] * heads),
        block_sizes=block_sizes(whole),
        interpret=interpret,
    )
    y = jax.vmap(lambda q, k, v, ids: attend(q, k, v, segment_ids=kernel.SegmentIds(ids, ids)))(q, k, v, segments)
    return y.transpose(0, 2, 1, 3)[:, :frames]


def block_sizes(frames: int):
    """Return the blocks of splash attention over a multiple of `TILE` frames, as long as they may be: its kernel for the
    gradient writes the gradient of the queries for each block of keys, and adds them up afterwards."""
    from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel as kernel

    block = longest(frames, LONGEST_BLOCK)
    part = longest(block, LONGEST_PART)
    return kernel.BlockSizes(
        block_q=block,
        block_kv=block,
        block_kv_compute=part,
        block_q_dkv=block,
        block_kv_dkv=block,
        block_kv_dkv_compute=part,
        use_fused_bwd_kernel=True,
    )


def longest(frames: int, limit: int) -> int:
    """Return the longest multiple of `TILE` that divides `frames` and is at most `limit`."""
    return max(size for size in range(TILE, min(frames, limit) + 1, TILE) if frames % size == 0)
