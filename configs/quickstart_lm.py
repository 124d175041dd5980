"""A neural language model over the letters of the quickstart, of its training transcripts and its text.

    joint-st train-lm configs/quickstart_lm.py
    joint-st evaluate runs/quickstart --lm runs/quickstart_lm --tune
    joint-st evaluate runs/quickstart --rescore runs/quickstart_lm --tune

It takes 100 s of CPU time with compilation. Perplexity on 200 sentences that it was not trained on: 1.678 a letter,
13.83 a word. The README has the WER.
"""

from joint_st.config import LmConfig, LmDataConfig, LmModelConfig, LoopConfig, OptimizerConfig, TfdsSource


def config() -> LmConfig:
    def corpus(split):
        return TfdsSource(name="spoken_grammar", split=split)

    return LmConfig(
        name="quickstart_lm",
        data=LmDataConfig(
            # All texts that the quickstart is trained on, so that its letters are the same.
            train=(corpus("train"), corpus("text")),
            dev=(corpus("dev"),),
            batch_size=32,
            buckets=4,
        ),
        model=LmModelConfig(width=128, layers=2, dropout=0.0),
        optimizer=OptimizerConfig(peak_learning_rate=8e-3, warmup_steps=50, ema_decay=0.99),
        training=LoopConfig(steps=800, evaluate_every=200, checkpoint_every=200),
    )
