"""Reads language models and hot words into tables for the labels of a tokenizer."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from joint_st.data.normalizers import Normalizer
from joint_st.data.tokenizers import Tokenizer
from joint_st.decoding.fusion import Fusion, Weights
from joint_st.decoding.fusion.hot_word_file import read_hot_words
from joint_st.decoding.fusion.hot_words import HotWords
from joint_st.decoding.fusion.label_lm import LabelLM
from joint_st.decoding.fusion.neural_lm import NeuralLM
from joint_st.decoding.fusion.word_lm import WordLM, unspellable_words
from joint_st.decoding.rescoring import Rescoring, RescoringWeights
from joint_st.distributed.peers import current
from joint_st.errors import UserError
from joint_st.lm.arpa import SPACE, UNKNOWN, Arpa, separates_words, spellings, symbols
from joint_st.lm.kenlm import read_ngrams
from joint_st.runs import checksums
from joint_st.runs.directory import RunDirectory
from joint_st.runs.trained import load_lm

Level = Literal["word", "label"]
"""What the tokens of a language model are: words or labels."""


@dataclasses.dataclass(frozen=True, eq=False)
class Fused:
    """The parts that are fused with a run's logits or rescore the hypotheses, and their names in tables."""

    fusion: Fusion | None
    lm: str = ""
    """Name such as `word 3-gram lm.arpa`; "" where there is none."""
    hot_words: str = ""
    """Name such as `hot.txt`; "" where there are none."""
    tuned: str = ""
    """Names of the splits on which the weights were found; "" where the user gave them."""
    rescoring: Rescoring | None = None
    rescorer: str = ""
    """Name such as `label LSTM lm step 800`; "" where there is none."""
    digest: str = ""
    """Text that changes with the content of the files."""

    @property
    def names(self) -> list[str]:
        """Names of the parts, each with its weights; the penalty of unknown words or labels where it is not the default."""
        names = []
        if self.lm:
            weights = self.fusion.weights
            names.append(f"{self.lm} weight {weights.lm:g} bonus {weights.insertion_bonus:g}{_penalty(weights)}")
        if self.hot_words:
            names.append(f"{self.hot_words} bonus {self.fusion.weights.hot_word_bonus:g}")
        if self.rescorer:
            weights = self.rescoring.weights
            own = f"weight {weights.weight:g} bonus {weights.bonus:g}{_penalty(weights)}"
            names.append(f"rescored by {self.rescorer} {own}")
        return names + [f"tuned on {self.tuned}"] * bool(self.tuned)

    def with_weights(self, weights: Weights) -> Fused:
        """Return the same with other weights of fusion."""
        return dataclasses.replace(self, fusion=self.fusion._replace(weights=weights))

    def with_rescoring(self, weights: RescoringWeights) -> Fused:
        """Return the same with other weights of rescoring."""
        return dataclasses.replace(self, rescoring=self.rescoring._replace(weights=weights))


@dataclasses.dataclass(frozen=True)
class FusionFiles:
    """Files of what to fuse and what to rescore with, independent of a run."""

    lm: Path | None
    """An ARPA file, a KenLM trie, or the directory of a language model's run."""
    hot_words: Path | None
    """One word or phrase a line; see `joint_st.decoding.fusion.hot_word_file`."""
    weights: Weights = Weights()
    rescore: Path | None = None
    """The language model that rescores, of the same kinds as `lm`."""
    rescoring_weights: RescoringWeights = RescoringWeights()
    lm_level: Level | None = None
    """What the tokens of `lm` are; None: see `find_level`."""
    rescore_level: Level | None = None
    """What the tokens of `rescore` are; None: see `find_level`."""

    def open(self, tokenizer: Tokenizer, normalizer: Normalizer) -> Fused:
        """Read the files for a run's labels.

        Describes each n-gram model in a line on stderr, and says where hot words count as whole texts alone. Raises
        `UserError` where a file is missing, broken, too large, or made for another tokenizer, where most of its words or
        a hot word cannot be spelled, and where it is unclear whether a model is over words or over labels.
        """
        lm, hot_words, rescoring, names = None, None, None, {}
        if self.lm is not None:
            lm, names["lm"] = open_lm(self.lm, tokenizer, normalizer, self.lm_level, "--lm-level")
        if self.hot_words is not None:
            phrases, written = read_hot_words(self.hot_words, normalizer), spellings(tokenizer)
            hot_words = HotWords.of(phrases, written, phrases)
            if not separates_words(tokenizer):
                _say(
                    f"{self.hot_words}: no label of the run separates words, so a hot word only counts as a whole text"
                )
            names["hot_words"] = self.hot_words.name
        if self.rescore is not None:
            model, names["rescorer"] = open_lm(
                self.rescore, tokenizer, normalizer, self.rescore_level, "--rescore-level"
            )
            rescoring = Rescoring(model, self.rescoring_weights)
        fusion = Fusion(lm, hot_words, self.weights) if lm or hot_words else None
        digest = digest_of(path for path in (self.lm, self.hot_words, self.rescore) if path)
        return Fused(fusion, rescoring=rescoring, digest=digest, **names)


def _penalty(weights: Weights | RescoringWeights) -> str:
    """Return the end of a part's name that states its penalty of unknown tokens; empty for the default."""
    default = type(weights)().unknown_penalty
    return "" if weights.unknown_penalty == default else f" unknown penalty {weights.unknown_penalty:g}"


def digest_of(paths: Iterable[Path]) -> str:
    """Return a text that changes with the content of files, or with the checkpoints of a language model's run."""
    digest = hashlib.sha256()
    for path in paths:
        if path.is_dir():
            run = RunDirectory(path)
            steps = run.checkpoint_steps
            digest.update(json.dumps([checksums.identity(run.checkpoints / str(step)) for step in steps]).encode())
        else:
            with open(path, "rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]


def open_lm(
    path: Path, tokenizer: Tokenizer, normalizer: Normalizer, level: Level | None = None, option: str = "--lm-level"
) -> tuple[LabelLM | WordLM | NeuralLM, str]:
    """Open a language model for a run's labels, and return its name in tables too; see `FusionFiles.open`. option: the
    option that sets `level`."""
    if path.is_dir():
        if level == "word":
            raise UserError(f"{option} word: {path} is a neural model, which is over labels; leave it out")
        trained = load_lm(path)
        check_labels(path, trained.tokenizer, tokenizer)
        if (theirs := trained.config.data.normalizer) != str(normalizer):
            _say(f"{path}: trained on texts of the normaliser {theirs}, and the run's is {normalizer}")
        model = NeuralLM(trained.weights, trained.config.model, tokenizer.size)
        return model, f"label LSTM {path.absolute().name} step {trained.step}"
    model = read_ngrams(path)
    level = level or find_level(model, path, tokenizer, option)
    if level == "word":
        return _word_lm(model, path, tokenizer)
    return _label_lm(model, path, tokenizer)


def find_level(model: Arpa, path: Path, tokenizer: Tokenizer, option: str) -> Level:
    """Return whether a model is over words or over a run's labels; raises `UserError` where that is unclear.

    It is over labels if a token contains the space that labels have and words do not, or if all tokens are labels of a
    run whose labels do not separate words. It is over words if a token takes several labels to spell, or is longer than
    any label.
    """
    labels, tokens = set(symbols(tokenizer)), model.tokens
    if any(SPACE in token for token in tokens):
        return "label"
    foreign = [token for token in tokens if token not in labels]
    if not foreign and not separates_words(tokenizer):
        return "label"
    letters = set("".join(spellings(tokenizer)))
    spelled = {token for token in tokens if letters.issuperset(token)}
    longest = max(map(len, spellings(tokenizer)))
    if not spelled or any(token in spelled or len(token) > longest for token in foreign):
        return "word"
    raise UserError(
        f"{path}: its tokens, such as {tokens[0]!r}, may be words or labels of the run; say which: {option} word, or "
        f"{option} label"
    )


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


def _word_lm(model: Arpa, path: Path, tokenizer: Tokenizer) -> tuple[WordLM, str]:
    written = spellings(tokenizer)
    if not separates_words(tokenizer):
        raise UserError(
            f"{path}: is over words, and no label of the run separates them; make a model over its labels, as `joint-st data "
            "ngram RUN --level label` does"
        )
    try:
        lm = WordLM.of(model, written)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    unspellable = unspellable_words(model, written)
    cannot = f", {len(unspellable)} of which, such as {unspellable[0]!r}, cannot be spelled" if unspellable else ""
    _say(f"{path}: a {model.order}-gram over {len(model.tokens)} words{cannot}")
    return lm, f"word {model.order}-gram {path.name}"


def _label_lm(model: Arpa, path: Path, tokenizer: Tokenizer) -> tuple[LabelLM, str]:
    labels, tokens = symbols(tokenizer), set(model.tokens)
    if foreign := tokens.difference(labels):
        raise UserError(f"{path}: over the labels of another tokenizer: this run's has no {min(foreign)!r}")
    own = [label for label in labels if label and label != UNKNOWN]
    missing = [label for label in own if label not in tokens]
    if 2 * len(missing) > len(own):
        raise UserError(
            f"{path}: {len(missing)} of the run's {len(own)} labels, such as {missing[0]!r}, are not in it; make it from more "
            "text, or of labels of the run's own tokenizer"
        )
    lacks = f"; it lacks {len(missing)} of the run's, such as {missing[0]!r}" if missing else ""
    _say(f"{path}: a {model.order}-gram over {len(tokens)} labels{lacks}")
    return LabelLM.of(model, labels), f"label {model.order}-gram {path.name}"


def _say(line: str) -> None:
    if current().is_first:
        print(line, file=sys.stderr)
