"""What a run leaves on disk, and how to read it back: its files, its checkpoints, its trained model."""
