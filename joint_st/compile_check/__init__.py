"""Computes what a training step needs on each chip of a TPU slice, on a machine without one."""
