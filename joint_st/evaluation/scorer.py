"""Word error rates of the dev set while a model trains."""

from __future__ import annotations

import dataclasses
from collections import Counter

import jax

from joint_st.config import Config
from joint_st.data.dataset import Dataset
from joint_st.data.symbols import SymbolSizes
from joint_st.decoding.decoders import Greedy
from joint_st.decoding.forward import Forward
from joint_st.decoding.long import LongRecordings
from joint_st.decoding.recognise import common_buckets, recognise
from joint_st.errors import UserError
from joint_st.evaluation.recognised import check_read, score_recognised
from joint_st.evaluation.wer import ALL, total
from joint_st.passes import PASSES


class Scorer:
    """Computes the WER of a dataset; compiled once, and run with the weights of any step.

    As in any evaluation, longer recordings are decoded in windows (`Config.window_seconds`).
    """

    def __init__(self, config: Config, dataset: Dataset, mesh: jax.sharding.Mesh, sizes: SymbolSizes):
        self._config = config
        self._dataset = dataset
        self._read = frozenset[int]()
        self._mesh = mesh
        self._forward = Forward(config, sizes, mesh)
        self._long = LongRecordings(config, sizes, mesh, (Greedy(),), PASSES, window_seconds=config.window_seconds)
        self._buckets = common_buckets(config, [dataset], self._long.longest)

    def __call__(self, weights, name: str) -> dict[str, float]:
        """Return four numbers of each head, as fractions, under names such as `{name}_{head}_wer`.

        `wer`, `cer`; `length_ratio`: characters of the hypotheses per character of the references; `blank_share`:
        frames on which the head emits no label. Raises `UserError` where the dataset has no words.
        """

        def spell(labels):
            return self._dataset.tokenizer.decode(labels), len(labels)

        features = self._config.model.features
        arguments = self._forward, weights, self._dataset, self._buckets, self._mesh, self._config
        emitted, frames, found = Counter(), 0, []
        for one in recognise(*arguments, long=self._long, name=name, spell=spell):
            texts = {}
            for decoder, by_head in one.hypotheses.items():
                texts[decoder] = {head: text for head, (text, _) in by_head.items()}
                emitted.update({head: count for head, (_, count) in by_head.items()})
            frames += features.frames(features.samples(one.seconds))
            found.append(dataclasses.replace(one, hypotheses=texts))
        self._read = check_read(found, self._read, self._dataset, name)
        scored = score_recognised(found, self._dataset, name)
        rates = {}
        for head in PASSES:
            errors = total(u.errors[ALL] for u in scored if u.head == head)
            if errors.wer is None:
                raise UserError(f"data.{name}: its transcripts have no words, so there is no WER; correct its sources")
            lengths = [(len(u.hypothesis), len(u.reference)) for u in scored if u.head == head]
            own = {"wer": errors.wer, "cer": errors.cer}
            own["length_ratio"] = sum(heard for heard, _ in lengths) / sum(there for _, there in lengths)
            own["blank_share"] = max(1 - emitted[head] / frames, 0.0)
            rates |= {f"{name}_{head}_{rate}": value for rate, value in own.items()}
        return rates
