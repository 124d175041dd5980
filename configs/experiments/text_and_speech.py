"""Speech and text in every step, in the paper's architecture: the base of `configs/sweeps/text_options.py` and of
`configs/sweeps/consistency.py`.

    joint-st train configs/experiments/text_and_speech.py

It is the experiment `text_injection.py` with two layers of each kind, where the audio's embeddings enter the shared layers
themselves, text passes as phonemes that are repeated, and both take 2,000 steps together.
"""

from pathlib import Path

from joint_st.config import Config, FeaturesConfig, load, override

BASE = Path(__file__).with_name("text_injection.py")


def config() -> Config:
    return override(
        load(BASE),
        {
            "name": "text_and_speech",
            "model.features": FeaturesConfig(),
            "model.unit_conditioning": "none",
            "model.text_blanks": False,
            "model.streaming_layers": 2,
            "model.full_context_layers": 2,
            # On a CPU with AMX a step takes less time.
            "model.products": "rounded",
            "spec_augment.time_masks": 2,
            "text.substituted_share": 0.0,
            "training.steps": 2_000,
            "training.evaluate_every": 2_000,
            "training.text_first_steps": 0,
        },
    )
