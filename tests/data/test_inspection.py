"""What `joint-st data inspect` says, against numbers known beforehand."""

import json

import numpy as np
import soundfile

from joint_st.config import Config, DataConfig, ManifestSource, TextSource
from joint_st.data.inspection import inspect


def test_counts_hours_drops_and_padding(tmp_path):
    rows = [("a", 1.0, "one two"), ("b", 2.0, "two three"), ("c", 0.05, "one"), ("d", 1.0, "")]
    with open(tmp_path / "train.jsonl", "w") as manifest:
        for name, seconds, text in rows:
            soundfile.write(tmp_path / f"{name}.wav", np.zeros(round(16_000 * seconds), np.int16), 16_000)
            manifest.write(
                json.dumps({"audio_filepath": f"{name}.wav", "duration": seconds, "text": text}) + "\n"
            )
    (tmp_path / "text.txt").write_text("two four\nfive\n")
    train = ManifestSource(path=str(tmp_path / "train.jsonl"))
    data = DataConfig(
        train=(train,),
        test={"same": train},
        text=(TextSource(path=str(tmp_path / "text.txt")),),
        batch_size=2,
        buckets=1,
    )
    tokenizer, words, counts, plan, test = inspect(Config(data=data))
    # e f h i n o r t u v w and the space, with the blank and the unknown character.
    assert tokenizer == "tokenizer: characters, 14 units, the CTC blank included"
    assert words == "words: 3 heard in training, 2 only read"
    assert counts.startswith("train: 2 utterances, 0.00 h; dropped ")
    assert "1 too short" in counts and "1 with empty text" in counts
    assert "2 × 2 s" in plan and "1 steps per epoch, 25.0% padding" in plan
    assert test.startswith("test.same: 4 utterances")
