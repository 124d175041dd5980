"""Train on speech synthesised on the spot, and print the WER on voices never heard.

    joint-st train configs/quickstart.py

The corpus `spoken_grammar` has 6,000 short sentences in 96 voices to train on (5 hours), and half of its names occur
in text only: the rows `only_read` of the table show that a model trained on audio alone can not spell them.
"""

from joint_st.config import (
    Config,
    DataConfig,
    ModelConfig,
    OptimizerConfig,
    ParallelConfig,
    SpecAugmentConfig,
    TfdsSource,
    TrainingConfig,
)


def config() -> Config:
    def corpus(split):
        return TfdsSource(name="spoken_grammar", split=split)

    return Config(
        name="quickstart",
        data=DataConfig(
            train=(corpus("train"),),
            dev=(corpus("dev"),),
            test={"test": corpus("test")},
            text=(corpus("text"),),
            # Small batches: in so short a training, the number of steps counts for more than their noise.
            batch_size=8,
            buckets=2,
        ),
        model=ModelConfig(
            width=96, feed_forward=2, audio_layers=1, streaming_layers=1, full_context_layers=1, dropout=0.0
        ),
        # Narrow bands, and no spans: three epochs can not afford to lose a label.
        spec_augment=SpecAugmentConfig(frequency_masks=2, frequency_width=8, time_masks=0),
        # Muon reaches AdamW's loss in little more than half as many steps.
        optimizer=OptimizerConfig(kind="muon", peak_learning_rate=6e-3, warmup_steps=50),
        training=TrainingConfig(steps=2_000, evaluate_every=1_000, checkpoint_every=1_000),
        parallel=ParallelConfig(cpu_devices=2),
    )
