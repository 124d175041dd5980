"""How much consistency helps the quickstart: no consistency, and weights around its own 0.01.

    joint-st sweep configs/sweeps/consistency_weight.py --workers 2
    joint-st sweep configs/sweeps/consistency_weight.py --collect --csv weights.csv --plot weights.png

It has eight runs of the quickstart with one full-context layer and 1,000 steps, each of which takes some minutes on one
core. The plot has the weight as its axis. WER % in full context, with the 95 % interval over two seeds and 600 test utterances:

    weight    all words           heard               text only
    0         29.7 (27.9-31.3)    17.2 (15.8-18.6)    98.8 (94.4-103.6)
    0.003     29.0 (27.2-30.6)    17.0 (15.3-18.8)    95.5 (90.0-100.5)
    0.01      28.9 (26.7-31.1)    17.0 (15.0-19.0)    95.3 (90.8-99.7)
    0.03      29.7 (28.0-31.1)    17.8 (16.3-19.2)    95.6 (91.0-99.8)

The WER of words that occur in text alone is 3 to 4 % lower with any weight, but every interval of that change, such as
-8.0 to +0.7 % for 0.01, includes zero.
"""

from joint_st.sweeps import Run

BASE = "../quickstart.py"
REFERENCE = "weight_0"
WEIGHTS = (0, 0.003, 0.01, 0.03)
SEEDS = range(2)
SMALL = {
    "model.features": {"level": "none", "remove_offset": False, "floor_db": 0.0},
    "model.full_context_layers": 1,
    "model.unroll": 1,
    "evaluation.ngram_order": 0,
    "training.steps": 1_000,
    "training.text_first_steps": 300,
}


def runs():
    for seed in SEEDS:
        for weight in WEIGHTS:
            yield Run(f"weight_{weight}", SMALL | {"losses.consistency.weight": weight}, seed)
