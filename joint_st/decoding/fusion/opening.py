"""Language models and hot words, from their files to tables for the labels of a tokenizer."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from joint_st.data.normalizers import Normalizer
from joint_st.data.tokenizers import Tokenizer
from joint_st.decoding.fusion import Fusion, Weights
from joint_st.decoding.fusion.hot_words import HotWords
from joint_st.decoding.fusion.label_lm import LabelLM
from joint_st.decoding.fusion.word_lm import WordLM
from joint_st.errors import UserError
from joint_st.ngram.arpa import Arpa
from joint_st.ngram.files import read_ngrams
from joint_st.ngram.symbols import SPACE, spellings, symbols


@dataclasses.dataclass(frozen=True, eq=False)
class Fused:
    """What is fused with a run's logits, and how tables name it."""

    fusion: Fusion
    lm: str = ""
    """Such as `word 3-gram lm.arpa`; "" where there is none."""
    hot_words: str = ""
    """Such as `hot.txt`; "" where there are none."""
    tuned: str = ""
    """Names of the splits that the weights were found on; "" where they were given."""

    @property
    def names(self) -> list[str]:
        """The parts, each with its weights."""
        weights = self.fusion.weights
        names = []
        if self.lm:
            names.append(f"{self.lm} weight {weights.lm:g} bonus {weights.insertion_bonus:g}")
        if self.hot_words:
            names.append(f"{self.hot_words} bonus {weights.hot_word_bonus:g}")
        return names + [f"tuned on {self.tuned}"] * bool(self.tuned)

    def with_weights(self, weights: Weights, tuned: str) -> Fused:
        """The same with weights that were found on the splits `tuned`."""
        return dataclasses.replace(self, fusion=self.fusion._replace(weights=weights), tuned=tuned)


@dataclasses.dataclass(frozen=True)
class FusionFiles:
    """What is to be fused, before it is known with which run."""

    lm: Path | None
    """An ARPA file or a KenLM binary."""
    hot_words: Path | None
    """One word or phrase a line."""
    weights: Weights = Weights()

    def open(self, tokenizer: Tokenizer, normalizer: Normalizer) -> Fused:
        """Reads the files for a run's labels.

        The language model is one over labels where all of its tokens are labels as `joint_st.ngram.symbols` writes
        them, and one over words otherwise. Raises `UserError` where a file is missing, broken, too large, or of
        another tokenizer, and where hot words cannot be spelled.
        """
        lm, hot_words, names = None, None, {}
        if self.lm is not None:
            model = read_ngrams(self.lm)
            lm, level = _language_model(model, self.lm, tokenizer)
            names["lm"] = f"{level} {model.order}-gram {self.lm.name}"
        if self.hot_words is not None:
            hot_words = HotWords.of(_phrases(self.hot_words, normalizer), spellings(tokenizer))
            names["hot_words"] = self.hot_words.name
        return Fused(Fusion(lm, hot_words, self.weights), **names)


def _phrases(path: Path, normalizer: Normalizer) -> list[str]:
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        raise UserError(f"{path}: not text in UTF-8") from None
    phrases = [phrase for phrase in map(normalizer, lines) if phrase]
    if not phrases:
        raise UserError(f"{path}: holds no word")
    return phrases


def _language_model(model: Arpa, path: Path, tokenizer: Tokenizer) -> tuple[LabelLM | WordLM, str]:
    labels = symbols(tokenizer)
    known = set(labels)
    foreign = [token for token in model.tokens if token not in known]
    if not foreign:
        return LabelLM.of(model, labels), "label"
    if any(SPACE in token for token in model.tokens):
        raise UserError(f"{path}: over the labels of another tokenizer: this run's has no {foreign[0]!r}")
    return WordLM.of(model, spellings(tokenizer)), "word"
