"""The experiment `text_injection.py` on recorded speech: an hour of one reader, and sentences of novels as text.

    JOINT_ST_DATA=... joint-st train configs/experiments/text_injection_read.py

`$JOINT_ST_DATA` holds the folders `arctic` (one reader, CMU Arctic prompts, 1.1 hours to train on) and `text`
(`english_novels.txt`, one sentence a line). The rows `text_only` count words of the test sentences that the reader
never says in training and that occur in a novel. It takes 500 steps on text and 1,500 on both (9 epochs of the speech).
"""

from pathlib import Path

from joint_st.config import Config, ManifestSource, TextSource, load, override

BASE = Path(__file__).with_name("text_injection.py")


def config() -> Config:
    def arctic(split):
        return ManifestSource(path=f"$JOINT_ST_DATA/arctic/{split}.jsonl", corpus="arctic")

    return override(
        load(BASE),
        {
            "name": "text_injection_read",
            "data.train": [arctic("train")],
            "data.dev": [arctic("dev")],
            "data.test": {"arctic": arctic("test")},
            "data.text": [TextSource(path="$JOINT_ST_DATA/text/english_novels.txt", language="en-us")],
            "data.max_text_units": 60,
            "training.steps": 2_000,
            "training.text_first_steps": 500,
            "training.evaluate_every": 2_000,
            "training.checkpoint_every": 500,
        },
    )
