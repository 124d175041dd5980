"""LibriSpeech, 960 hours, with the text of its language models: about 120 million parameters.

    joint-st train configs/librispeech_960h.py --parallel.data 16          # v5e-16
    joint-st compile configs/librispeech_960h.py --topology v5e:4x4        # what a step needs, without a TPU

`$LIBRISPEECH` holds a manifest for each of `train`, `dev-clean`, `dev-other`, `test-clean` and `test-other` (the three
training sets in one), and `librispeech-lm-norm.txt`, a sentence a line (openslr.org/11, 800 million words).

It was compiled but never trained, so there is no WER to expect.

- From Conformer (L) (arXiv 2005.08100): width 512, 8 heads, 17 layers that speech passes through, convolutions over 32
  frames (31 here), dropout 0.1, 80 mels, about 1,000 wordpieces, bands up to 27 channels and ten spans of 5 % masked,
  10,000 steps of warm-up to 0.05 / sqrt(512). Conformer has a transducer's decoder; this config has two CTC heads.
- From cascaded encoders (arXiv 2010.14606): full-context layers on streaming ones, trained together.
- From JOIST (arXiv 2210.07353): phonemes repeated at random, 15 % of their frames masked, text and speech in every
step.
- From arXiv 2308.06125: the consistency of speech and its text under the best alignment, in the shared layers.

The numbers of layers for speech, for text and for both, and the weights of the losses, are choices of this file.
"""

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
    TokenizerConfig,
    TrainingConfig,
    UnitsConfig,
)


def config() -> Config:
    def manifest(split):
        return ManifestSource(path=f"$LIBRISPEECH/{split}.jsonl", corpus=f"librispeech {split}")

    return Config(
        name="librispeech_960h",
        data=DataConfig(
            train=(manifest("train"),),
            dev=(manifest("dev-clean"), manifest("dev-other")),
            test={"test_clean": manifest("test-clean"), "test_other": manifest("test-other")},
            text=(TextSource(path="$LIBRISPEECH/librispeech-lm-norm.txt"),),
            tokenizer=TokenizerConfig(kind="sentencepiece", vocabulary_size=1024),
            units=UnitsConfig(kind="phonemes"),
            # All but 0.02 % of the training utterances.
            max_seconds=17.0,
            batch_size=256,
            buckets=4,
            text_batch_size=256,
            max_text_units=256,
            read_threads=32,
            prefetch_batches=8,
        ),
        model=ModelConfig(
            width=512,
            heads=8,
            kernel=31,
            audio_layers=4,
            text_layers=2,
            streaming_layers=3,
            full_context_layers=10,
            dropout=0.1,
            compute_dtype="bfloat16",
            remat=True,
        ),
        text=TextConfig(repetition="random", repeat_least=1, repeat_most=3),
        losses=LossesConfig(
            ctc=CtcLossConfig(streaming=0.3, full_context=0.7),
            reconstruction=ReconstructionConfig(streaming=0.1, full_context=0.2, paired=0.0),
            consistency=ConsistencyConfig(weight=0.1, warmup_steps=20_000),
        ),
        spec_augment=SpecAugmentConfig(frequency_masks=2, frequency_width=27, time_masks=10, time_share=0.05),
        optimizer=OptimizerConfig(peak_learning_rate=2.2e-3, warmup_steps=10_000, beta2=0.98, weight_decay=1e-3),
        training=TrainingConfig(steps=150_000, log_every=100, evaluate_every=5_000, checkpoint_every=2_500),
        evaluation=EvaluationConfig(batch_size=256),
    )
