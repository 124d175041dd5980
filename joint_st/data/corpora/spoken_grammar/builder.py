"""The TFDS builder `spoken_grammar`."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
import tqdm

from joint_st.data.corpora.spoken_grammar import synthesis
from joint_st.data.corpora.spoken_grammar.names import names
from joint_st.data.corpora.spoken_grammar.scripts import Script, scripts
from joint_st.data.synthesis.speaking import SAMPLE_RATE, Speakers, in_order


@dataclasses.dataclass
class SpokenGrammarConfig(tfds.core.BuilderConfig):
    """Number of utterances of each split (`text` has no audio) and size of the open vocabulary."""

    train: int = 6_000
    dev: int = 200
    test: int = 600
    text: int = 12_000
    names: int = 140
    """Names of each kind (first names, surnames, places), half of them heard; 0 for all."""


class SpokenGrammar(tfds.core.GeneratorBasedBuilder):
    """Short sentences over numbers, dates, names of people and of places, spoken by espeak-ng.

    Half of the names are never heard in `train` but occur in `text`, which has no audio. `dev` and `test` have voices
    of their own; half of their utterances have only names heard in training, half only names that occur in text alone.
    Each utterance comes with the first and the last sample (exclusive) of each of its words.
    """

    VERSION = tfds.core.Version("2.0.0")
    RELEASE_NOTES = {
        "1.0.0": "First version.",
        "2.0.0": "Sentences drawn again; utterances have the tag of their accent as language.",
    }
    BUILDER_CONFIGS = [
        SpokenGrammarConfig(name="default", description="420 names; about 5 hours of speech to train on."),
        SpokenGrammarConfig(
            name="open", description="2,269 names; about 7 hours of speech to train on.", train=9_000, names=0
        ),
        SpokenGrammarConfig(name="tiny", description="A few utterances, for tests.", train=24, dev=8, test=8, text=40),
    ]
    pkg_dir_path = None  # no files of TFDS's kind (README, TAGS, CITATIONS) are next to this module
    bar: tqdm.tqdm | None = None
    """Progress bar that advances with each spoken utterance."""

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description=type(self).__doc__,
            features=tfds.features.FeaturesDict(
                {
                    "id": tfds.features.Text(),
                    "audio": tfds.features.Tensor(shape=(None,), dtype=np.int16, encoding="bytes"),
                    "sample_rate": np.int32,
                    "num_samples": np.int32,
                    "text": tfds.features.Text(),
                    "language": tfds.features.Text(),
                    "speaker": tfds.features.Text(),
                    "word_starts": tfds.features.Tensor(shape=(None,), dtype=np.int32),
                    "word_ends": tfds.features.Tensor(shape=(None,), dtype=np.int32),
                }
            ),
        )

    def _split_generators(self, dl_manager):
        config: Any = self.builder_config
        said = scripts(config.train, config.dev, config.test, config.text, names(config.names))
        return {split: self._generate_examples(said[split]) for split in said}

    def _generate_examples(self, scripts: list[Script]) -> Iterator[tuple[str, dict]]:
        for script, spoken in zip(scripts, spoken_in_order(scripts)):
            if self.bar is not None and script.voice:
                self.bar.update()
            yield (
                script.id,
                {
                    "id": script.id,
                    "audio": spoken.audio,
                    "sample_rate": SAMPLE_RATE,
                    "num_samples": len(spoken.audio),
                    "text": script.text,
                    "language": script.language,
                    "speaker": script.voice,
                    "word_starts": spoken.word_starts,
                    "word_ends": spoken.word_ends,
                },
            )


def spoken_in_order(scripts: list[Script]) -> Iterator[synthesis.Spoken]:
    """Yield the speech of each script."""
    speakers = Speakers()

    def speak(script: Script) -> synthesis.Spoken:
        if not script.voice:
            none = np.zeros(0, np.int32)
            return synthesis.Spoken(np.zeros(0, np.int16), none, none)
        return synthesis.speak(speakers.synthesizer, script.id, script.text, script.voice)

    yield from in_order(speak, scripts)
