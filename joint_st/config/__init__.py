"""The whole configuration of a run: its schema, config files, overrides by dotted path, and how it is shown.

A config file is Python and defines `config() -> Config`; a run keeps the resolved config as JSON; single
fields are overridden by dotted path (`model.width`), from the command line and from sweeps alike. A mistake
in any of them is a `joint_st.errors.UserError` of one line that names the dotted path and the value.

This package imports no other room of joint_st, and neither JAX nor NumPy.
"""

from joint_st.config.devices import AXES, check_devices, check_lm_devices, mesh_shape
from joint_st.config.file import is_language_model, load, save
from joint_st.config.language_model import LmConfig, LmDataConfig, LmModelConfig
from joint_st.config.override import override, parse_source
from joint_st.config.registry import group, register, registered
from joint_st.config.schema import Config
from joint_st.config.sections.base import ByKind, Section, clash
from joint_st.config.sections.conditioning import ConditionConfig, ConditioningConfig
from joint_st.config.sections.data import (
    AugmentationConfig,
    DataConfig,
    EveryRow,
    Gain,
    Identity,
    ManifestSource,
    MixtureConfig,
    Noise,
    Source,
    Speed,
    TextSource,
    TfdsSource,
    TokenizerConfig,
    UnitsConfig,
    newest_normalizer,
)
from joint_st.config.sections.heads import CtcHeadConfig, HeadsConfig
from joint_st.config.sections.losses import (
    ConsistencyConfig,
    CtcLossConfig,
    LossConfig,
    LossesConfig,
    ReconstructionConfig,
    UnitCtcConfig,
)
from joint_st.config.sections.model import SUBSAMPLING, FeaturesConfig, ModelConfig, SpecAugmentConfig, TextConfig
from joint_st.config.sections.training import (
    EvaluationConfig,
    InitConfig,
    LoopConfig,
    OptimizerConfig,
    ParallelConfig,
    TrainingConfig,
)
from joint_st.config.show import describe, show

__all__ = [
    "AXES",
    "SUBSAMPLING",
    "AugmentationConfig",
    "ByKind",
    "ConditionConfig",
    "ConditioningConfig",
    "Config",
    "ConsistencyConfig",
    "DataConfig",
    "EvaluationConfig",
    "EveryRow",
    "FeaturesConfig",
    "Gain",
    "Identity",
    "InitConfig",
    "LmConfig",
    "LmDataConfig",
    "LmModelConfig",
    "LoopConfig",
    "ManifestSource",
    "MixtureConfig",
    "ModelConfig",
    "CtcHeadConfig",
    "CtcLossConfig",
    "HeadsConfig",
    "LossConfig",
    "LossesConfig",
    "ReconstructionConfig",
    "UnitCtcConfig",
    "group",
    "register",
    "registered",
    "Noise",
    "OptimizerConfig",
    "ParallelConfig",
    "Section",
    "Source",
    "SpecAugmentConfig",
    "Speed",
    "TextConfig",
    "TextSource",
    "TfdsSource",
    "TokenizerConfig",
    "TrainingConfig",
    "UnitsConfig",
    "check_devices",
    "check_lm_devices",
    "clash",
    "describe",
    "is_language_model",
    "load",
    "mesh_shape",
    "newest_normalizer",
    "override",
    "parse_source",
    "save",
    "show",
]


def __getattr__(name: str):
    """Explain the new name of something that an older config file imports."""
    from joint_st.config.renamed import CLASSES

    if name in CLASSES:
        raise ImportError(f"{name} is now {CLASSES[name]}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
