"""Finds when each word and each text unit of an utterance is spoken, by forced alignment with a trained run."""
