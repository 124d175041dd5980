"""What a training step needs on each chip of a TPU slice, known without one."""
