"""The whole configuration of a run: its sections, and checks that their fields agree."""

from __future__ import annotations

import pydantic
from pydantic import Field

from joint_st.config.registry import follow, registered
from joint_st.config.sections.base import Section, Unused, clash
from joint_st.config.sections.conditioning import ConditioningConfig
from joint_st.config.sections.data import DataConfig
from joint_st.config.sections.heads import HeadsConfig
from joint_st.config.sections.losses import LossesConfig
from joint_st.config.sections.model import ModelConfig, SpecAugmentConfig, TextConfig
from joint_st.config.sections.training import EvaluationConfig, OptimizerConfig, ParallelConfig, TrainingConfig
from joint_st.passes import PASSES


class Config(Section):
    """A run."""

    name: str = Field(default="run", min_length=1)
    """Name of the run in logs; the default working directory is `runs/NAME`."""
    seed: int = Field(default=0, ge=0, lt=2**32)
    """Seed of the initial weights, the batch plan, dropout and SpecAugment."""
    data: DataConfig
    model: ModelConfig = ModelConfig()
    text: TextConfig = TextConfig()
    heads: HeadsConfig = Field(default_factory=HeadsConfig)
    losses: LossesConfig = Field(default_factory=LossesConfig)
    conditioning: ConditioningConfig = Field(default_factory=ConditioningConfig)
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
                f"{self.spec_augment.frequency_width} is wider than model.features.mels {self.model.features.mels}",
            )
        self._check_ngram()
        return self

    def _check_ngram(self) -> None:
        """Raise `clash` where the weights of `evaluation.ngram_order` cannot be tuned on the dev set."""
        order, data = self.evaluation.ngram_order, self.data
        if order and not data.dev:
            raise clash(
                "evaluation.ngram_order",
                f"{order}, and data.dev names no source to tune its weights on; name one, or set it to 0",
            )
        for name, source in data.test.items():
            if order and source in data.dev:
                raise clash(
                    "evaluation.ngram_order",
                    f"{order}, and data.test.{name} is also in data.dev, on which its weights are tuned; set it to 0",
                )

    @pydantic.model_validator(mode="after")
    def _text(self):
        losses, data = self.losses, self.data
        if data.units.kind == "none":
            asking = {
                f"losses.{name}.{path}": value
                for name in registered("losses")
                for path, value in getattr(losses, name).needs_units
            }
            asking |= {
                "data.text_batch_size": data.text_batch_size,
                "text.confusions": self.text.confusions,
                "model.unit_conditioning": self.model.unit_conditioning != "none" and self.model.unit_conditioning,
            }
            for path, value in asking.items():
                if value:
                    raise clash(path, f"{value} needs text units, and data.units.kind is none; set it to phonemes")
        for name in registered("losses"):
            getattr(losses, name).check(self)
        first = self.training.text_first_steps
        if first and not (data.text_batch_size and self._learns_from_text):
            raise clash(
                "training.text_first_steps",
                f"{first} steps on text alone need data.text_batch_size and a weight of losses.reconstruction",
            )
        if first >= self.training.steps:
            raise clash(
                "training.text_first_steps",
                f"{first} must be below training.steps {self.training.steps}; "
                "lower it, as --training.text_first_steps 0",
            )
        self._check_later_text()
        if data.text_batch_size:
            if not data.text:
                raise clash("data.text_batch_size", f"{data.text_batch_size} sentences a step, but data.text is empty")
            if data.text_batch_size % self.training.accumulation:
                raise clash(
                    "training.accumulation",
                    f"{self.training.accumulation} parts must divide data.text_batch_size {data.text_batch_size}",
                )
        return self

    def _check_later_text(self) -> None:
        """Raise `clash` where text cannot come later than speech as `training` asks for."""
        training, sections = self.training, [getattr(self.losses, name) for name in registered("losses")]
        later = {name: getattr(training, name) for name in ("text_from_step", "text_ramp_steps")}
        for name, steps in later.items():
            if not steps:
                continue
            if training.text_first_steps:
                raise clash(
                    f"training.{name}",
                    f"{steps}, and training.text_first_steps is {training.text_first_steps}: text comes before speech or "
                    "after it; set one of them to 0",
                )
            if not any(section.enabled and section.needs_text for section in sections):
                raise clash(
                    f"training.{name}",
                    f"{steps}, and no loss needs text; set a weight of losses.reconstruction above 0 (a loss of your own "
                    "says by its section's needs_text that it does)",
                )
        first = training.text_from_step
        if first >= training.steps:
            raise clash(
                "training.text_from_step",
                f"{first} must be below training.steps {training.steps}; lower it, as --training.text_from_step 0",
            )
        if first and not any(section.enabled and not section.needs_text for section in sections):
            raise clash(
                "training.text_from_step",
                f"{first} steps without text need a loss of speech, as a weight of losses.ctc",
            )

    @property
    def window_seconds(self) -> float:
        """Return the seconds of the windows in which longer recordings are decoded: twice the longest utterance of the
        training, at least 8 and at most 30."""
        return min(max(2 * self.data.max_seconds, 8.0), 30.0)

    @property
    def _learns_from_text(self) -> bool:
        return any(getattr(self.losses, name).learns_from_text for name in registered("losses"))

    @property
    def text_heads(self) -> tuple[str, ...]:
        """Return the passes whose heads learn to read text."""
        learnt = {name for one in registered("losses") for name in getattr(self.losses, one).text_heads(self)}
        return tuple(name for name in PASSES if name in learnt)

    @property
    def unused(self) -> tuple[Unused, ...]:
        """Return fields that have a value although nothing uses it: about text that no step trains on, and an n-gram that
        decodes nothing."""
        order = self.evaluation.ngram_order
        if not order or self.data.test:
            return self._unused_text
        why, cure = "no test split is decoded with it", "name one in data.test, or set it to 0"
        return (*self._unused_text, Unused("evaluation.ngram_order", why, cure))

    @property
    def _unused_text(self) -> tuple[Unused, ...]:
        data, weight = self.data, "losses.reconstruction.streaming or losses.reconstruction.full_context"
        if data.text and not data.text_batch_size:
            needed = "data.text_batch_size" + ("" if self._learns_from_text else f", and {weight},")
            return (Unused("data.text", "nothing trains on it", f"set {needed} above 0, or take it out"),)
        if data.text_batch_size and not self._learns_from_text:
            why = f"{data.text_batch_size} sentences a step, and no loss trains on them"
            return (Unused("data.text_batch_size", why, f"set {weight} above 0, or it to 0"),)
        sections = (getattr(self.losses, name) for name in registered("losses"))
        return tuple(unused for section in sections for unused in section.unused(self))


follow(Config)
