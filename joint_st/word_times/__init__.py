"""When each word and each unit of a text is spoken: CTC forced alignment of utterances by a trained run."""
