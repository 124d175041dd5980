"""Does text help with recorded speech? Dutch of two readers, 1.4 hours to train on.

    JOINT_ST_DATA=... joint-st train configs/experiments/recorded_dutch.py

It is the experiment `recorded.py` with the corpus `dutch_read` (two readers, one of the Netherlands and one of Flanders, who
read the same sentences) and `text/sentences/nl.txt` (sentences that are in no split), over as many epochs. The normaliser
spells no numbers, as `english` would do, in English; sentences with digits are left out of the text.
"""

from pathlib import Path

from joint_st.config import Config, ManifestSource, TextSource, load, override

BASE = Path(__file__).with_name("recorded.py")


def config() -> Config:
    def dutch(split):
        return ManifestSource(path=f"$JOINT_ST_DATA/dutch_read/{split}.jsonl", corpus="dutch_read")

    return override(
        load(BASE),
        {
            "name": "recorded_dutch",
            "data.train": [dutch("train")],
            "data.dev": [dutch("dev")],
            "data.test": {"dutch_read": dutch("test")},
            "data.text": [TextSource(path="$JOINT_ST_DATA/text/sentences/nl.txt", language="nl", leave_out=r"\d")],
            "data.normalizer": "basic",
            # All but one sentence in a thousand.
            "data.max_text_units": 192,
            "training.steps": 4_000,
        },
    )
