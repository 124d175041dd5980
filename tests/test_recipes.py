"""The configs of large models, which nothing here can train: they load, and are as large as their names say."""

from pathlib import Path

import pytest

from joint_st.compile_check.shapes import sizes
from joint_st.config import check_devices, load, override
from joint_st.heads.model import weight_shapes
from joint_st.models.functional import count_weights

CONFIGS = Path(__file__).resolve().parents[1] / "configs"


@pytest.mark.parametrize(
    "name, millions, chips",
    [("librispeech_960h", 120, 16), ("multilingual_600m", 600, 256), ("multilingual_2b", 2000, 1024)],
)
def test_a_large_model_is_as_large_as_its_name(name, millions, chips):
    config = load(CONFIGS / f"{name}.py")
    weights = count_weights(weight_shapes(config, sizes(config).sizes))
    assert weights == pytest.approx(millions * 1e6, rel=0.1)
    assert config.name == name
    assert check_devices(config, chips)
    per_chip = {"data.batch_size": chips, "data.text_batch_size": chips}
    assert check_devices(override(config, per_chip), chips)
