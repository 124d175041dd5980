"""Isolated English digits, recorded; the test speaker is never heard in training.

    joint-st train configs/spoken_digits.py

`$JOINT_ST_DATA/spoken_digits` holds the Free Spoken Digit Dataset as FLAC, with the manifests `train.jsonl` (2,500
utterances of 5 speakers, 19 minutes) and `test.jsonl` (500 utterances of the sixth).
"""

from joint_st.config import (
    Config,
    DataConfig,
    FeaturesConfig,
    ManifestSource,
    ModelConfig,
    OptimizerConfig,
    ParallelConfig,
    TrainingConfig,
)

FOLDER = "$JOINT_ST_DATA/spoken_digits"


def config() -> Config:
    return Config(
        name="spoken_digits",
        data=DataConfig(
            train=(ManifestSource(path=f"{FOLDER}/train.jsonl"),),
            test={"test": ManifestSource(path=f"{FOLDER}/test.jsonl")},
            batch_size=32,
            buckets=2,
        ),
        model=ModelConfig(
            # The recordings are at 8 kHz: nothing above 4 kHz is in them.
            features=FeaturesConfig(sample_rate=8_000, high_hz=3_800.0, mels=40),
            width=64,
            audio_layers=1,
            streaming_layers=1,
            full_context_layers=1,
            dropout=0.1,
        ),
        optimizer=OptimizerConfig(peak_learning_rate=3e-3, warmup_steps=100),
        training=TrainingConfig(steps=1_000, checkpoint_every=500),
        parallel=ParallelConfig(cpu_devices=2),
    )
