"""What text adds to recorded English: no text, reconstruction, and consistency by two alignments.

    JOINT_ST_DATA=... joint-st sweep configs/sweeps/recorded.py --workers 2 --only audio_only reconstruction
    python -m benchmarks.recorded configs/sweeps/recorded.py

`audio_units` has the auxiliary CTC of phonemes, like the arms with text, but no text. All arms take as many steps of
speech, and are decoded greedily and with the same 3-gram of the transcripts and the texts.
"""

from joint_st.sweeps import Run

BASE = "../experiments/recorded.py"
REFERENCES = ("audio_only", "audio_units", "reconstruction")
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


def runs():
    for seed in SEEDS:
        for arm, overrides in ARMS.items():
            yield Run(arm, overrides, seed)
