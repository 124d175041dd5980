"""Can text alone teach words that were never heard? The base of the sweep `configs/sweeps/text_injection.py`.

    joint-st train configs/experiments/text_injection.py
"""

from joint_st.config import (
    Config,
    ConsistencyConfig,
    DataConfig,
    ModelConfig,
    ObjectiveConfig,
    OptimizerConfig,
    SpecAugmentConfig,
    TextConfig,
    TfdsSource,
    TrainingConfig,
    UnitsConfig,
)


def config() -> Config:
    def corpus(split):
        return TfdsSource(name="spoken_grammar", split=split)

    return Config(
        name="text_injection",
        data=DataConfig(
            train=(corpus("train"),),
            dev=(corpus("dev"),),
            test={"test": corpus("test")},
            text=(corpus("text"),),
            units=UnitsConfig(kind="phonemes"),
            batch_size=8,
            buckets=2,
            text_batch_size=8,
            max_text_units=40,
        ),
        model=ModelConfig(
            width=96, feed_forward=2, audio_layers=1, streaming_layers=1, full_context_layers=1, dropout=0.0
        ),
        text=TextConfig(repetition="random", repeat_least=1, repeat_most=3),
        objective=ObjectiveConfig(
            streaming_reconstruction=0.3,
            full_context_reconstruction=0.7,
            paired_reconstruction=0.0,
            consistency=ConsistencyConfig(weight=0.01),
        ),
        spec_augment=SpecAugmentConfig(frequency_masks=2, frequency_width=8, time_masks=0),
        optimizer=OptimizerConfig(kind="muon", peak_learning_rate=6e-3, warmup_steps=50),
        training=TrainingConfig(steps=1_500, evaluate_every=500, checkpoint_every=500),
    )
