"""What text adds to the same paired speech and steps: no text, reconstruction, and consistency under each alignment.

    joint-st sweep configs/sweeps/text_injection.py --workers 2
    joint-st sweep configs/sweeps/text_injection.py --only audio_only reconstruction reconstruction_consistency
    joint-st sweep configs/sweeps/text_injection.py --collect --json benchmarks/results/text_injection.json

`reconstruction_consistency` is the base itself, with `dtw`; the last arms differ from it only in the alignment.
`audio_units` has the auxiliary CTC of phonemes, like the arms with text, but no text.
"""

from joint_st.sweeps import Run

BASE = "../experiments/text_injection.py"
REFERENCES = ("audio_only", "reconstruction", "reconstruction_consistency")
SEEDS = range(3)

WITHOUT_TEXT = {
    "data.text_batch_size": 0,
    "losses.reconstruction.streaming": 0,
    "losses.reconstruction.full_context": 0,
    "losses.consistency.weight": 0,
    "model.unit_conditioning": "none",
    "training.steps": 2_000,
    "training.text_first_steps": 0,
    "training.evaluate_every": 2_000,
}
ALIGNMENTS = ("skip", "step", "soft", "optimal_transport", "frame_wise", "random", "given")


def runs():
    arms = {
        "audio_only": {**WITHOUT_TEXT, "data.units.kind": "none", "losses.unit_ctc.weight": 0},
        "audio_units": WITHOUT_TEXT,
        "reconstruction": {"losses.consistency.weight": 0},
        "reconstruction_consistency": {},
        **{alignment: {"losses.consistency.alignment": alignment} for alignment in ALIGNMENTS},
    }
    for seed in SEEDS:
        for arm, overrides in arms.items():
            yield Run(arm, overrides, seed)
