"""Speech synthesised on the spot."""

from joint_st.config import (
    Config,
    DataConfig,
    ModelConfig,
    ObjectiveConfig,
    OptimizerConfig,
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
            batch_size=16,
            buckets=2,
        ),
        model=ModelConfig(width=96, audio_layers=1, streaming_layers=1, full_context_layers=1, dropout=0.0),
        optimizer=OptimizerConfig(peak_learning_rate=4e-3, warmup_steps=50),
        training=TrainingConfig(steps=500, evaluate_every=250, checkpoint_every=250),
    )
