"""Training of the neural language model: its step, its perplexity, and both as a task of the loop."""
