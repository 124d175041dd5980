"""Can text alone teach words that do not occur in audio? This is the base of the sweep
`configs/sweeps/text_injection.py`.

    joint-st train configs/experiments/text_injection.py

The quickstart's recipe with one full-context layer and plain features, for 700 steps on text and 2,000 on both, on
utterances of all lengths.
"""

from pathlib import Path

from joint_st.config import Config, FeaturesConfig, load, override

QUICKSTART = Path(__file__).parents[1] / "quickstart.py"


def config() -> Config:
    return override(
        load(QUICKSTART),
        {
            "name": "text_injection",
            "data.buckets": 2,
            "data.max_seconds": 20.0,
            "model.features": FeaturesConfig(level="none", remove_offset=False, floor_db=0.0),
            "model.full_context_layers": 1,
            "model.unroll": 1,
            "evaluation.ngram_order": 0,
            "training.steps": 2_700,
            "training.text_first_steps": 700,
            "training.evaluate_every": 2_700,
            "training.checkpoint_every": 700,
        },
    )
