"""Speech and text of many languages, about 600 million parameters, cut over the chips of a pod by FSDP.

    joint-st train configs/multilingual_600m.py                            # v5e-256: 16 × data, 16 × fsdp
    joint-st compile configs/multilingual_600m.py --topology v5e:16x16     # what a step needs, without a TPU

`$MULTILINGUAL` holds `train.jsonl`, `dev.jsonl` and `test.jsonl`, manifests whose lines have `language` (BCP 47), and
a folder `text` with a file of sentences for each language in `LANGUAGES`.

It was compiled but never trained, so there is no WER to expect.

- From USM (arXiv 2303.01037): 24 conformer layers of width 1024 with 8 heads and convolutions over 5 frames, as in the
smaller of its encoders; 128 mels, 40 ms a frame, one set of wordpieces for all languages.
- From JOIST (arXiv 2210.07353) and arXiv 2308.06125: as in `librispeech_960h.py`, here with phonemes of all languages.

Which layers are streaming and which are shared, the number of wordpieces, the batch and the schedule are choices of
this file.
"""

from pathlib import Path

from joint_st.config import Config, ManifestSource, TextSource, load, override

LANGUAGES = ("de", "en", "es", "fr", "hi", "it", "nl", "pl", "pt", "ru", "tr", "vi")


def config() -> Config:
    def manifest(split):
        return ManifestSource(path=f"$MULTILINGUAL/{split}.jsonl", corpus=f"multilingual {split}")

    texts = [TextSource(path=f"$MULTILINGUAL/text/{tag}.txt", language=tag) for tag in LANGUAGES]
    return override(
        load(Path(__file__).with_name("librispeech_960h.py")),
        {
            "name": "multilingual_600m",
            "data.train": [manifest("train")],
            "data.dev": [manifest("dev")],
            "data.test": {"test": manifest("test")},
            "data.text": texts,
            "data.normalizer": "basic",
            "data.tokenizer.vocabulary_size": 4096,
            "data.max_seconds": 20.0,
            "data.batch_size": 1024,
            "data.text_batch_size": 1024,
            "evaluation.batch_size": 1024,
            "model.features.mels": 128,
            "model.width": 1024,
            "model.kernel": 5,
            "model.audio_layers": 6,
            "model.text_layers": 0,
            "model.streaming_layers": 4,
            "model.full_context_layers": 14,
            "optimizer.peak_learning_rate": 1e-3,
            "optimizer.warmup_steps": 15_000,
            "training.steps": 300_000,
            "parallel.fsdp": 16,
        },
    )
