"""Recorded English and text without audio: three corpora, 4.9 hours, and 21,755 sentences; for one GPU.

    JOINT_ST_DATA=... joint-st train benchmarks/one_gpu/recorded.py

The architecture is that of arXiv 2308.06125: speech enters the shared layers as the audio encoder's embeddings
(`model.unit_conditioning` is `none`), text as phonemes that are repeated one to three times and masked in spans. The
model has about 17 million parameters, and computes in bfloat16. `recorded_sweep.py` has the arms, and sets the number
of steps.

TINY=1 in the environment: the same on a few utterances in a model that a laptop trains in seconds.
"""

import os

from joint_st.config import (
    Config,
    ConsistencyConfig,
    CtcLossConfig,
    DataConfig,
    EvaluationConfig,
    LossesConfig,
    ManifestSource,
    ModelConfig,
    OptimizerConfig,
    ReconstructionConfig,
    SpecAugmentConfig,
    TextConfig,
    TextSource,
    TrainingConfig,
    UnitsConfig,
    override,
)

CORPORA = ("arctic", "speechocean762", "common_voice_en")

TINY = {
    "data.max_seconds": 6.0,
    "data.batch_size": 2,
    "data.text_batch_size": 4,
    "data.max_text_units": 40,
    "data.buckets": 1,
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
    def manifest(corpus, split):
        return ManifestSource(path=f"$JOINT_ST_DATA/{corpus}/{split}.jsonl", corpus=corpus)

    def text(path):
        return TextSource(path=f"$JOINT_ST_DATA/{path}", language="en-us")

    whole = Config(
        name="recorded",
        data=DataConfig(
            train=tuple(manifest(corpus, "train") for corpus in CORPORA),
            dev=tuple(manifest(corpus, "dev") for corpus in CORPORA),
            test={
                "arctic": manifest("arctic", "test"),
                "common_voice_en": manifest("common_voice_en", "test"),
                "speechocean762_dev": manifest("speechocean762", "dev"),
            },
            text=(text("text/english_novels.txt"), text("common_voice_en/text_only.txt")),
            units=UnitsConfig(kind="phonemes"),
            max_seconds=11.0,
            batch_size=24,
            # Each is compiled, which takes a good part of the time there is.
            buckets=2,
            text_batch_size=64,
            # All paired sentences, and 95 in 100 of the novels'.
            max_text_units=104,
            read_threads=6,
            prefetch_batches=6,
        ),
        model=ModelConfig(
            width=256,
            heads=4,
            feed_forward=4,
            kernel=15,
            audio_layers=3,
            text_layers=1,
            streaming_layers=3,
            full_context_layers=4,
            dropout=0.1,
            unit_conditioning="none",
            compute_dtype="bfloat16",
            # Three such trainings share the memory of one GPU, and most of a step's time goes into its scans.
            remat=True,
        ),
        text=TextConfig(repetition="random", repeat_least=1, repeat_most=3, mask_share=0.15, mask_span=5),
        losses=LossesConfig(
            ctc=CtcLossConfig(streaming=0.3, full_context=0.7),
            reconstruction=ReconstructionConfig(streaming=0.15, full_context=0.35, paired=0.0),
            # Distances are sums over the width: at first about twice 256.
            consistency=ConsistencyConfig(weight=0.004, warmup_steps=200, alignment="skip"),
        ),
        spec_augment=SpecAugmentConfig(frequency_masks=2, frequency_width=15, time_masks=2, time_share=0.05),
        optimizer=OptimizerConfig(kind="muon", peak_learning_rate=3e-3, warmup_steps=100, ema_decay=0.995),
        training=TrainingConfig(steps=1_000, evaluate_every=100_000, checkpoint_every=250, keep_latest=2),
        evaluation=EvaluationConfig(batch_size=48),
    )
    return override(whole, TINY) if os.environ.get("TINY") else whole
