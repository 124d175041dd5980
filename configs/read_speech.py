"""Recorded English sentences: one trained reader, learners of English, and a crowd, 4.9 hours to train on.

    joint-st train configs/read_speech.py

`$JOINT_ST_DATA` holds the folders `arctic` (one reader, CMU Arctic prompts), `speechocean762` (125 speakers of
Mandarin, children and adults, small vocabulary; no test split) and `common_voice_en` (a crowd, hard), each with its
manifests. The best checkpoint is chosen on the dev sets; numbers are spelled, punctuation is dropped.

On 2 CPU cores that other jobs shared, 2,000 steps (7 epochs) took 20 minutes: far too few to recognise a crowd. WER %
with the 95 % interval, with features that did not yet follow the level of a recording:

    split                full context        streaming
    arctic               86.3 (84.4-88.4)    93.2 (91.3-94.9)
    common_voice_en      97.6 (95.8-99.4)   102.3 (100.6-104.2)
    speechocean762_dev   85.4 (83.0-87.5)    92.6 (90.8-94.4)
"""

from joint_st.config import (
    Config,
    DataConfig,
    ManifestSource,
    ModelConfig,
    OptimizerConfig,
    ParallelConfig,
    TextSource,
    TrainingConfig,
)

CORPORA = ("arctic", "speechocean762", "common_voice_en")


def config() -> Config:
    def manifest(corpus, split):
        return ManifestSource(path=f"$JOINT_ST_DATA/{corpus}/{split}.jsonl", corpus=corpus)

    return Config(
        name="read_speech",
        data=DataConfig(
            train=tuple(manifest(corpus, "train") for corpus in CORPORA),
            dev=tuple(manifest(corpus, "dev") for corpus in CORPORA),
            test={
                "arctic": manifest("arctic", "test"),
                "common_voice_en": manifest("common_voice_en", "test"),
                "speechocean762_dev": manifest("speechocean762", "dev"),
            },
            text=(TextSource(path="$JOINT_ST_DATA/common_voice_en/text_only.txt"),),
            max_seconds=12.0,
            batch_size=8,
            buckets=4,
        ),
        model=ModelConfig(
            width=128, feed_forward=2, audio_layers=1, streaming_layers=2, full_context_layers=2, dropout=0.1
        ),
        optimizer=OptimizerConfig(kind="muon", peak_learning_rate=4e-3, warmup_steps=100),
        training=TrainingConfig(steps=2_000, evaluate_every=500, checkpoint_every=500),
        parallel=ParallelConfig(cpu_devices=2),
    )
