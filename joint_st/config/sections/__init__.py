"""The sections of a run's configuration, typed, frozen and validated; `joint_st.config.schema` joins them.

Every field has a docstring, which is also its help text (`joint-st train CONFIG --help`), and every
field changes something (`tests/test_config_fields.py`). Lengths of time carry their unit in the name;
a frame is one frame of the encoder (`FeaturesConfig.hop_ms` times the subsampling, 40 ms by default).
"""
