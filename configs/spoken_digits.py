"""Recorded isolated English digits; the test speaker does not occur in training.

    joint-st train configs/spoken_digits.py

`$JOINT_ST_DATA/spoken_digits` holds the Free Spoken Digit Dataset as FLAC, with the manifests `train.jsonl` (2,500
utterances of 5 speakers, 19 minutes) and `test.jsonl` (500 utterances of the sixth). There is no dev set.

On one CPU core, 1,500 steps took three and a half minutes. WER % on the unseen speaker, with the 95 % interval: full context
30.6 (26.6-34.6), streaming 67.8 (63.6-71.8). Five voices are too few: the training loss is near 0.
"""

from joint_st.config import (
    Config,
    DataConfig,
    FeaturesConfig,
    ManifestSource,
    ModelConfig,
    OptimizerConfig,
    ParallelConfig,
    SpecAugmentConfig,
    TrainingConfig,
)

FOLDER = "$JOINT_ST_DATA/spoken_digits"


def config() -> Config:
    return Config(
        name="spoken_digits",
        data=DataConfig(
            train=(ManifestSource(path=f"{FOLDER}/train.jsonl"),),
            test={"test": ManifestSource(path=f"{FOLDER}/test.jsonl")},
            batch_size=8,
            buckets=2,
        ),
        model=ModelConfig(
            # The recordings are at 8 kHz: nothing above 4 kHz is in them.
            features=FeaturesConfig(sample_rate=8_000, high_hz=3_800.0, mels=40),
            width=96,
            audio_layers=1,
            streaming_layers=1,
            full_context_layers=1,
            feed_forward=2,
            dropout=0.0,
        ),
        spec_augment=SpecAugmentConfig(frequency_masks=2, frequency_width=8, time_masks=0),
        optimizer=OptimizerConfig(kind="muon", peak_learning_rate=5e-3, warmup_steps=50),
        training=TrainingConfig(steps=1_500, checkpoint_every=500),
        parallel=ParallelConfig(cpu_devices=2),
    )
