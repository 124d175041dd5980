"""What look-ahead buys on recorded speech: an hour of one reader, without text.

    JOINT_ST_DATA=... joint-st train configs/experiments/look_ahead_read.py --name read
    joint-st train configs/experiments/look_ahead_read.py --name read_look_ahead --model.look_ahead_ms 0,160,320,640
    python -m benchmarks.look_ahead runs/read runs/read_look_ahead --data arctic=$JOINT_ST_DATA/arctic/dev.jsonl

The file of results also has runs of one length, `read_320` and `read_640`.
It is the experiment `recorded.py` on its corpus `arctic` alone, with more of the layers in the streaming pass.
"""

from pathlib import Path

from joint_st.config import Config, load, override

BASE = Path(__file__).with_name("recorded.py")


def config() -> Config:
    base = load(BASE)
    return override(
        base,
        {
            "name": "look_ahead_read",
            "data.train": base.data.train[:1],
            "data.dev": base.data.dev[:1],
            "data.test": {},
            "data.text": [],
            "data.text_batch_size": 0,
            # As the runs had it that are measured; a few longer utterances have no loss of phonemes.
            "data.max_text_units": 64,
            "data.max_seconds": 6.0,
            "data.batch_size": 4,
            "data.buckets": 2,
            "model.audio_layers": 1,
            "model.streaming_layers": 3,
            "model.full_context_layers": 2,
            "losses.reconstruction.streaming": 0,
            "losses.reconstruction.full_context": 0,
            "losses.consistency.weight": 0,
            "losses.unit_ctc.weight": 0.3,
            "training.steps": 3_000,
            "training.evaluate_every": 1_500,
            "evaluation.ngram_order": 0,
        },
    )
