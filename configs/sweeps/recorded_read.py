"""What text adds to an hour of one recorded reader, injected or spoken by a machine.

    joint-st data synthesize configs/experiments/recorded_read.py --most 1700 --out runs/spoken_novels
    JOINT_ST_DATA=... joint-st sweep configs/sweeps/recorded_read.py --workers 2 --only deep_units
    joint-st confusions runs/sweeps/recorded_read/deep_units/seed_0
    JOINT_ST_DATA=... joint-st sweep configs/sweeps/recorded_read.py --workers 2
    python -m benchmarks.recorded configs/sweeps/recorded_read.py

The arms are those of `configs/sweeps/recorded.py`, and these:

- `synthetic` is `audio_units` with the same novels, spoken by espeak-ng in many voices, in batches twice as long: as many
  utterances are recorded as in the others.
- In the arms whose names begin with `deep`, two of the streaming layers come before the shared ones and not among them, and
  CTC of phonemes counts for more: what enters the shared layers is nearer to phonemes, as text is.
- The arms whose names begin with `long` have these layers too; they take three times as many steps on speech, and more
  dropout and masks. `long_cr_ctc` is `long_units` with CR-CTC: it passes each utterance twice, and so takes half as many.
- `long_confusions` is `long_reconstruction` with the long sentences too, whose text is confused as `deep_units` confuses
  phonemes on the dev set, which `joint-st confusions runs/sweeps/recorded_read/deep_units/seed_0` counts.
  `long_text_first` is the same after 6,000 steps on text alone, and `long_text_first_dtw` has consistency too.
- `deep_text_first` and `deep_text_first_clean` take 3,000 steps on text alone before fifteen epochs. The text of the second is
  not confused, and a third as much of it is masked, in spans half as long.
  `deep_text_first_unbounded` is the latter without boundaries between words among the phonemes, which take up to a frame more,
  and `deep_units_unbounded` has no text.
- In `conditioned` arms, the audio layers' own reading of the phonemes is added to what enters the shared layers
  (self-conditioned CTC, arXiv 2104.02724), and text has blanks between its phonemes, as that reading has. In the arms with
  `replace` in their names, this reading replaces what enters.
- Letters fill two thirds of this reader's frames, which leaves CTC little to choose from (`joint-st data inspect`). In
  `deep_pieces_units`, labels are 256 wordpieces. In the arms with `fine` in their names, a frame lasts 20 ms in place of 40,
  and with text each phoneme takes twice as many. `deep_fine_text_first` has the text of `long_text_first` next to fifteen epochs,
  after 2,000 steps on it alone, and `deep_fine_text_first_layer_0` has consistency too, where speech and text enter the shared
  layers, which helps most on synthesised speech (`configs/sweeps/consistency.py`). `deep_fine_combined` has the speech of
  `synthetic` too, and `deep_fine_synthetic` is `deep_fine_units` with that speech, without text.
- `masked_units` is `long_units` with masks as wide as those of CR-CTC's authors. The `longer` arms have these too, and
  twice as many steps.
"""

import runpy
from pathlib import Path

from joint_st.sweeps import Run

ENGLISH = runpy.run_path(str(Path(__file__).with_name("recorded.py")))
BASE = "../experiments/recorded_read.py"
REFERENCES = ("audio_only", "audio_units", "reconstruction", "deep_units")
REFERENCES += (
    "deep_text_first",
    "deep_text_first_clean",
    "deep_units_unbounded",
    "deep_text_first_unbounded",
    "deep_units_replace",
    "deep_text_first_replace",
    "long_audio_only",
    "long_units",
    "long_reconstruction",
    "long_text_first",
    "longer_audio_only",
    "longer_units",
    "deep_fine_units",
    "deep_fine_text_first",
    "fine_audio_only",
    "fine_units",
)
RECORDED, SPOKEN = "manifest:$JOINT_ST_DATA/arctic/train.jsonl", "manifest:runs/spoken_novels/manifest.jsonl"
WITHOUT_TEXT = ENGLISH["WITHOUT_TEXT"]
SYNTHETIC = {"data.train": [RECORDED, SPOKEN], "data.batch_size": 16}
CONDITIONED = {"model.unit_conditioning": "add", "model.text_blanks": True}
UNBOUNDED = {"data.units.boundaries": False}
REPLACE = CONDITIONED | {"model.unit_conditioning": "replace"}
DEEP = {"model.audio_layers": 3, "model.streaming_layers": 1, "losses.unit_ctc.weight": 1}
LONG = DEEP | {
    "training.steps": 7_500,
    "training.evaluate_every": 1_500,
    "model.dropout": 0.15,
    "spec_augment.time_masks": 5,
}
# Recipes of an hour of speech are masked less; CR-CTC (arXiv 2410.05101) masks up to 37.5 % of the time.
MASKED = LONG | {"spec_augment.time_share": 0.08, "spec_augment.frequency_width": 27}
LAYER_0 = {"losses.consistency.weight": 0.01, "losses.consistency.layers": [0]}
LONGER = MASKED | {"training.steps": 15_000, "training.evaluate_every": 2_500}
# The base takes sentences of up to 64 phonemes, and so leaves out more than half of the text.
ALL_TEXT = ENGLISH["ARMS"]["reconstruction"] | {"data.max_text_units": 128, "data.text_buckets": 3}
CONFUSIONS = ALL_TEXT | {"text.confusions": "runs/sweeps/recorded_read/deep_units/seed_0/confusions.json"}
CLEAN = {"text.mask_share": 0.05, "text.mask_span": 3}
TEXT_FIRST = LONG | CONFUSIONS | {"training.text_first_steps": 6_000, "training.steps": 13_500}
PIECES = {"data.tokenizer.kind": "sentencepiece", "data.tokenizer.vocabulary_size": 256}
FINE = {"model.features.hop_ms": 5.0}
FINE_TEXT = {"text.repeat_least": 2, "text.repeat_most": 6}
DEEP_TEXT_FIRST = DEEP | {
    "training.text_first_steps": 3_000,
    "training.steps": 5_500,
    "training.evaluate_every": 1_100,
}
FINE_TEXT_FIRST = DEEP | CONFUSIONS | FINE | FINE_TEXT | {"training.text_first_steps": 2_000, "training.steps": 4_500}
ARMS = ENGLISH["ARMS"] | {
    "synthetic": WITHOUT_TEXT | SYNTHETIC,
    "deep_units": WITHOUT_TEXT | DEEP,
    "deep_reconstruction": ENGLISH["ARMS"]["reconstruction"] | DEEP,
    "deep_consistency_dtw": DEEP,
    "long_audio_only": LONG | ENGLISH["ARMS"]["audio_only"],
    "long_units": WITHOUT_TEXT | LONG,
    "long_cr_ctc": WITHOUT_TEXT | LONG | {"losses.cr_ctc.weight": 0.2, "data.batch_size": 4},
    "long_reconstruction": ENGLISH["ARMS"]["reconstruction"] | LONG,
    "long_consistency_dtw": LONG,
    "long_confusions": LONG | CONFUSIONS,
    "long_text_first": TEXT_FIRST,
    "long_text_first_dtw": TEXT_FIRST | {"losses.consistency.weight": 0.01},
    "deep_text_first": CONFUSIONS | DEEP_TEXT_FIRST,
    "deep_text_first_clean": ALL_TEXT | DEEP_TEXT_FIRST | CLEAN,
    "deep_units_unbounded": WITHOUT_TEXT | DEEP | UNBOUNDED,
    "deep_text_first_unbounded": ALL_TEXT | DEEP_TEXT_FIRST | CLEAN | UNBOUNDED | {"text.repeat_most": 4},
    "deep_units_replace": WITHOUT_TEXT | DEEP | REPLACE,
    "deep_text_first_replace": CONFUSIONS | DEEP_TEXT_FIRST | REPLACE,
    "deep_pieces_units": WITHOUT_TEXT | DEEP | PIECES,
    "deep_fine_units": WITHOUT_TEXT | DEEP | FINE,
    "deep_fine_text_first": FINE_TEXT_FIRST,
    "deep_fine_text_first_layer_0": FINE_TEXT_FIRST | LAYER_0,
    "deep_fine_synthetic": WITHOUT_TEXT | DEEP | FINE | SYNTHETIC,
    "deep_fine_combined": FINE_TEXT_FIRST | LAYER_0 | SYNTHETIC,
    "fine_audio_only": LONG | FINE | ENGLISH["ARMS"]["audio_only"],
    "fine_units": WITHOUT_TEXT | LONG | FINE,
    "fine_text_first": TEXT_FIRST | FINE | FINE_TEXT,
    "long_synthetic": WITHOUT_TEXT | LONG | SYNTHETIC,
    "conditioned_units": WITHOUT_TEXT | LONG | CONDITIONED,
    "conditioned_confusions": LONG | CONFUSIONS | CONDITIONED,
    "masked_units": WITHOUT_TEXT | MASKED,
    "longer_audio_only": LONGER | ENGLISH["ARMS"]["audio_only"],
    "longer_units": WITHOUT_TEXT | LONGER,
    "longer_confusions": LONGER | CONFUSIONS,
}


def runs():
    for seed in ENGLISH["SEEDS"]:
        for arm, overrides in ARMS.items():
            yield Run(arm, overrides, seed)
