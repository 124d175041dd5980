"""Speech synthesis by espeak-ng: the synthesiser, utterances made of it, and a folder of synthetic speech."""
