"""`joint-st data ngram`: an n-gram language model from the training texts of a config."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from joint_st.config import Config
from joint_st.data.texts import train_tokenizer, training_texts
from joint_st.data.tokenizers import Tokenizer, load_tokenizer
from joint_st.lm.arpa import Arpa, label_tokens, write_arpa
from joint_st.lm.kneser_ney import estimate
from joint_st.runs.directory import RunDirectory


def estimate_ngram(config: Config, place: Path, order: int, level: Literal["word", "label"], out: Path) -> Arpa:
    """Estimate a model of `order` on the training texts of a config, paired and unpaired, and write it to `out`.

    place: path of the config. Where it is a run's directory, the labels are those of the run's tokenizer; otherwise
    those of the tokenizer that a run of the config would have.
    """
    texts = training_texts(config)
    if level == "word":
        sentences = (text.split() for text in texts)
    else:
        tokenizer = _tokenizer(config, place)
        sentences = (label_tokens(tokenizer, text) for text in texts)
    model = estimate(sentences, order)
    write_arpa(model, out)
    return model


def _tokenizer(config: Config, place: Path) -> Tokenizer:
    own = RunDirectory(place).tokenizer
    return load_tokenizer(own) if own.is_dir() else train_tokenizer(config)
