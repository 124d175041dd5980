"""Does text help with recorded speech? English of one reader, of learners and of a crowd, 4.6 hours to train on.

    JOINT_ST_DATA=... joint-st train configs/experiments/recorded.py

This is the base of the sweep `configs/sweeps/recorded.py`: reconstruction and consistency in the paper's architecture,
where the audio's embeddings enter the shared layers themselves. It takes 10,000 steps, 30 epochs of the speech.

`$JOINT_ST_DATA` holds the folders `arctic` (one reader, CMU Arctic prompts), `speechocean762` (125 learners, children and
adults, small vocabulary) and `common_voice_en` (a crowd, hard) with their manifests, and `text` (`english_novels.txt`, one
sentence a line). speechocean762 has no test split: by seven speakers of its dev split checkpoints are chosen, and on
eight the result is reported.
"""

from joint_st.config import (
    Config,
    ConsistencyConfig,
    DataConfig,
    EvaluationConfig,
    LossesConfig,
    ManifestSource,
    ModelConfig,
    OptimizerConfig,
    ReconstructionConfig,
    SpecAugmentConfig,
    Speed,
    TextConfig,
    TextSource,
    TrainingConfig,
    UnitCtcConfig,
    UnitsConfig,
)

CORPORA = ("arctic", "speechocean762", "common_voice_en")
TO_CHOOSE = ("0054", "0482", "0594", "2236", "2380", "2402", "2621")
"""Speakers of speechocean762's dev split by whom recipes and checkpoints are chosen; the others are reported."""
TO_REPORT = ("3021", "3088", "5218", "5414", "5551", "6912", "9606", "9611")


def config() -> Config:
    def manifest(corpus, split, **where):
        return ManifestSource(path=f"$JOINT_ST_DATA/{corpus}/{split}.jsonl", corpus=corpus, where=where)

    def text(path):
        return TextSource(path=f"$JOINT_ST_DATA/{path}", language="en-us")

    return Config(
        name="recorded",
        data=DataConfig(
            train=tuple(manifest(corpus, "train") for corpus in CORPORA),
            dev=(
                manifest("arctic", "dev"),
                manifest("common_voice_en", "dev"),
                manifest("speechocean762", "dev", speaker=TO_CHOOSE),
            ),
            test={
                "arctic": manifest("arctic", "test"),
                "common_voice_en": manifest("common_voice_en", "test"),
                "speechocean762": manifest("speechocean762", "dev", speaker=TO_REPORT),
            },
            text=(text("common_voice_en/text_only.txt"), text("text/english_novels.txt")),
            units=UnitsConfig(kind="phonemes"),
            augmentation=(Speed(),),
            max_seconds=10.0,
            batch_size=8,
            buckets=5,
            text_batch_size=8,
            # All but one sentence in a thousand.
            max_text_units=128,
            text_buckets=3,
            # All of it: on one core, decoding takes a good part of an epoch on speech alone.
            keep_audio_gib=1.0,
        ),
        model=ModelConfig(
            width=144,
            feed_forward=2,
            kernel=15,
            audio_layers=1,
            streaming_layers=1,
            full_context_layers=4,
            dropout=0.1,
            # On a CPU with AMX a step takes a quarter less time.
            products="rounded",
        ),
        text=TextConfig(repetition="random", repeat_least=1, repeat_most=3, mask_share=0.15, mask_span=6),
        losses=LossesConfig(
            reconstruction=ReconstructionConfig(streaming=0.3, full_context=0.7, paired=0.0),
            unit_ctc=UnitCtcConfig(weight=0.3),
            consistency=ConsistencyConfig(weight=0.01, alignment="dtw", gradient="audio"),
        ),
        spec_augment=SpecAugmentConfig(frequency_masks=2, frequency_width=10, time_masks=2, time_share=0.03),
        optimizer=OptimizerConfig(kind="muon", peak_learning_rate=4e-3, warmup_steps=200),
        training=TrainingConfig(steps=10_000, evaluate_every=1_000, checkpoint_every=500),
        evaluation=EvaluationConfig(ngram_order=3),
    )
