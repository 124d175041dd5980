"""joint_st: a trainer for joint speech-text encoders."""

__version__ = "0.1.0"
