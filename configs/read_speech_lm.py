"""A neural language model over the letters of `read_speech.py`, of its training transcripts and its text.

    joint-st train-lm configs/read_speech_lm.py --data.tokenizer.path runs/read_speech/tokenizer
    joint-st evaluate runs/read_speech --lm runs/read_speech_lm --tune

It took 8 minutes on 2 CPU cores that other jobs shared. Perplexity on the dev sets: 4.492 a letter, 881.6 a word.
"""

from pathlib import Path

from joint_st.config import LmConfig, load, override

HERE = Path(__file__).parent


def config() -> LmConfig:
    speech = load(HERE / "read_speech.py").data
    return override(
        load(HERE / "quickstart_lm.py", LmConfig),
        {
            "name": "read_speech_lm",
            "data.train": [*speech.train, *speech.text],
            "data.dev": speech.dev,
        },
    )
