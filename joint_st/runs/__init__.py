"""The files of a run on disk, and how to read them back: config, inventories, checkpoints, trained model."""
