"""How long and on which devices a model is trained, and how it is evaluated."""

from __future__ import annotations

from typing import Literal

import pydantic
from pydantic import Field

from joint_st.config.sections.base import Section, clash


class OptimizerConfig(Section):
    """AdamW or Muon, with linear warm-up and cosine decay."""

    kind: Literal["adamw", "muon"] = "adamw"
    """`muon` makes the updates of the layers' matrices orthogonal and leaves the rest to AdamW: fewer steps, each of
    them longer."""
    peak_learning_rate: float = Field(default=2e-3, gt=0)
    """Learning rate at the end of the warm-up."""
    warmup_steps: int = Field(default=100, ge=0)
    """Steps of linear warm-up from zero. Where text comes first (`training.text_first_steps`), they are of text, and the
    layers of speech begin at the peak."""
    final_share: float = Field(default=0.01, ge=0, le=1)
    """Learning rate at the last step, as a share of the peak."""
    beta1: float = Field(default=0.9, ge=0, lt=1)
    """Decay of AdamW's first moment."""
    beta2: float = Field(default=0.98, ge=0, lt=1)
    """Decay of AdamW's second moment."""
    weight_decay: float = Field(default=1e-3, ge=0)
    """Decoupled weight decay, multiplied by the learning rate, on kernels and filters only. The start of a training says what
    it comes to over the run; where a run of few steps learns its texts by heart, 0.1 is usual (arXiv 2502.16982)."""
    clip_norm: float = Field(default=1.0, gt=0)
    """Largest global norm of the gradient."""
    skip_above: float = Field(default=0.0, ge=0)
    """Skip a step whose gradient's norm, before clipping, is more than this many times the median of those before it;
    10 is a usual value. The weights and the optimizer's moments stay as they were, the learning rate moves on. After
    ten skipped steps in a row the run ends. 0: no step is skipped."""
    skip_window: int = Field(default=128, ge=8)
    """Number of steps, the last ones taken, whose median norm `skip_above` compares with. No step is skipped before a
    quarter of them are there, at first and where speech or text joins (`training.text_first_steps`,
    `training.text_from_step`)."""
    ema_decay: float = Field(default=0.999, ge=0, lt=1)
    """Decay of the moving average of the weights that is evaluated; it warms up with the steps, and again after
    `training.text_first_steps`. 0: none."""


class InitConfig(Section):
    """Initial weights from another run, in place of weights drawn from the seed.

    The optimizer starts fresh, and the moving average starts from the weights taken. Once a run has a checkpoint of its
    own, it continues from that. Weights have dotted names, those of this run
    (`streaming.layers.modules.0.inner.kernel`); a pattern fits a whole name or the beginning of one up to a dot, and
    `*` in it stands for any characters.
    """

    run: str = ""
    """Directory of the other run, on a disk or in a bucket. Empty: all weights are drawn from the seed."""
    checkpoint: str = "best"
    """Which of its checkpoints: `best`, `latest` or a step."""
    average: bool = True
    """Take the moving average of its weights, which is what is evaluated, and not the weights of the step itself."""
    rename: dict[str, str] = {}
    """New names of the other run's weights in this one, pattern by pattern; the first that fits counts. The text that a
    `*` stands for replaces the `*` of the new name: `{"encoder.*.kernel": "audio.*.kernel"}`."""
    include: tuple[str, ...] = ()
    """Patterns of the weights that are taken; empty: all of them."""
    exclude: tuple[str, ...] = ()
    """Patterns of the weights that are not taken but drawn from the seed, and of those that only the other run has."""
    allow: tuple[str, ...] = ()
    """Patterns of weights that are taken where they fit, and drawn from the seed where the other run has none, one of
    another shape, or one for other labels or units. Such a difference in any other weight is refused."""

    @pydantic.model_validator(mode="after")
    def _some(self):
        if not self.run:
            for name in ("rename", "include", "exclude", "allow"):
                if value := getattr(self, name):
                    raise clash(name, f"{', '.join(value)}, but init.run names no run to take weights from")
        if self.checkpoint not in ("best", "latest") and not self.checkpoint.isdecimal():
            raise clash("checkpoint", f"{self.checkpoint} is neither best nor latest nor a step")
        for old, new in self.rename.items():
            if old.count("*") != new.count("*"):
                raise clash("rename", f"{old} and {new} must have the same number of *")
        return self


class LoopConfig(Section):
    """Length of the training, and how often it logs, evaluates and saves."""

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
    """Best checkpoints kept in addition to the latest: by the dev set's full-context WER (or CER:
    see `evaluation.rank_by`), or perplexity."""
    loggers: tuple[Literal["tensorboard", "wandb"], ...] = ()
    """Where metrics go besides `metrics.csv`; each needs the extra of its name."""
    compilation_cache: str = "~/.cache/joint_st/compiled"
    """Folder of compiled programs that runs share, so that a second launch starts quickly. It may be in a bucket
    (`gs://bucket/compiled`), for machines that come and go. Empty: no cache."""
    init: InitConfig = InitConfig()


class TrainingConfig(LoopConfig):
    """Length of the training, and how often it logs, evaluates and saves."""

    text_first_steps: int = Field(default=0, ge=0)
    """The first steps, counted in `steps`, which take batches of text alone. They cost less, and speech then enters
    layers that can already spell. The learning rate decays only after them."""
    text_from_step: int = Field(default=0, ge=0)
    """Steps, counted in `steps`, before the first one in which text passes through the model: the losses that need text
    (`losses.reconstruction`, `losses.consistency`) have no weight before. Steps before take no sentences of `data.text`
    and, if there are any, cost what steps on speech alone cost."""
    text_ramp_steps: int = Field(default=0, ge=0)
    """Steps after `text_from_step` over which the weights of the losses that need text rise linearly from zero. 0: they
    have their full weights at once."""
    accumulation: int = Field(default=1, ge=1)
    """Parts into which a batch is cut to save memory, computed one after the other; gradients are weighted by
    counts."""


class EvaluationConfig(Section):
    """How WER is measured."""

    batch_size: int = Field(default=32, ge=1)
    """Utterances in a batch of the longest bucket, over all devices."""
    bootstrap_samples: int = Field(default=1_000, ge=100)
    """Resamples of the utterances behind each 95 % confidence interval."""
    ngram_order: int = Field(default=0, ge=0, le=10)
    """Order of an n-gram model over words (over labels where these do not separate words, as in Chinese), which is
    estimated from the training texts, paired and unpaired, when training ends, and is written into the run as `lm.arpa`.
    The last table then also has the beam with that model, its weights tuned on the dev set. Several processes cannot
    tune: they decode greedily alone, and `without_ngram.json` in the run says so. 0: the last table has greedy decoding
    alone."""
    rank_by: Literal["auto", "wer", "cer"] = "auto"
    """Error rate of words or of characters by which the best checkpoint (on the full-context head) and the weights of
    `--tune` (on both heads) are chosen. `auto`: characters if most letters of the transcripts are in scripts without
    spaces between words, such as Chinese, Japanese, Thai and Khmer."""


class ParallelConfig(Section):
    """The mesh of devices: `data` × `fsdp` × `tensor` must be all devices. One of the three may be -1, which takes the
    rest."""

    data: int = Field(default=-1, ge=-1)
    """Devices (times `fsdp`) that share a batch, and hold the same weights."""
    fsdp: int = Field(default=1, ge=-1)
    """Devices (times `data`) that share a batch, and each hold a part of the weights, their moving average and the
    optimizer's state. This takes less memory, but the weights of a layer are sent each time it is computed."""
    tensor: int = Field(default=1, ge=-1)
    """Devices that compute each layer together: its attention heads and its feed-forward width are cut over them."""
    slices: int = Field(default=1, ge=1)
    """TPU slices, joined by the data-centre network, that `data` spans; `fsdp` and `tensor` stay within one."""
    cpu_devices: int = Field(default=1, ge=1)
    """Number of devices that a CPU counts as, where it computes: a step of a small model keeps about one core busy per
    device."""

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
