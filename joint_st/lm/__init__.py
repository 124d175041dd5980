"""N-gram language models: ARPA files, and their estimation from texts."""
