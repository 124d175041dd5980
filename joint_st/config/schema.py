"""The whole configuration of a run: its sections, and which of their fields have to agree."""

from __future__ import annotations

import pydantic
from pydantic import Field

from joint_st.config.sections.base import Section, clash
from joint_st.config.sections.data import DataConfig
from joint_st.config.sections.model import ModelConfig, SpecAugmentConfig, TextConfig
from joint_st.config.sections.objective import ObjectiveConfig
from joint_st.config.sections.training import EvaluationConfig, OptimizerConfig, ParallelConfig, TrainingConfig


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
                f"{self.spec_augment.frequency_width} is wider than model.features.mels {self.model.features.mels}",
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
                "model.unit_conditioning": self.model.unit_conditioning != "none" and self.model.unit_conditioning,
            }
            for path, value in asking.items():
                if value:
                    raise clash(path, f"{value} needs text units, and data.units.kind is none; set it to phonemes")
        if self.model.unit_conditioning != "none" and not objective.unit_ctc:
            raise clash(
                "model.unit_conditioning", f"{self.model.unit_conditioning} needs a weight of objective.unit_ctc"
            )
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
