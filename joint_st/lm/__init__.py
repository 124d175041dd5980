"""N-gram language models: ARPA files, KenLM tries, and estimation from texts."""
