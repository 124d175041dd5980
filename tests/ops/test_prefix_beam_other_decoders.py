"""The n-best list of flashlight-text's lexicon-free decoder, where nothing is pruned.

It keeps the two ends of a prefix as two entries of its beam, which its last step adds up; with `log_add` it sums
alignments, as we do. Where beams prune, the two keep other alignments: lists agree more, the wider they are.
"""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from joint_st.ops.prefix_beam import prefix_beam_search
from tests.ops.prefix_beam_reference import log_softmax
from tests.ops.test_prefix_beam import assert_same, prefixes

BEAM = 1100
"""More than all prefixes of 5 frames and 4 labels."""


def test_flashlight_text_has_the_same_list():
    decoder = pytest.importorskip("flashlight.lib.text.decoder")
    frames, symbols = 5, 5
    logits = np.random.default_rng(0).normal(0, 2, (2, frames, symbols)).astype(np.float32)
    options = decoder.LexiconFreeDecoderOptions(
        beam_size=2 * BEAM,
        beam_size_token=symbols,
        beam_threshold=1e9,
        lm_weight=0.0,
        sil_score=0.0,
        log_add=True,
        criterion_type=decoder.CriterionType.CTC,
    )
    # It takes a symbol for silence; the blank serves, since its score is 0.
    other = decoder.LexiconFreeDecoder(options, decoder.ZeroLM(), 0, 0, [])
    found = prefix_beam_search(logits, np.full(2, frames), beam=BEAM, candidates=symbols)
    for row in range(2):
        log_probs = np.ascontiguousarray(log_softmax(logits[row]), np.float32)
        expected = [
            (tuple(symbol for symbol, _ in itertools.groupby(one.tokens) if symbol > 0), one.score)
            for one in other.decode(log_probs.ctypes.data, frames, symbols)
        ]
        assert len(expected) > 300
        assert_same(prefixes(found, row), sorted(expected, key=lambda item: -item[1]), tolerance=1e-4)
