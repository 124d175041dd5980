"""How much consistency the quickstart wants: none, and weights around its own 0.01.

    joint-st sweep configs/sweeps/consistency_weight.py --workers 2
    joint-st sweep configs/sweeps/consistency_weight.py --collect --csv weights.csv --plot weights.png

Eight runs of the quickstart, of some minutes each on a core of its own. The plot has the weight as its axis.
"""

from joint_st.experiments import Run

BASE = "../quickstart.py"
REFERENCE = "weight_0"
WEIGHTS = (0, 0.003, 0.01, 0.03)
SEEDS = range(2)


def runs():
    for seed in SEEDS:
        for weight in WEIGHTS:
            yield Run(f"weight_{weight}", {"objective.consistency.weight": weight}, seed)
