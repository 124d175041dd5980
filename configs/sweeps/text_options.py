"""What each choice of text injection changes: one factor at a time, from one base with audio and text in every step.

    joint-st sweep configs/sweeps/text_options.py --only base audio_only --workers 2
    joint-st confusions runs/sweeps/text_options/base/seed_0
    joint-st sweep configs/sweeps/text_options.py --workers 2
    python -m benchmarks.kept_runs configs/sweeps/text_options.py

In the base, the audio's embeddings enter the shared layers themselves, as in the paper. The arm `confusions` reads what
the second command counts on the dev set. `wordpieces` is the reference of `one_frame`: most texts have more letters than
phonemes, and cannot be spelled in one frame for each phoneme. `cr_ctc` passes each utterance twice, so it takes half as
many, and has two and a half times the time masks.
"""

from joint_st.sweeps import Run

BASE = "../experiments/text_and_speech.py"
REFERENCES = ("base", "audio_only", "wordpieces")
SEEDS = range(3)

WORDPIECES = {"data.tokenizer.kind": "sentencepiece", "data.tokenizer.vocabulary_size": 256}
ARMS = {
    "base": {},
    "audio_only": {
        "data.text_batch_size": 0,
        "losses.reconstruction.streaming": 0,
        "losses.reconstruction.full_context": 0,
        "losses.consistency.weight": 0,
    },
    "no_consistency": {"losses.consistency.weight": 0},
    "depth_1": {"model.text_depth": 1},
    "depth_2": {"model.text_depth": 2},
    "two_frames": {"text.repetition": "fixed", "text.repeat_most": 2},
    "wordpieces": WORDPIECES,
    "one_frame": {**WORDPIECES, "text.repetition": "none"},
    "one_frame_depth_1": {**WORDPIECES, "text.repetition": "none", "model.text_depth": 1},
    "wide_masks": {"text.mask_share": 0.15, "text.mask_span": 6},
    "text_first": {
        "training.steps": 2_700,
        "training.evaluate_every": 2_700,
        "training.text_first_steps": 700,
    },
    "text_later": {"training.text_from_step": 500, "training.text_ramp_steps": 500},
    "scale_0.7": {"model.text_scale": 0.7},
    "scale_0.3": {"model.text_scale": 0.3},
    "substituted": {"text.substituted_share": 0.1},
    "confusions": {"text.confusions": "runs/sweeps/text_options/base/seed_0/confusions.json"},
    "cr_ctc": {"losses.cr_ctc.weight": 0.2, "spec_augment.time_masks": 5, "data.batch_size": 4},
}


def runs():
    for seed in SEEDS:
        for arm, changes in ARMS.items():
            yield Run(arm, changes, seed)
