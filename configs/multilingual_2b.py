"""Speech and text of many languages, about 2 billion parameters.

    joint-st train configs/multilingual_2b.py                              # v5p-2048: 64 × data, 16 × fsdp
    joint-st compile configs/multilingual_2b.py --topology v5p:8x8x16      # what a step needs, without a TPU

Data and recipe are those of `multilingual_600m.py`. From USM (arXiv 2303.01037) come 32 conformer layers of width 1536
with 16 heads, as in the larger of its encoders. Text has 4 layers of its own here.

It was compiled but never trained, so there is no WER to expect.
"""

from pathlib import Path

from joint_st.config import Config, load, override


def config() -> Config:
    return override(
        load(Path(__file__).with_name("multilingual_600m.py")),
        {
            "name": "multilingual_2b",
            "data.tokenizer.vocabulary_size": 8192,
            "model.width": 1536,
            "model.heads": 16,
            "model.audio_layers": 8,
            "model.text_layers": 4,
            "model.streaming_layers": 6,
            "model.full_context_layers": 18,
            "optimizer.peak_learning_rate": 5e-4,
        },
    )
