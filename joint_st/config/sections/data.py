"""Where utterances and texts come from, and how they become batches."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

import pydantic
from pydantic import Field

from joint_st.config.sections.base import ByKind, Section, clash
from joint_st.errors import UserError

NORMALIZERS = {"none": 1, "basic": 2, "english": 2}
"""Newest version of each text normaliser; `joint_st.data.normalizers` has them."""


def newest_normalizer(name: str) -> str:
    """Return the name of a normaliser with its newest version, `english v2` for `english`; other names are returned as
    they are."""
    return f"{name} v{NORMALIZERS[name]}" if name in NORMALIZERS else name


NormalizerName = Annotated[str, pydantic.AfterValidator(newest_normalizer)]


class Source(ByKind):
    """Where utterances or texts come from. `joint_st/data/sources/KIND.py` opens those of a kind."""

    @classmethod
    def read(cls, text: str) -> dict[str, Any]:
        """Return the plain data of a source written short: `KIND:...`, or the path of a manifest."""
        if text.partition(":")[0] in cls.registered and ":" in text:
            return super().read(text)
        return {"kind": "manifest", "path": text}


class ManifestSource(Source):
    """A JSONL manifest in NeMo's form: `audio_filepath`, `duration` (seconds), `text`, and further keys."""

    kind: Literal["manifest"] = "manifest"
    path: str
    """The manifest. `~` and `$VARIABLES` are expanded; audio paths in it are relative to its folder."""
    corpus: str = ""
    """Name of the corpus in tables and figures; the manifest's folder when empty."""
    where: dict[str, tuple[str, ...]] = {}
    """Which lines are taken: those that have one of the values under each of these keys, such as some speakers. A value
    that no line has is an error. Empty: all lines."""


class TfdsSource(Source):
    """A TFDS dataset stored as ArrayRecord, read without TensorFlow."""

    kind: Literal["tfds"] = "tfds"
    name: str
    """The dataset, with its config if it has several: `name` or `name/config`."""
    split: str
    """A split in TFDS's notation: `train`, `test`, `train[:10%]`."""
    data_dir: str = ""
    """Where datasets are stored; `$TFDS_DATA_DIR` or `~/tensorflow_datasets` when empty."""

    @classmethod
    def read_rest(cls, text: str) -> dict[str, Any]:
        # The name may carry a version (`name/config:1.0.0`), the split a slice (`train[:10%]`).
        match = re.fullmatch(r"([^:\[]+(?::\d+\.\d+\.\d+)?):(.+)", text)
        if not match:
            raise UserError(f"tfds:{text}: names no split; a TFDS dataset is written tfds:NAME:SPLIT")
        return {"name": match[1], "split": match[2]}


class TextSource(Source):
    """A text file, one sentence a line; no audio."""

    kind: Literal["text"] = "text"
    path: str
    """The file, in UTF-8. `~` and `$VARIABLES` are expanded."""
    language: str = ""
    """BCP 47 tag of the language of the sentences; empty: that of `data.units.language`."""
    leave_out: str = ""
    r"""A regular expression; sentences in which it is found, before they are normalised, are left out: `\d` those with digits,
    which transcripts of speech spell out. Empty: none."""

    @pydantic.model_validator(mode="after")
    def _is_pattern(self):
        try:
            re.compile(self.leave_out)
        except re.error as error:
            raise clash("leave_out", f"{self.leave_out!r} is no regular expression: {error}") from None
        return self


class MixtureConfig(ByKind):
    """Proportions and order in which the rows of a data set are drawn; the kinds are in `joint_st/data/mixture.py`."""


class EveryRow(MixtureConfig):
    """Draws every row once an epoch, shuffled within its bucket."""

    kind: Literal["every_row"] = "every_row"


class AugmentationConfig(ByKind):
    """A change of speech when it is loaded for training; the kinds are in `joint_st/data/augmentation.py`."""


class Identity(AugmentationConfig):
    """Leaves speech as it is."""

    kind: Literal["identity"] = "identity"


class Gain(AugmentationConfig):
    """Makes an utterance louder or quieter by so many dB, drawn evenly from a range."""

    kind: Literal["gain"] = "gain"
    low_db: float = -20.0
    """Smallest gain in dB."""
    high_db: float = 6.0
    """Largest gain in dB. Samples beyond full scale are clipped, as a recorder would clip them."""

    @pydantic.model_validator(mode="after")
    def _range(self):
        if self.low_db > self.high_db:
            raise clash("low_db", f"{self.low_db} is above high_db {self.high_db}")
        return self


class Noise(AugmentationConfig):
    """Adds noise to some utterances, at a ratio of speech to noise drawn evenly from a range."""

    kind: Literal["noise"] = "noise"
    share: float = Field(default=0.5, ge=0, le=1)
    """Share of the utterances that get noise."""
    colour: Literal["white", "pink"] = "white"
    """White noise has equal power at all frequencies, pink noise in all octaves."""
    low_db: float = 10.0
    """Lowest ratio of speech to noise in dB, over the whole utterance."""
    high_db: float = 40.0
    """Highest ratio of speech to noise in dB."""

    @pydantic.model_validator(mode="after")
    def _range(self):
        if self.low_db > self.high_db:
            raise clash("low_db", f"{self.low_db} is above high_db {self.high_db}")
        return self


class Speed(AugmentationConfig):
    """Plays an utterance at one of several speeds, drawn with equal chances, by resampling, which moves its pitch too (Ko
    et al., "Audio augmentation for speech recognition", Interspeech 2015)."""

    kind: Literal["speed"] = "speed"
    factors: tuple[float, ...] = Field(default=(0.9, 1.0, 1.1), min_length=1)
    """The speeds, relative to the recording's, to a thousandth."""

    @pydantic.model_validator(mode="after")
    def _range(self):
        for factor in self.factors:
            if not 0.25 <= factor <= 4:
                raise clash("factors", f"{factor} must be at least 0.25 and at most 4")
        return self


class TokenizerConfig(Section):
    """The labels that the heads emit: characters or SentencePiece wordpieces. Label 0 is the blank."""

    kind: Literal["characters", "sentencepiece"] = "characters"
    """`characters` takes its inventory from the training texts; `sentencepiece` is trained on them."""
    vocabulary_size: int = Field(default=256, ge=8)
    """Wordpieces, the blank included (`sentencepiece` only)."""
    path: str = ""
    """A tokenizer saved earlier (`joint-st data tokenizer`); empty: made from the training texts."""


class UnitsConfig(Section):
    """The text units that the text encoder reads. Without them there is no text encoder, and only speech is trained
    on."""

    kind: Literal["none", "phonemes", "characters", "sentencepiece"] = "none"
    """`phonemes` by espeak-ng, in each utterance's language; `sentencepiece` is trained on the training texts."""
    vocabulary_size: int = Field(default=256, ge=8)
    """Wordpieces, padding and unknown included (`sentencepiece` only)."""
    language: str = "en-us"
    """BCP 47 tag of the language of utterances that do not state theirs; espeak-ng must have it (`phonemes` only)."""
    boundaries: bool = True
    """Whether the boundary between words is a unit too, in text and in the CTC over units (`phonemes` only). Speech has no
    sound there. Without it, the shared layers have to learn where words begin, and a phoneme of text takes more frames
    (`text.repeat_most`), since there are fewer units."""

    @property
    def languages(self) -> tuple[str, ...]:
        """The language that phonemes are of where an utterance states none; () for other units."""
        return (self.language,) * (self.kind == "phonemes")


class DataConfig(Section):
    """Where utterances come from and how they are cut into batches."""

    train: tuple[Source, ...] = Field(min_length=1)
    """Paired speech and text to train on, recorded or synthetic."""
    dev: tuple[Source, ...] = ()
    """Paired utterances that choose the best checkpoint; never trained on."""
    test: dict[str, Source] = {}
    """Named splits that are evaluated at the end of training and by `joint-st evaluate`."""
    text: tuple[Source, ...] = ()
    """Text without audio (audio there may be is ignored). Its words count as `text_only` in evaluations unless recorded
    speech has them too, the tokenizer learns from it, and where there are units, text-only batches come from it."""
    normalizer: NormalizerName = "english"
    """Text normaliser: its name (`none`, `basic`, `english`), which stands for its newest version, or name and version
    (`english v1`). A run keeps the version."""
    tokenizer: TokenizerConfig = TokenizerConfig()
    units: UnitsConfig = UnitsConfig()
    mixture: MixtureConfig = EveryRow()
    """Which utterances of `train` are drawn, and how often."""
    text_mixture: MixtureConfig = EveryRow()
    """Which sentences of `text` are drawn, and how often."""
    augmentation: tuple[AugmentationConfig, ...] = ()
    """Augmentations of the utterances of `train`, applied one after the other when an utterance is loaded, and drawn
    again each time."""
    index_cache: str = ""
    """Folder, on a disk or in a bucket (`gs://`), in which runs share the indexes of their sources; a folder in the
    home directory when empty. Its content can be computed again. A source is read again when its own file has changed,
    and not when audio is replaced under an unchanged manifest."""
    min_seconds: float = Field(default=0.1, ge=0)
    """Shorter utterances are dropped from training, and counted."""
    max_seconds: float = Field(default=20.0, gt=0)
    """Longer utterances are dropped from training, and counted."""
    batch_size: int = Field(default=16, ge=1)
    """Utterances in a batch of the longest bucket, over all devices. A bucket that is `k` times shorter takes
    `k` times as many."""
    buckets: int = Field(default=3, ge=1)
    """Length buckets: each is one fixed shape, compiled once."""
    text_batch_size: int = Field(default=0, ge=0)
    """Sentences of `text` in each step, in addition to the paired batch, for a batch of the longest text bucket over
    all devices. 0: no text-only batches."""
    max_text_units: int = Field(default=512, ge=1)
    """Sentences of `text` with more units are left out, and counted; paired utterances take part with their audio
    alone."""
    text_buckets: int = Field(default=1, ge=1)
    """Length buckets of text. Longer text comes with shorter audio, so that few pairs of the two kinds of buckets occur;
    each is compiled."""
    read_threads: int = Field(default=8, ge=1)
    """Threads that read and decode audio on each host."""
    prefetch_batches: int = Field(default=4, ge=1)
    """Batches each host keeps ready."""
    keep_audio_gib: float = Field(default=0.0, ge=0)
    """GiB of decoded training audio that each host keeps in memory, so that later epochs do not decode it again; an hour
    takes 0.11 at 16 kHz."""
    length_tolerance: float = Field(default=0.3, ge=0)
    """Seconds by which decoded audio may be longer or shorter than its source or its file's header states. An utterance
    beyond that counts as unreadable; a smaller surplus is cut off."""
    read_timeout_seconds: float = Field(default=600.0, gt=0)
    """If no batch could be read for this long, for instance because the server of a network disk is gone, the command
    ends with status 75 and names the host and what it was reading; the same command continues from the last
    checkpoint."""
    strict: bool = False
    """Stop at the first utterance that cannot be read, instead of counting it and going on. More than 32 in a row end a
    training in any case."""

    @pydantic.model_validator(mode="after")
    def _seconds(self):
        if self.min_seconds >= self.max_seconds:
            raise clash("min_seconds", f"{self.min_seconds} must be below max_seconds {self.max_seconds}")
        return self
