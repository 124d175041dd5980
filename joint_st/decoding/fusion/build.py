"""Language models and hot words, from their files to tables for the labels of a tokenizer."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from joint_st.data.normalizers import Normalizer
from joint_st.data.tokenizers import Tokenizer
from joint_st.decoding.fusion import Fusion, Weights
from joint_st.decoding.fusion.hot_words import HotWords
from joint_st.decoding.fusion.label_lm import LabelLM
from joint_st.decoding.fusion.neural_lm import NeuralLM
from joint_st.decoding.fusion.word_lm import WordLM
from joint_st.decoding.rescoring import Rescoring, RescoringWeights
from joint_st.errors import UserError
from joint_st.lm.arpa import SPACE, Arpa, spellings, symbols
from joint_st.lm.kenlm import read_ngrams
from joint_st.runs.trained import load_lm


@dataclasses.dataclass(frozen=True, eq=False)
class Fused:
    """What is fused with a run's logits and what rescores the hypotheses, and how tables name it."""

    fusion: Fusion | None
    lm: str = ""
    """Such as `word 3-gram lm.arpa`; "" where there is none."""
    hot_words: str = ""
    """Such as `hot.txt`; "" where there are none."""
    tuned: str = ""
    """Names of the splits that the weights were found on; "" where they were given."""
    rescoring: Rescoring | None = None
    rescorer: str = ""
    """Such as `label LSTM lm step 800`; "" where there is none."""

    @property
    def names(self) -> list[str]:
        """The parts, each with its weights."""
        names = []
        if self.lm:
            names.append(f"{self.lm} weight {self.fusion.weights.lm:g} bonus {self.fusion.weights.insertion_bonus:g}")
        if self.hot_words:
            names.append(f"{self.hot_words} bonus {self.fusion.weights.hot_word_bonus:g}")
        if self.rescorer:
            weights = self.rescoring.weights
            names.append(f"rescored by {self.rescorer} weight {weights.weight:g} bonus {weights.bonus:g}")
        return names + [f"tuned on {self.tuned}"] * bool(self.tuned)

    def with_weights(self, weights: Weights) -> Fused:
        """The same with other weights of fusion."""
        return dataclasses.replace(self, fusion=self.fusion._replace(weights=weights))

    def with_rescoring(self, weights: RescoringWeights) -> Fused:
        """The same with other weights of rescoring."""
        return dataclasses.replace(self, rescoring=self.rescoring._replace(weights=weights))


@dataclasses.dataclass(frozen=True)
class FusionFiles:
    """What is to be fused and to rescore, before it is known with which run."""

    lm: Path | None
    """An ARPA file, a KenLM trie, or the directory of a language model's run."""
    hot_words: Path | None
    """One word or phrase a line."""
    weights: Weights = Weights()
    rescore: Path | None = None
    """The language model that rescores, of the same kinds as `lm`."""
    rescoring_weights: RescoringWeights = RescoringWeights()

    def open(self, tokenizer: Tokenizer, normalizer: Normalizer) -> Fused:
        """Reads the files for a run's labels.

        An n-gram model is one over labels where all of its tokens are labels as `joint_st.lm.arpa` writes them,
        and one over words otherwise. Raises `UserError` where a file is missing, broken, too large, or of another
        tokenizer, and where hot words cannot be spelled.
        """
        lm, hot_words, rescoring, names = None, None, None, {}
        if self.lm is not None:
            lm, names["lm"] = open_lm(self.lm, tokenizer)
        if self.hot_words is not None:
            hot_words = HotWords.of(_phrases(self.hot_words, normalizer), spellings(tokenizer))
            names["hot_words"] = self.hot_words.name
        if self.rescore is not None:
            model, names["rescorer"] = open_lm(self.rescore, tokenizer)
            rescoring = Rescoring(model, self.rescoring_weights)
        fusion = Fusion(lm, hot_words, self.weights) if lm or hot_words else None
        return Fused(fusion, rescoring=rescoring, **names)


def open_lm(path: Path, tokenizer: Tokenizer) -> tuple[LabelLM | WordLM | NeuralLM, str]:
    """A language model for a run's labels, and how tables name it; as of `FusionFiles.open`."""
    if path.is_dir():
        trained = load_lm(path)
        check_labels(path, trained.tokenizer, tokenizer)
        model = NeuralLM(trained.weights, trained.config.model, tokenizer.size)
        return model, f"label LSTM {path.absolute().name} step {trained.step}"
    model = read_ngrams(path)
    lm, level = _language_model(model, path, tokenizer)
    return lm, f"{level} {model.order}-gram {path.name}"


def check_labels(path: Path, of_lm: Tokenizer, of_run: Tokenizer) -> None:
    """Raise `UserError` where the labels of the language model in `path` are not those of the run."""
    theirs, ours = symbols(of_lm), symbols(of_run)
    if theirs == ours:
        return
    what = f"{len(theirs)} labels, and the run has {len(ours)}"
    if len(theirs) == len(ours):
        first = next(i for i, pair in enumerate(zip(theirs, ours)) if pair[0] != pair[1])
        what = f"label {first} is {theirs[first]!r}, and the run's is {ours[first]!r}"
    raise UserError(
        f"{path}: over the labels of another tokenizer ({what}); "
        "train it with --data.tokenizer.path set to the run's own, RUN/tokenizer"
    )


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
