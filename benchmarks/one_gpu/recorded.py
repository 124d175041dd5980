"""The experiment `configs/experiments/recorded.py` for one GPU: about 17 million parameters, in bfloat16.

    JOINT_ST_DATA=... joint-st train benchmarks/one_gpu/recorded.py

Speech, text, losses and splits are the experiment's. `recorded_sweep.py` has the arms, and sets the number of steps.

TINY=1 in the environment: the same on a few utterances in a model that a laptop trains in seconds.
"""

import os
from pathlib import Path

from joint_st.config import Config, load, override

BASE = Path(__file__).parents[2] / "configs" / "experiments" / "recorded.py"

LARGE = {
    "data.max_seconds": 11.0,
    "data.batch_size": 24,
    # Each is compiled, which takes a good part of the time there is.
    "data.buckets": 2,
    "data.text_batch_size": 64,
    # All paired sentences, and 95 in 100 of the novels'.
    "data.max_text_units": 104,
    "data.read_threads": 6,
    "data.prefetch_batches": 6,
    "model.width": 256,
    "model.feed_forward": 4,
    "model.audio_layers": 3,
    "model.text_layers": 1,
    "model.streaming_layers": 3,
    "model.products": "exact",
    "model.compute_dtype": "bfloat16",
    # Three such trainings share the memory of one GPU, and most of a step's time goes into its scans.
    "model.remat": True,
    # Distances are sums over the width.
    "losses.consistency.weight": 0.005,
    "losses.consistency.warmup_steps": 200,
    "spec_augment.frequency_width": 15,
    "spec_augment.time_share": 0.05,
    "optimizer.peak_learning_rate": 3e-3,
    "optimizer.warmup_steps": 100,
    "optimizer.ema_decay": 0.995,
    "training.steps": 1_000,
    "training.evaluate_every": 100_000,
    "training.checkpoint_every": 250,
    "evaluation.batch_size": 48,
    # To tune its weights takes as long as the training may.
    "evaluation.ngram_order": 0,
}

TINY = {
    "data.max_seconds": 6.0,
    "data.batch_size": 2,
    "data.text_batch_size": 4,
    "data.max_text_units": 40,
    "data.buckets": 1,
    # A few utterances of each manifest hold no speaker of the experiment's halves.
    "data.dev.2.where": {},
    "data.test.speechocean762.where": {},
    "model.width": 32,
    "model.heads": 2,
    "model.feed_forward": 2,
    "model.kernel": 3,
    "model.audio_layers": 1,
    "model.text_layers": 0,
    "model.streaming_layers": 1,
    "model.full_context_layers": 1,
    "evaluation.batch_size": 4,
    "training.log_every": 2,
}


def config() -> Config:
    changes = LARGE | (TINY if os.environ.get("TINY") else {})
    return override(load(BASE), changes)
