"""Samples of utterances: audio, the times of the words, and how speech matches text in every layer."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

import jax
import numpy as np
import PIL.Image
import soundfile

from joint_st.analysis.figures import MOST_PANELS
from joint_st.analysis.layers import LayerAnalysis
from joint_st.analysis.pairs import ExamplePair
from joint_st.data.audio import UnreadableAudio, resample
from joint_st.data.dataset import Dataset
from joint_st.data.sources import Corpus
from joint_st.data.utterance import Entry, Utterance
from joint_st.decoding.long import in_one_window
from joint_st.runs.trained import Trained
from joint_st.word_times.aligner import Aligner
from joint_st.word_times.spans import Aligned, Failed, Span

MOST_FLAC_HZ = 655_350
"""Highest sample rate of a FLAC file; above 65,535 Hz it is a multiple of 10."""

BARS = 240
"""Number of bars in the outline of the loudness."""


class Some:
    """Some rows of a corpus, as a corpus."""

    def __init__(self, corpus: Corpus, rows: Sequence[int]):
        self.name = corpus.name
        self._corpus = corpus
        self._rows = [int(row) for row in rows]

    def __len__(self) -> int:
        return len(self._rows)

    def entry(self, i: int) -> Entry:
        return self._corpus.entry(self._rows[i])

    def __getitem__(self, i: int) -> Utterance:
        return self._corpus[self._rows[i]]


def make_samples(trained: Trained, dataset: Dataset, ids: Sequence[str], head: str) -> dict[str, dict]:
    """Return what the page shows of the utterances `ids` of a dataset, by id and in their order.

    head: its forced alignment gives the times of the words. An utterance whose audio cannot be read has no sample.
    A sample has the maps of its layers where its text has units and a window of decoding holds it.
    """
    wanted = set(ids)
    number = {own: n for n in range(len(dataset)) if (own := dataset.id(n)) in wanted}
    ids = [one for one in ids if one in number]
    corpus = Some(dataset.corpus, [dataset.rows[number[one]] for one in ids])
    aligned = {result.id: result for result in Aligner(trained, head)(corpus, "aligning")}
    maps = {}
    # The maps of long recordings would need memory by the square of their length, and show nothing.
    within = in_one_window(trained.config, dataset)
    spelled = [number[one] for one in ids if within[number[one]] and has_units(dataset, number[one])]
    if spelled:
        with jax.set_mesh(trained.mesh):
            analysis = LayerAnalysis(
                trained.config,
                dataset,
                trained.mesh,
                trained.symbols.sizes,
                chosen=spelled,
                name="layers",
            )
            maps = {example.id: layer_maps(example) for example in analysis(trained.weights).examples}
    samples = {}
    for i, one in enumerate(ids):
        try:
            utterance = corpus[i]
        except UnreadableAudio:
            continue
        samples[one] = sound(utterance.audio, utterance.sample_rate) | words(aligned[one])
        if one in maps:
            samples[one]["maps"] = maps[one]
    return samples


def has_units(dataset: Dataset, n: int) -> bool:
    """Return whether the text of utterance `n` of a dataset has text units."""
    return dataset.units is not None and len(dataset.units.encode(dataset.text(n), dataset.language(n))) > 0


def sound(audio: np.ndarray, rate: int) -> dict:
    """Return audio, int16 [samples], as a FLAC data URI, with its length and the outline of its loudness, 0 to 100."""
    if rate > MOST_FLAC_HZ or rate > 65_535 and rate % 10:
        audio, rate = resample(audio, rate, 48_000), 48_000
    file = io.BytesIO()
    soundfile.write(file, audio, rate, format="FLAC", subtype="PCM_16")
    parts = np.array_split(np.abs(audio.astype(np.float64)), min(BARS, max(len(audio), 1)))
    loudest = [part.max(initial=0) for part in parts]
    outline = np.rint(100 * np.array(loudest) / max(*loudest, 1)).astype(int)
    return {"audio": _uri("audio/flac", file.getvalue()), "seconds": len(audio) / rate, "outline": outline.tolist()}


def words(result: Aligned | Failed) -> dict:
    """Return start and end (seconds) and confidence of each word of the reference, or why there are none."""
    if isinstance(result, Failed):
        return {"words": [], "unaligned": result.why}
    groups: list[list[Span]] = []
    for span in result.words:
        # The page has the words of a transcript as spaces separate them.
        if span.joined and groups:
            groups[-1].append(span)
        else:
            groups.append([span])
    means = (float(np.mean([span.confidence for span in one])) for one in groups)
    spans = [[round(x, 3) for x in (one[0].start, one[-1].end, mean)] for one, mean in zip(groups, means)]
    return {"words": spans, "head": result.head}


def layer_maps(example: ExamplePair) -> dict:
    """Return the distances of one utterance's audio frames from its text frames as images, and what is drawn on them.

    There are up to four layers, spread over all. In an image, time runs to the right and the text upwards, and dark
    means a small distance.
    """
    count = len(example.layers)
    shown = np.linspace(0, count - 1, min(MOST_PANELS, count)).round().astype(int)
    units = np.unique(example.unit)
    middles = [float(np.mean(np.flatnonzero(example.unit == unit)) + 0.5) for unit in units]
    spoken = example.spoken_times()
    times = None if spoken is None else np.round(spoken, 3).tolist()
    return {
        "frame_seconds": example.frame_seconds,
        "frames": int(example.costs.shape[1]),
        "text_frames": int(example.costs.shape[2]),
        "units": [[middle, example.symbols[unit].replace(" ", "␣")] for middle, unit in zip(middles, units)],
        "words": example.word_spans(),
        "word_times": times,
        "layers": [
            {
                "name": example.layers[layer],
                "image": _uri("image/png", _png(_grey(example.costs[layer]))),
                "path": example.positions[layer].tolist(),
            }
            for layer in shown
        ],
    }


def _grey(costs: np.ndarray) -> np.ndarray:
    """Return costs [T, R] as an image, uint8 [R, T]; the smallest and the largest per cent are clipped."""
    low, high = np.percentile(costs, [1, 99])
    grey = np.clip((costs - low) / max(high - low, 1e-6), 0, 1)
    return np.rint(255 * grey).astype(np.uint8).T[::-1]


def _png(image: np.ndarray) -> bytes:
    """Return a grey image, uint8 [H, W], 0 black, as a PNG file."""
    file = io.BytesIO()
    PIL.Image.fromarray(image).save(file, "PNG", optimize=True)
    return file.getvalue()


def _uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"
