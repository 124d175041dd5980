"""What a training step takes of each chip of a TPU slice, known before there is one."""
