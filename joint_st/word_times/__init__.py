"""When each word and each text unit of an utterance is spoken: forced alignment of speech and text by a trained run."""
