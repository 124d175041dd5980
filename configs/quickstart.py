"""Train on speech that is synthesised first and on text alone, and print the WER on unseen voices.

    joint-st train configs/quickstart.py

The corpus `spoken_grammar` has 6,000 short sentences in 96 voices to train on (4.8 hours), and 12,000 that are text
alone. Half of its names occur in these only; the rows `text_only` show how well text teaches them.

It takes 400 steps on text and 1,200 on both, seven minutes on 2 CPU cores with corpus, compilation and the last table. WER %
on 600 utterances in 12 unseen voices, with the 95 % interval:

    words        full context, greedy    with a 3-gram       streaming, greedy    with a 3-gram
    all          15.0 (13.6-16.4)         2.5 (1.7-3.5)      43.6 (41.9-45.3)      6.3 (4.9-7.6)
    heard         5.3 (4.5-6.3)           1.3 (0.7-2.0)      33.4 (31.6-35.2)      4.0 (2.9-5.1)
    text only    68.6 (63.9-73.3)         9.5 (6.4-12.5)    100.0 (96.2-103.8)    19.0 (15.2-22.8)
"""

from joint_st.config import (
    Config,
    ConsistencyConfig,
    DataConfig,
    EvaluationConfig,
    LossesConfig,
    ModelConfig,
    OptimizerConfig,
    ReconstructionConfig,
    SpecAugmentConfig,
    TextConfig,
    TfdsSource,
    TrainingConfig,
    UnitCtcConfig,
    UnitsConfig,
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
            units=UnitsConfig(kind="phonemes"),
            # Small batches: in so short a training, the number of steps counts for more than their noise.
            batch_size=8,
            # One shape, one compilation; three in a hundred utterances are longer.
            buckets=1,
            max_seconds=4.0,
            text_batch_size=24,
            # A few long sentences would pad all others.
            max_text_units=40,
        ),
        model=ModelConfig(
            width=96,
            feed_forward=2,
            # A quarter of a second behind each frame: enough for phonemes, too little to learn whole names by heart.
            left_context=6,
            audio_layers=2,
            streaming_layers=1,
            # Two of them spell much better than one, for a few more milliseconds a step.
            full_context_layers=2,
            # A step takes an eighth less time.
            unroll=2,
            dropout=0.0,
            # Speech enters the shared layers as the phonemes heard, one spike each as text does: what text teaches
            # these layers, names that are never heard among it, they then know of speech.
            unit_conditioning="replace",
            text_blanks=True,
        ),
        # About as long as speech: 2.2 encoder frames a phoneme. Some phonemes are wrong, as some heard are.
        text=TextConfig(
            repetition="random", repeat_least=1, repeat_most=3, mask_share=0.05, mask_span=3, substituted_share=0.1
        ),
        losses=LossesConfig(
            # Paired text passes once, clean, for the consistency; there is text enough to reconstruct without it.
            reconstruction=ReconstructionConfig(streaming=0.3, full_context=0.7, paired=0.0),
            unit_ctc=UnitCtcConfig(weight=1.0),
            # `dtw` leaves no text frame out, where `skip` would soon skip most. Speech comes to the text: that way the
            # text is hardly drawn away from what it can spell already.
            consistency=ConsistencyConfig(weight=0.01, alignment="dtw", gradient="audio"),
        ),
        # Narrow bands, and no spans: so few epochs can not afford to lose a label.
        spec_augment=SpecAugmentConfig(frequency_masks=2, frequency_width=8, time_masks=0),
        # Muon reaches AdamW's loss in little more than half as many steps.
        optimizer=OptimizerConfig(kind="muon", peak_learning_rate=6e-3, warmup_steps=50),
        # Layers that can spell already need fewer steps of speech, which cost more.
        training=TrainingConfig(steps=1_600, text_first_steps=400, evaluate_every=800, checkpoint_every=800),
        evaluation=EvaluationConfig(ngram_order=3),
    )
