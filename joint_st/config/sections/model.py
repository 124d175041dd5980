"""The model, its features of waveforms, and how text units become frames."""

from __future__ import annotations

import math
from typing import Any, Literal

import pydantic
from pydantic import Field

from joint_st.config.sections.base import Section, clash

SUBSAMPLING = 4
"""Feature frames per encoder frame."""


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
    level: Literal["none", "level", "channel"] = "level"
    """Subtract the mean of log-mel over all frames so far, which needs no look-ahead. `level` takes the mean of all
    channels together, so that loudness matters little; `channel` the mean of each channel, so that the colour of the
    microphone matters little too."""
    level_weight: float = Field(default=10.0, ge=0)
    """Frames at the model's usual level that are assumed to come before the first one, which steadies the first
    means."""
    remove_offset: bool = True
    """Subtract a constant from each window, so that a constant offset (DC) of the recording has no effect."""
    floor_db: float = Field(default=60.0, ge=0)
    """Floor below the mean power so far, in dB, in place of a fixed floor: with `level`, a quiet recording then
    gives the same features as a loud one. 0: a fixed floor, the power of white noise about 86 dB below full scale."""

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

    @property
    def frame_seconds(self) -> float:
        """Seconds of one encoder frame."""
        return self.samples_per_frame / self.sample_rate

    @property
    def frame_ms(self) -> float:
        """Milliseconds of one encoder frame."""
        return self.frames_ms(1)

    def frames(self, samples: Any) -> Any:
        """Return the encoder frames of a number of samples, an int or an array of ints; the last frame may be
        incomplete."""
        return -(-samples // self.samples_per_frame)

    def frames_ms(self, frames: int) -> float:
        """Return the milliseconds of a number of encoder frames."""
        return 1000 * frames * self.samples_per_frame / self.sample_rate

    def nearest_frames(self, seconds: float) -> int:
        """Return the whole number of encoder frames nearest to a number of seconds."""
        return round(seconds * self.sample_rate / self.samples_per_frame)

    def seconds(self, samples: float) -> float:
        """Return the seconds of a number of samples; works on arrays too."""
        return samples / self.sample_rate

    def samples(self, seconds: float) -> int:
        """Return the samples of a stated duration, rounded up, except for what floating point adds (0.3 s:
        4800.000000000001)."""
        return math.ceil(seconds * self.sample_rate - 1e-3)


class SpecAugmentConfig(Section):
    """Masks drawn over the features in training (SpecAugment, arXiv 1904.08779)."""

    frequency_masks: int = Field(default=2, ge=0)
    """Masked bands per utterance; 0 for none."""
    frequency_width: int = Field(default=20, ge=1)
    """Widest band, in mel channels."""
    time_masks: int = Field(default=2, ge=0)
    """Masked spans per utterance; 0 for none."""
    time_share: float = Field(default=0.05, ge=0, le=1)
    """Longest span, as a share of the utterance. A frame of the encoder sees 7 feature frames (70 ms by default), and is
    hidden whole only by a span at least as long: of spans of up to 20, two in three are."""


class TextConfig(Section):
    """How the text encoder turns units into frames: repetition and masked spans (arXiv 2210.07353)."""

    repetition: Literal["none", "fixed", "random", "durations"] = "random"
    """How often each unit is repeated, so that text is about as long as speech. `none`: not at all; `fixed`:
    `repeat_most` times; `random`: a number drawn for each unit; `durations`: for as many frames as it lasts in the
    paired audio, where its source states the times of words, and drawn elsewhere. Outside training, drawn numbers
    become the mean of their range."""
    repeat_least: int = Field(default=1, ge=1)
    """Fewest repetitions drawn."""
    repeat_most: int = Field(default=3, ge=1)
    """Most repetitions drawn; the number of repetitions if they are fixed."""
    mask_share: float = Field(default=0.15, ge=0, lt=1)
    """Share of text frames masked in training."""
    mask_span: int = Field(default=5, ge=1)
    """Frames of one masked span, counted after repetition."""
    substituted_share: float = Field(default=0.0, ge=0, lt=1)
    """Share of units that are replaced in training by a random unit or by CTC's blank, because an auxiliary CTC does
    not always recognise what was said."""
    confusions: str = ""
    """File of counts (`joint-st confusions`) by which units are confused in training as a model confuses them when it
    listens, in place of `substituted_share`. A missed unit becomes CTC's blank. An inserted one takes a frame that
    repeats a unit, so there is none with `repetition` `none`. The run keeps a copy."""
    confusion_scale: float = Field(default=1.0, gt=0)
    """Factor on the counted rates of errors (`confusions`)."""
    noise: float = Field(default=0.0, ge=0)
    """Standard deviation of Gaussian noise added in training to the text's embeddings, which have a standard deviation
    of 1."""

    @pydantic.model_validator(mode="after")
    def _range(self):
        if self.repeat_least > self.repeat_most:
            raise clash("repeat_least", f"{self.repeat_least} must be at most repeat_most {self.repeat_most}")
        if self.confusions and self.substituted_share:
            raise clash(
                "confusions",
                f"{self.confusions}, and substituted_share is {self.substituted_share}: both confuse units; set it to 0",
            )
        return self


class ModelConfig(Section):
    """Dimensions of the encoder: audio and shared streaming layers see no or few later frames; full-context ones see all."""

    features: FeaturesConfig = FeaturesConfig()
    width: int = Field(default=144, ge=2)
    """Width of every layer (D)."""
    heads: int = Field(default=4, ge=1)
    """Attention heads; they divide the width, and leave an even number for the rotary positions."""
    feed_forward: int = Field(default=4, ge=1)
    """Width of a feed-forward module over the width of the layer."""
    kernel: int = Field(default=9, ge=1)
    """Frames that the depthwise convolution spans; an odd number."""
    left_context: int = Field(default=64, ge=1)
    """Frames of the past that attention sees in a streaming layer, before the frame itself or its block."""
    look_ahead_ms: tuple[float, ...] = (0.0,)
    """Look-ahead of the streaming layers (`audio_layers`, `text_layers` and `streaming_layers`): the length of the blocks
    within which their attention and convolution see ahead, in whole encoder frames. A frame waits until its block is
    complete; with 0 it waits for nothing. If there are several lengths, each training step draws one of them, and
    decoding uses the first, or that of `--look-ahead-ms`. For text, blocks have as many text frames."""
    audio_layers: int = Field(default=2, ge=0)
    """Streaming conformer layers of the audio encoder alone."""
    text_layers: int = Field(default=0, ge=0)
    """Streaming conformer layers of the text encoder alone; without any it is an embedding, as in JOIST."""
    text_positions: Literal["none", "sinusoidal"] = "none"
    """Absolute positions added to the text's embeddings; all layers' attention has relative ones anyway."""
    text_depth: int = Field(default=0, ge=0)
    """Depth at which text enters the shared layers: 0 is their input, `k` the output of the k-th of them, streaming ones
    first. Text does not pass through the first `k`, and is not compared with speech there."""
    text_scale: float = Field(default=1.0, gt=0)
    """Factor on the text's embeddings where they enter the shared layers, those of masked spans included. Below 1, what
    the layers add counts for more than the embeddings themselves, so that the layers lean less on text (α of arXiv
    2104.07474)."""
    text_blanks: bool = False
    """Embed a repeated unit once and CTC's blank for its other frames: text then looks like the posteriors of a CTC of
    units, which peak once for each unit."""
    unit_conditioning: Literal["none", "add", "replace"] = "none"
    """What enters the shared layers for speech. `none`: the audio encoder's embeddings; `add`: these plus the text
    embeddings of the units that the auxiliary CTC (`losses.unit_ctc`) recognises, weighted by its posteriors;
    `replace`: the latter only. This is self-conditioned CTC (arXiv 2104.02724)."""
    streaming_layers: int = Field(default=2, ge=1)
    """Shared streaming conformer layers."""
    full_context_layers: int = Field(default=2, ge=1)
    """Shared full-context conformer layers."""
    dropout: float = Field(default=0.1, ge=0, lt=1)
    """Share of activations dropped in training, after each module of a layer."""
    compute_dtype: Literal["float32", "bfloat16"] = "float32"
    """Type of activations. Parameters, reductions and losses are float32 always."""
    products: Literal["exact", "rounded"] = "exact"
    """How the layers multiply by their weights, and Muon its updates. `rounded`: operands are rounded to bfloat16 and sums
    are float32, as a TPU does in any case; a CPU that multiplies bfloat16 (AMX, AVX-512 BF16) then trains faster, and
    another one more slowly."""
    remat: bool = False
    """Keep the input of each layer alone and compute the rest again in the backward pass: less memory, more time. Without
    it, only what lies between matrix products is computed again."""
    unroll: int = Field(default=1, ge=1)
    """Layers that one pass of the loop over equal layers computes. More take longer to compile, and a step of a small
    model on CPU then is faster."""

    attention: Literal["plain", "fused"] = "plain"
    """How layers with full context compute attention. `fused`: by one kernel, which does not write the weights of all pairs
    of frames into memory: Pallas's splash attention on TPUs, cuDNN's on NVIDIA GPUs. It needs `compute_dtype` bfloat16 and
    heads of a multiple of 8 values. Elsewhere the same is computed in several steps, and `plain` is faster."""

    @pydantic.field_validator("look_ahead_ms", mode="before")
    @classmethod
    def _one_length(cls, value: Any) -> Any:
        """Accept a single number in place of a tuple."""
        return (value,) if isinstance(value, (int, float)) else value

    @pydantic.model_validator(mode="after")
    def _shapes(self):
        if self.width % (2 * self.heads):
            raise clash("heads", f"{self.heads} heads must divide width {self.width} into even parts")
        if self.attention == "fused" and self.compute_dtype != "bfloat16":
            raise clash("attention", f"fused needs compute_dtype bfloat16, and it is {self.compute_dtype}")
        if self.attention == "fused" and self.width // self.heads % 8:
            raise clash(
                "attention",
                f"fused needs heads of a multiple of 8 values; width {self.width} over {self.heads} heads is "
                f"{self.width // self.heads}",
            )
        if self.kernel % 2 == 0:
            raise clash("kernel", f"{self.kernel} must be odd: full-context layers centre it on a frame")
        if self.text_depth >= self.shared_layers:
            raise clash(
                "text_depth",
                f"{self.text_depth} leaves none of the {self.shared_layers} shared layers for text; "
                f"{self.shared_layers - 1} is the largest",
            )
        if not self.look_ahead_ms:
            raise clash("look_ahead_ms", "names no length; write 0 for no look-ahead")
        frame = self.features.frame_ms
        for length in self.look_ahead_ms:
            if length < 0 or abs(length / frame - round(length / frame)) > 1e-6:
                raise clash("look_ahead_ms", f"{length:g} must be 0 or a multiple of an encoder frame, {frame:g} ms")
        return self

    @property
    def shared_layers(self) -> int:
        """The number of shared layers, streaming and full-context ones."""
        return self.streaming_layers + self.full_context_layers

    @property
    def blocks(self) -> tuple[int, ...]:
        """The lengths of `look_ahead_ms` in frames; 1 for no look-ahead."""
        return tuple(max(round(length / self.features.frame_ms), 1) for length in self.look_ahead_ms)
