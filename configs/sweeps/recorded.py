"""What text adds to recorded English: no text, reconstruction, and consistency by two alignments.

    JOINT_ST_DATA=... joint-st sweep configs/sweeps/recorded.py --workers 2 --only audio_only reconstruction
    python -m benchmarks.recorded configs/sweeps/recorded.py

`audio_units` has the auxiliary CTC of phonemes, like the arms with text, but no text. All arms take as many steps of
speech, and are decoded greedily and with the same 3-gram of the transcripts and the texts.

In the arms whose names begin with `deep`, speech takes three layers of its own before the shared ones, CTC of phonemes counts
for more, and dropout and masks are those that one reader's 45 epochs needed (`configs/sweeps/recorded_read.py`).
`deep_text_first` takes as many steps on speech and text as the others on speech, after others on text alone, in which a tenth
of the phonemes are drawn at random. `deep_text_first_dtw` has consistency too.
"""

from joint_st.sweeps import Run

BASE = "../experiments/recorded.py"
REFERENCES = ("audio_only", "audio_units", "reconstruction", "deep_audio_only", "deep_units", "deep_text_first")
SEEDS = range(3)

WITHOUT_TEXT = {
    "data.text_batch_size": 0,
    "losses.reconstruction.streaming": 0,
    "losses.reconstruction.full_context": 0,
    "losses.consistency.weight": 0,
}
ARMS = {
    "audio_only": WITHOUT_TEXT | {"data.units.kind": "none", "losses.unit_ctc.weight": 0},
    "audio_units": WITHOUT_TEXT,
    "reconstruction": {"losses.consistency.weight": 0},
    "reconstruction_consistency_skip": {"losses.consistency.alignment": "skip"},
    "reconstruction_consistency_dtw": {},
}
DEEP = {
    # Fewer shapes of batches, of which each takes one CPU core a minute to compile.
    "data.buckets": 3,
    "model.audio_layers": 3,
    "model.full_context_layers": 2,
    "model.dropout": 0.15,
    "losses.unit_ctc.weight": 1,
    "spec_augment.time_masks": 5,
}


def deep(steps: int, text_steps: int) -> dict[str, dict]:
    """Arms with more layers for speech and more dropout: steps on speech, and how many on text alone come before."""
    base = DEEP | {"training.steps": steps, "training.evaluate_every": steps // 5}
    text = base | {
        "data.text_buckets": 2,
        "text.substituted_share": 0.1,
        "training.text_first_steps": text_steps,
        "training.steps": text_steps + steps,
    }
    return {
        "deep_audio_only": base | ARMS["audio_only"],
        "deep_units": base | WITHOUT_TEXT,
        "deep_text_first": text | ARMS["reconstruction"],
        "deep_text_first_dtw": text,
    }


def runs(steps: int = 8_000, text_steps: int = 4_000):
    for seed in SEEDS:
        for arm, overrides in (ARMS | deep(steps, text_steps)).items():
            yield Run(arm, overrides, seed)
