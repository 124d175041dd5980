"""The whole configuration of a run: typed, frozen and validated.

Every field has a docstring, which is also its help text (`joint-st train CONFIG --help`), and every
field changes something (`tests/test_config_fields.py`). Lengths of time carry their unit in the name;
a frame is one frame of the encoder (`FeaturesConfig.hop_ms` times the subsampling, 40 ms by default).

This module knows no other module of the package.
"""

from __future__ import annotations

from typing import Annotated, Literal, Union

import pydantic
import pydantic_core
from pydantic import Field

SUBSAMPLING = 4
"""Feature frames per encoder frame."""


class Section(pydantic.BaseModel):
    """A frozen group of fields that refuses unknown keys."""

    model_config = pydantic.ConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        validate_default=True,
        allow_inf_nan=False,
    )


class ManifestSource(Section):
    """A JSONL manifest in NeMo's form: `audio_filepath`, `duration` (seconds), `text`, and further keys."""

    kind: Literal["manifest"] = "manifest"
    path: str
    """The manifest. `~` and `$VARIABLES` are expanded; audio paths in it are relative to its folder."""
    corpus: str = ""
    """Name of the corpus in tables and figures; the manifest's folder when empty."""


class TfdsSource(Section):
    """A TFDS dataset stored as ArrayRecord, read without TensorFlow."""

    kind: Literal["tfds"] = "tfds"
    name: str
    """The dataset, with its config if it has several: `name` or `name/config`."""
    split: str
    """A split in TFDS's notation: `train`, `test`, `train[:10%]`."""
    data_dir: str = ""
    """Where datasets are stored; `$TFDS_DATA_DIR` or `~/tensorflow_datasets` when empty."""


class TextSource(Section):
    """A text file, one sentence a line; no audio."""

    kind: Literal["text"] = "text"
    path: str
    """The file, in UTF-8. `~` and `$VARIABLES` are expanded."""
    language: str = "en"
    """BCP 47 tag of the language the sentences are in."""


Source = Annotated[Union[ManifestSource, TfdsSource, TextSource], Field(discriminator="kind")]


class TokenizerConfig(Section):
    """What the CTC heads spell: characters or SentencePiece wordpieces. Id 0 is the CTC blank."""

    kind: Literal["characters", "sentencepiece"] = "characters"
    """`characters` takes its inventory from the training texts; `sentencepiece` is trained on them."""
    vocabulary_size: int = Field(default=256, ge=8)
    """Wordpieces, the blank included (`sentencepiece` only)."""
    path: str = ""
    """A tokenizer saved earlier (`joint-st data tokenizer`); empty: made from the training texts."""


class UnitsConfig(Section):
    """What the text encoder reads. Without units there is no text encoder, and training is on audio alone."""

    kind: Literal["none", "phonemes", "characters", "sentencepiece"] = "none"
    """`phonemes` by espeak-ng, in each utterance's language; `sentencepiece` is trained on the training texts."""
    vocabulary_size: int = Field(default=256, ge=8)
    """Wordpieces, padding and unknown included (`sentencepiece` only)."""
    language: str = "en-us"
    """BCP 47 tag, of a language that espeak-ng has, for utterances that do not say theirs (`phonemes` only)."""


class DataConfig(Section):
    """Where utterances come from and how they are cut into batches."""

    train: tuple[Source, ...] = Field(min_length=1)
    """Paired speech and text to train on."""
    dev: tuple[Source, ...] = ()
    """Paired utterances that choose the best checkpoint; never trained on."""
    test: dict[str, Source] = {}
    """Named splits that are evaluated at the end of training and by `joint-st evaluate`."""
    text: tuple[Source, ...] = ()
    """Text without audio (audio there may be is ignored). Its words count as read (though not heard), the tokenizer
    learns from it, and where there are units, text-only batches come from it."""
    normalizer: str = "english"
    """Name of the text normaliser; its version is stored in the run."""
    tokenizer: TokenizerConfig = TokenizerConfig()
    units: UnitsConfig = UnitsConfig()
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
    """Sentences of `text` in each step, beside the paired batch: in the longest text bucket, over all devices.
    0: no text-only batches."""
    max_text_units: int = Field(default=512, ge=1)
    """Sentences of `text` with more units are left out, and counted; paired utterances take part with their audio
    alone."""
    text_buckets: int = Field(default=1, ge=1)
    """Length buckets of text; each is compiled with each bucket of audio."""
    read_threads: int = Field(default=8, ge=1)
    """Threads that read and decode audio on each host."""
    prefetch_batches: int = Field(default=4, ge=1)
    """Batches each host keeps ready."""
    strict: bool = False
    """Stop at the first utterance that cannot be read, instead of counting it and going on."""

    @pydantic.model_validator(mode="after")
    def _seconds(self):
        if self.min_seconds >= self.max_seconds:
            raise clash("min_seconds", f"{self.min_seconds} must be below max_seconds {self.max_seconds}")
        return self


class FeaturesConfig(Section):
    """Log-mel features, computed in the model from int16 audio."""

    sample_rate: int = Field(default=16_000, ge=1000)
    """Hz; audio at another rate is resampled when it is read."""
    window_ms: float = Field(default=25.0, gt=0)
    """Length of the analysis window."""
    hop_ms: float = Field(default=10.0, gt=0)
    """Step between feature frames."""
    mels: int = Field(default=80, ge=1)
    """Mel channels."""
    low_hz: float = Field(default=20.0, ge=0)
    """Lower edge of the first mel channel."""
    high_hz: float = Field(default=7_600.0, gt=0)
    """Upper edge of the last mel channel."""

    @pydantic.model_validator(mode="after")
    def _ranges(self):
        if not self.low_hz < self.high_hz <= self.sample_rate / 2:
            raise clash(
                "high_hz",
                f"{self.high_hz} must lie above low_hz {self.low_hz} and at or below "
                f"half of sample_rate {self.sample_rate}",
            )
        if self.window_ms < self.hop_ms:
            raise clash("window_ms", f"{self.window_ms} must be at least hop_ms {self.hop_ms}")
        for name in ("window_ms", "hop_ms"):
            samples = getattr(self, name) * self.sample_rate / 1000
            if abs(samples - round(samples)) > 1e-6:
                raise clash(
                    name,
                    f"{getattr(self, name)} is {samples:g} samples at sample_rate {self.sample_rate}; "
                    "it must be a whole number",
                )
        return self

    @property
    def window(self) -> int:
        """Samples in an analysis window."""
        return round(self.window_ms * self.sample_rate / 1000)

    @property
    def hop(self) -> int:
        """Samples between feature frames."""
        return round(self.hop_ms * self.sample_rate / 1000)

    @property
    def samples_per_frame(self) -> int:
        """Samples of one encoder frame."""
        return self.hop * SUBSAMPLING

    def frames(self, samples: int) -> int:
        """Encoder frames of so many samples; works on arrays too."""
        return -(-samples // self.samples_per_frame)


class SpecAugmentConfig(Section):
    """Masks drawn over the features in training (SpecAugment, arXiv 1904.08779)."""

    frequency_masks: int = Field(default=2, ge=0)
    """Masked bands per utterance; 0 for none."""
    frequency_width: int = Field(default=20, ge=1)
    """Widest band, in mel channels."""
    time_masks: int = Field(default=2, ge=0)
    """Masked spans per utterance; 0 for none."""
    time_share: float = Field(default=0.05, ge=0, le=1)
    """Longest span, as a share of the utterance."""


class TextConfig(Section):
    """From units to the frames that the text encoder makes of them: repetition, masked spans (arXiv 2210.07353)."""

    repetition: Literal["none", "fixed", "random", "durations"] = "random"
    """How often each unit is repeated, so that text is about as long as speech: not, `repeat_most` times, a number of
    times drawn for each unit, or for as many frames as it lasts in the paired audio (where its source states the
    times of words; drawn elsewhere). Outside training, drawn numbers become the mean of their range."""
    repeat_least: int = Field(default=1, ge=1)
    """Fewest repetitions drawn."""
    repeat_most: int = Field(default=3, ge=1)
    """Most repetitions drawn; the number of a fixed repetition."""
    mask_share: float = Field(default=0.15, ge=0, lt=1)
    """Share of text frames masked in training."""
    mask_span: int = Field(default=5, ge=1)
    """Frames of one masked span, counted after repetition."""
    substituted_share: float = Field(default=0.0, ge=0, lt=1)
    """Share of units replaced in training by one drawn from all, or by CTC's blank: what is heard is not always what
    was said."""
    noise: float = Field(default=0.0, ge=0)
    """Standard deviation of Gaussian noise added in training to the text's embeddings, whose own is 1."""

    @pydantic.model_validator(mode="after")
    def _range(self):
        if self.repeat_least > self.repeat_most:
            raise clash("repeat_least", f"{self.repeat_least} must be at most repeat_most {self.repeat_most}")
        return self


class ModelConfig(Section):
    """Dimensions of the encoder: audio and shared streaming layers are causal; full-context ones see all."""

    features: FeaturesConfig = FeaturesConfig()
    width: int = Field(default=144, ge=2)
    """Width of every layer (D)."""
    heads: int = Field(default=4, ge=1)
    """Attention heads; they divide the width, and leave an even number for the rotary positions."""
    feed_forward: int = Field(default=4, ge=1)
    """Width of a feed-forward module over the width of the layer."""
    kernel: int = Field(default=9, ge=1)
    """Frames the depthwise convolution spans; odd."""
    left_context: int = Field(default=64, ge=1)
    """Frames of the past that attention sees in a streaming layer."""
    audio_layers: int = Field(default=2, ge=0)
    """Causal conformer layers of the audio encoder alone."""
    text_layers: int = Field(default=0, ge=0)
    """Causal conformer layers of the text encoder alone; with none it is an embedding, as JOIST's."""
    text_positions: Literal["none", "sinusoidal"] = "none"
    """Absolute positions added to the text's embeddings; all layers' attention has relative ones anyway."""
    text_blanks: bool = False
    """Of the frames that repeat a unit, only the first embeds it and the others embed CTC's blank: text then looks as
    speech does after a CTC of units, a spike for each."""
    heard_units: Literal["none", "added", "only"] = "none"
    """What enters the shared layers of speech: the audio encoder's embeddings; these plus the text's embeddings of the
    units heard, weighted by the posterior of `objective.unit_ctc`; or the latter only."""
    streaming_layers: int = Field(default=2, ge=1)
    """Shared causal conformer layers."""
    full_context_layers: int = Field(default=2, ge=1)
    """Shared full-context conformer layers."""
    dropout: float = Field(default=0.1, ge=0, lt=1)
    """Share of activations dropped in training, after each module of a layer."""
    compute_dtype: Literal["float32", "bfloat16"] = "float32"
    """Type of activations. Parameters, reductions and losses are float32 always."""
    remat: bool = False
    """Recompute each layer's activations in the backward pass: less memory, more time."""

    @pydantic.model_validator(mode="after")
    def _shapes(self):
        if self.width % (2 * self.heads):
            raise clash("heads", f"{self.heads} heads must divide width {self.width} into even parts")
        if self.kernel % 2 == 0:
            raise clash("kernel", f"{self.kernel} must be odd: full-context layers centre it on a frame")
        return self


class ConsistencyConfig(Section):
    """Pulls the audio's and the text's embeddings of a paired utterance together (arXiv 2308.06125)."""

    weight: float = Field(default=0.0, ge=0)
    """Weight of the loss: the mean over audio frames, and over layers, of the distance to the matched text frame."""
    warmup_steps: int = Field(default=0, ge=0)
    """Steps over which the weight rises linearly from zero."""
    alignment: Literal[
        "skip", "step", "dtw", "frame_wise", "soft", "optimal_transport", "given", "random"
    ] = "skip"
    """Which text frame each audio frame is matched with. The best under the cost: `skip` (any number of text frames
    forward, the paper's), `step` (stay, or one forward), `dtw` (text frames may share an audio frame). `soft`:
    all monotonic alignments by their likelihood; `optimal_transport`: any order. `frame_wise`: a straight line;
    `given`: by the true times of words; `random`: a monotonic one drawn uniformly."""
    cost: Literal["squared_l2", "cosine", "normalized_l2"] = "squared_l2"
    """Distance of two embeddings; `normalized_l2` is the squared L2 distance after layer normalisation."""
    temperature: float = Field(default=1.0, gt=0)
    """Of `soft`, and the entropic regularisation of `optimal_transport`, in units of the cost."""
    gradient: Literal["both", "audio", "text"] = "both"
    """Which side is moved."""
    layers: tuple[int, ...] = ()
    """Depths at which embeddings are compared: 0 is what enters the shared layers, `k` what the k-th of them puts
    out; -1 is the last. Empty: the output of every shared layer."""
    text: Literal["masked", "clean"] = "clean"
    """Whether the text compared has its spans masked; `clean` takes a pass of its own."""


class ObjectiveConfig(Section):
    """Weights of the losses. Those of CTC are means over the labels of the utterances for which it has a meaning."""

    streaming_ctc: float = Field(default=0.3, ge=0)
    """CTC of the labels given audio, on the streaming head."""
    full_context_ctc: float = Field(default=0.7, ge=0)
    """CTC of the labels given audio, on the full-context head."""
    streaming_reconstruction: float = Field(default=0.0, ge=0)
    """CTC of the labels given masked text, on the streaming head."""
    full_context_reconstruction: float = Field(default=0.0, ge=0)
    """CTC of the labels given masked text, on the full-context head."""
    paired_reconstruction: float = Field(default=1.0, ge=0)
    """Weight of a label of paired text beside one of `data.text` in both reconstructions."""
    unit_ctc: float = Field(default=0.0, ge=0)
    """CTC of the units given audio, on what the audio encoder puts out."""
    consistency: ConsistencyConfig = ConsistencyConfig()

    @pydantic.model_validator(mode="after")
    def _some(self):
        if not self.streaming_ctc + self.full_context_ctc:
            raise clash("streaming_ctc", "0 and full_context_ctc 0 leave nothing to train")
        return self


class OptimizerConfig(Section):
    """AdamW or Muon, with linear warm-up and cosine decay."""

    kind: Literal["adamw", "muon"] = "adamw"
    """`muon` makes the updates of the layers' matrices orthogonal (the rest is AdamW's): fewer steps, each longer."""
    peak_learning_rate: float = Field(default=2e-3, gt=0)
    """Reached at the end of the warm-up."""
    warmup_steps: int = Field(default=100, ge=0)
    """Steps of linear warm-up from zero."""
    final_share: float = Field(default=0.01, ge=0, le=1)
    """Learning rate at the last step over the peak."""
    beta1: float = Field(default=0.9, ge=0, lt=1)
    """Decay of AdamW's first moment."""
    beta2: float = Field(default=0.98, ge=0, lt=1)
    """Decay of AdamW's second moment."""
    weight_decay: float = Field(default=1e-3, ge=0)
    """Decoupled weight decay, on matrices only."""
    clip_norm: float = Field(default=1.0, gt=0)
    """Largest global norm of the gradient."""
    ema_decay: float = Field(default=0.999, ge=0, lt=1)
    """Decay of the moving average of the weights that is evaluated; it warms up with the steps. 0: none."""


class LoopConfig(Section):
    """The loop: how long, how often, what is kept."""

    steps: int = Field(default=1_000, ge=1)
    """Optimizer steps."""
    log_every: int = Field(default=10, ge=1)
    """Steps between rows of metrics."""
    evaluate_every: int = Field(default=500, ge=1)
    """Steps between evaluations of the dev set."""
    checkpoint_every: int = Field(default=500, ge=1)
    """Steps between checkpoints; the last step is saved always."""
    keep_latest: int = Field(default=2, ge=1)
    """Latest checkpoints kept."""
    keep_best: int = Field(default=1, ge=1)
    """Best checkpoints kept beside the latest: by the dev set's full-context WER, or perplexity."""
    loggers: tuple[Literal["tensorboard", "wandb"], ...] = ()
    """Where metrics go besides `metrics.csv`; each needs the extra of its name."""
    compilation_cache: str = "~/.cache/joint_st/compiled"
    """Folder of compiled programs, shared by runs, so that a second launch starts quickly; it may be in a bucket
    (`gs://bucket/compiled`), for machines that come and go. Empty: none."""


class TrainingConfig(LoopConfig):
    """The loop: how long, how often, what is kept."""

    text_first_steps: int = Field(default=0, ge=0)
    """Steps at the beginning, of `steps`, that take batches of text alone: they cost less, and speech then meets
    layers that can spell. The learning rate decays only after them."""
    accumulation: int = Field(default=1, ge=1)
    """Parts a batch is cut into, one after the other, to save memory; gradients are weighted by counts."""


class EvaluationConfig(Section):
    """How WER is measured."""

    batch_size: int = Field(default=32, ge=1)
    """Utterances in a batch of the longest bucket, over all devices."""
    bootstrap_samples: int = Field(default=1_000, ge=100)
    """Resamples of the utterances behind each 95 % confidence interval."""


class ParallelConfig(Section):
    """The mesh of devices: `data` × `fsdp` × `tensor` of them, all there are. One of the three may be -1, the rest."""

    data: int = Field(default=-1, ge=-1)
    """Devices (times `fsdp`) that share a batch, and hold the same weights."""
    fsdp: int = Field(default=1, ge=-1)
    """Devices (times `data`) that share a batch, and hold a part each of the weights, their moving average and the
    optimizer's state: less memory, but the weights of a layer travel each time it is computed."""
    tensor: int = Field(default=1, ge=-1)
    """Devices that compute each layer together: its attention heads and its feed-forward width are cut over them."""
    slices: int = Field(default=1, ge=1)
    """TPU slices, joined by the data-centre network, that `data` spans; `fsdp` and `tensor` stay within one."""
    cpu_devices: int = Field(default=1, ge=1)
    """Devices a CPU counts as, where it computes: a step of a small model keeps about one core busy per device."""

    @pydantic.model_validator(mode="after")
    def _some(self):
        sizes = {name: getattr(self, name) for name in ("data", "fsdp", "tensor")}
        for name, size in sizes.items():
            if size == 0:
                raise clash(name, "0 devices cannot compute; -1 takes all that the other axes leave")
        rest = [name for name, size in sizes.items() if size == -1]
        if len(rest) > 1:
            raise clash(rest[1], f"-1, and {rest[0]} is -1 too; give {rest[0]} a number: one can take the rest")
        return self


class Config(Section):
    """A run."""

    name: str = Field(default="run", min_length=1)
    """Name of the run in logs; the default working directory is `runs/NAME`."""
    seed: int = Field(default=0, ge=0)
    """Seed of the initial weights, the batch plan, dropout and SpecAugment."""
    data: DataConfig
    model: ModelConfig = ModelConfig()
    text: TextConfig = TextConfig()
    objective: ObjectiveConfig = ObjectiveConfig()
    spec_augment: SpecAugmentConfig = SpecAugmentConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    training: TrainingConfig = TrainingConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    parallel: ParallelConfig = ParallelConfig()

    @pydantic.model_validator(mode="after")
    def _fits(self):
        if self.data.batch_size % self.training.accumulation:
            raise clash(
                "training.accumulation",
                f"{self.training.accumulation} parts must divide data.batch_size {self.data.batch_size}",
            )
        if self.spec_augment.frequency_masks and self.spec_augment.frequency_width > self.model.features.mels:
            raise clash(
                "spec_augment.frequency_width",
                f"{self.spec_augment.frequency_width} is wider than "
                f"model.features.mels {self.model.features.mels}",
            )
        return self

    @pydantic.model_validator(mode="after")
    def _text(self):
        objective, data = self.objective, self.data
        if data.units.kind == "none":
            asking = {
                "objective.streaming_reconstruction": objective.streaming_reconstruction,
                "objective.full_context_reconstruction": objective.full_context_reconstruction,
                "objective.unit_ctc": objective.unit_ctc,
                "objective.consistency.weight": objective.consistency.weight,
                "data.text_batch_size": data.text_batch_size,
                "model.heard_units": self.model.heard_units != "none" and self.model.heard_units,
            }
            for path, value in asking.items():
                if value:
                    raise clash(path, f"{value} needs text units, and data.units.kind is none; set it to phonemes")
        if self.model.heard_units != "none" and not objective.unit_ctc:
            raise clash("model.heard_units", f"{self.model.heard_units} needs a weight of objective.unit_ctc")
        first = self.training.text_first_steps
        reconstructs = objective.streaming_reconstruction or objective.full_context_reconstruction
        if first and not (data.text_batch_size and reconstructs):
            raise clash(
                "training.text_first_steps",
                f"{first} steps on text alone need data.text_batch_size and a weight of reconstruction",
            )
        if first >= self.training.steps:
            raise clash("training.text_first_steps", f"{first} must be below training.steps {self.training.steps}")
        if data.text_batch_size:
            if not data.text:
                raise clash("data.text_batch_size", f"{data.text_batch_size} sentences a step, but data.text is empty")
            if data.text_batch_size % self.training.accumulation:
                raise clash(
                    "training.accumulation",
                    f"{self.training.accumulation} parts must divide data.text_batch_size {data.text_batch_size}",
                )
        depth = self.model.streaming_layers + self.model.full_context_layers
        for layer in objective.consistency.layers:
            if not -depth - 1 <= layer <= depth:
                raise clash(
                    "objective.consistency.layers", f"{layer} is not among the {depth} shared layers, 0 their input"
                )
        return self


def clash(path: str, message: str) -> pydantic_core.PydanticCustomError:
    """An error about the field at `path` below the section that raises it."""
    return pydantic_core.PydanticCustomError("clash", "{message}", {"path": path, "message": message})
