"""Does text help with recorded speech? One reader, 1.1 hours to train on, and sentences of novels as text.

    JOINT_ST_DATA=... joint-st train configs/experiments/recorded_read.py

It is the experiment `recorded.py` on its corpus `arctic` alone, and the base of the sweep `configs/sweeps/recorded_read.py`.
The streaming layers, of which there are more, see ahead by a length that is drawn for each step. It takes 2,500 steps, 15
epochs of the speech.
"""

from pathlib import Path

from joint_st.config import Config, TextSource, load, override

BASE = Path(__file__).with_name("recorded.py")


def config() -> Config:
    base = load(BASE)
    return override(
        base,
        {
            "name": "recorded_read",
            "data.train": base.data.train[:1],
            "data.dev": base.data.dev[:1],
            "data.test": {"arctic": base.data.test["arctic"]},
            "data.text": [TextSource(path="$JOINT_ST_DATA/text/english_novels.txt", language="en-us")],
            "data.max_seconds": 6.0,
            "data.buckets": 3,
            # The sweep's results were made with these, which leave out the longer sentences, with more than half of the
            # text; its arms `confusions` take all of it.
            "data.max_text_units": 64,
            "data.text_buckets": 1,
            "model.streaming_layers": 3,
            "model.full_context_layers": 2,
            "model.look_ahead_ms": (0, 160, 320, 640),
            "training.steps": 2_500,
            "training.evaluate_every": 500,
        },
    )
