"""Weights of shallow fusion, found on a development split: every combination on a grid, decoded anew."""

from __future__ import annotations

import functools
import itertools
import sys
from collections.abc import Iterator, Mapping, Sequence

import jax

from joint_st.config import Source
from joint_st.data.prepared import Prepared, prepare
from joint_st.decoding.decoders import Beam, Decoder, fuse
from joint_st.decoding.forward import HEADS, Forward
from joint_st.decoding.fusion import Fusion, Weights
from joint_st.decoding.fusion.label_lm import LabelLM
from joint_st.decoding.fusion.opening import Fused
from joint_st.decoding.recognise import common_buckets, recognise
from joint_st.errors import UserError
from joint_st.evaluation.wer import ALL, count_errors, total
from joint_st.parallel.mesh import replicated
from joint_st.runs.trained import Trained

LM_WEIGHTS = (0.25, 0.5, 0.75, 1.0)
WORD_BONUSES = (0.0, 1.5, 3.0, 4.5)
LABEL_BONUSES = (0.0, 0.5, 1.0, 1.5)
HOT_WORD_BONUSES = (0.0, 2.5, 5.0, 10.0)


def tuned(
    fused: Fused,
    decoders: Sequence[Decoder],
    trained: Trained,
    sources: Mapping[str, Source],
    reported: Mapping[str, Prepared],
) -> Fused:
    """The same with the weights of the lowest WER, both heads' errors together; of equal ones the smallest.

    The language model's weight and bonus are tried in all combinations, the bonus of hot words after them. sources:
    by name; the dev set of the run's config where there are none. reported: datasets that are evaluated with what is
    found. Raises `UserError` where these share an utterance with the sources, and where there is nothing to tune on.
    """
    config = trained.config
    sources = {name: [source] for name, source in sources.items()} or {"dev": list(config.data.dev)}
    if sources == {"dev": []}:
        raise UserError(f"{trained.run.config}: data.dev names no source to tune on; give --tune NAME=SOURCE")
    datasets = [
        prepare(of_name, config.data, config.model.features, trained.normalizer, trained.tokenizer, training=False)
        for of_name in sources.values()
    ]
    for (name, dataset), (other, evaluated) in itertools.product(zip(sources, datasets), reported.items()):
        if shared := len(_utterances(dataset) & _utterances(evaluated)):
            raise UserError(
                f"--tune {name}: {shared} of its utterances are also in {other}, which is reported; tune on others"
            )
    names = ", ".join(sources)
    beam = [one for one in fuse(decoders, fused) if isinstance(one, Beam)]
    best, lowest = fused.fusion.weights, None
    with jax.set_mesh(trained.mesh):
        tables = jax.device_put(fused.fusion, replicated(trained.mesh))
        forward = Forward(config.model, trained.tokenizer.size, trained.unit_count, trained.mesh, beam)
        buckets = common_buckets(config, datasets)
        for stage in ("lm", "hot_words"):
            if not getattr(fused, stage):
                continue
            for weights in _grid(stage, fused.fusion, best):
                with_these = tables._replace(weights=jax.device_put(weights, replicated(trained.mesh)))
                decode = functools.partial(forward, tables=(with_these,))
                errors = total(
                    count_errors(dataset.text(one.index), dataset.normalizer(of_decoder[head]))[ALL]
                    for name, dataset in zip(sources, datasets)
                    for one in recognise(
                        decode, trained.weights, dataset, buckets, trained.mesh, config, decoders=beam, name=name
                    )
                    for of_decoder in one.hypotheses.values()
                    for head in HEADS
                )
                if not errors.words:
                    raise UserError(f"--tune {names}: its transcripts hold no words; give another source")
                print(f"{names}: WER {100 * errors.wer:.1f} % with {_shown(stage, weights)}", file=sys.stderr)
                if lowest is None or errors.wer < lowest:
                    best, lowest = weights, errors.wer
    return fused.with_weights(best, names)


def _grid(stage: str, fusion: Fusion, weights: Weights) -> Iterator[Weights]:
    if stage == "lm":
        bonuses = LABEL_BONUSES if isinstance(fusion.lm, LabelLM) else WORD_BONUSES
        for lm, bonus in itertools.product(LM_WEIGHTS, bonuses):
            yield weights._replace(lm=lm, insertion_bonus=bonus)
    else:
        for bonus in HOT_WORD_BONUSES:
            yield weights._replace(hot_word_bonus=bonus)


def _shown(stage: str, weights: Weights) -> str:
    if stage == "lm":
        return f"--lm-weight {weights.lm:g} --insertion-bonus {weights.insertion_bonus:g}"
    return f"--hot-word-bonus {weights.hot_word_bonus:g}"


def _utterances(dataset: Prepared) -> set[tuple[str, str]]:
    """Each utterance by its name and its text: names alone are the same in many corpora."""
    return {(dataset.id(i), dataset.text(i)) for i in range(len(dataset))}
