"""Checks of what a config reads: the place of each source, and a few of its utterances, decoded."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from joint_st.config import Config, Source
from joint_st.data.audio import UnreadableAudio
from joint_st.data.corpora import built_here
from joint_st.data.normalizers import Normalizer, misfit, normalizer
from joint_st.data.paths import expand, expand_run
from joint_st.data.sources import Corpus, open_source, read_whole
from joint_st.doctor.check import Check, from_error
from joint_st.runs.directory import RunDirectory, existing_run

SAMPLE = 6
"""Utterances of each source that are decoded: the first, the last, and some between them."""
QUIET = 10
"""An utterance whose loudest sample is at most this, of 32768, is silence."""

_FIX = "fix the file or take it out of the data"


def sources(config: Config) -> Iterator[tuple[str, Source]]:
    """Yield every source of a config with its dotted path."""
    data = config.data
    for name in ("train", "dev", "text"):
        for i, source in enumerate(getattr(data, name)):
            yield f"data.{name}.{i}", source
    for name, source in data.test.items():
        yield f"data.test.{name}", source


def variables(config: Config) -> Iterator[Check]:
    """Check the environment variables in paths of the config."""
    named = Counter()
    for _, source in sources(config):
        written = " ".join(str(value) for value in source.model_dump().values())
        named.update(one or other for one, other in re.findall(r"\$(?:(\w+)|\{(\w+)\})", written))
    for name, count in named.items():
        uses = f"named by {count} source{'s' * (count > 1)}"
        if not os.environ.get(name):
            yield Check("problem", f"${name}", f"not set, and {uses}", f"export {name}=FOLDER on every host")
        else:
            yield Check("ok", f"${name}", f"{os.environ[name]}, {uses}")


def look(name: str, source: Source, config: Config) -> Iterator[Check]:
    """Check what a source holds, and decode a sample of it."""
    if absent := _absent(source):
        yield Check("ok", name, absent)
        return
    corpus = open_source(source)
    count, place = len(corpus), getattr(corpus, "place", "") or source.kind
    if not count:
        yield Check("problem", name, f"{place}: holds nothing", "correct the source, or take it out")
        return
    audio = not name.startswith("data.text")
    rows = sorted({round(k * (count - 1) / max(SAMPLE - 1, 1)) for k in range(SAMPLE)})
    normalize, problems, seconds, rates, languages = (
        normalizer(config.data.normalizer),
        [],
        0.0,
        Counter(),
        set(config.data.units.languages),
    )
    for row in rows:
        found = _utterance(corpus, row, normalize, config, audio)
        problems += found.problems
        seconds += found.seconds
        rates[found.rate] += bool(found.rate)
        languages.add(found.language)
    if remark := misfit(str(normalize), languages):
        yield Check("warning", name, *remark.split("; "))
    what = f"{count:,} {'utterances' if audio else 'texts'} in {place}"
    if not audio:
        yield from problems or [Check("ok", name, f"{what}; {len(rows)} read")]
        return
    target = config.model.features.sample_rate
    heard = f"{len(rows)} decoded, {seconds:.1f} s at {' and '.join(map(str, sorted(set(rates) - {0})))} Hz"
    if problems:
        # One of each kind: a corpus that is wrong is wrong everywhere.
        kinds = {one.do: one for one in reversed(problems)}
        for one in kinds.values():
            alike = sum(other.do == one.do for other in problems)
            more = f" ({alike} of {len(rows)} decoded)"
            yield Check(one.state, name, one.found + more, one.do)
        return
    if min(set(rates) - {0}, default=target) <= target / 2:
        hint = "set model.features.sample_rate and high_hz to what the audio holds"
        yield Check("warning", name, f"{what}; {heard}, and the model takes {target}: half of its band is empty", hint)
        return
    yield Check("ok", name, f"{what}; {heard}")


def _absent(source: Source) -> str:
    """Return why a source need not exist yet; empty where it must, or does."""
    name, folder = getattr(source, "name", ""), getattr(source, "data_dir", None)
    if source.kind != "tfds" or not built_here(name) or folder:
        return ""
    place = expand(os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets")
    corpus, _, of_it = name.partition(":")[0].partition("/")
    if (place / corpus / (of_it or "default")).is_dir():
        return ""
    return f"{name} is not in {place} yet; it is built there, in about a minute, when it is first read"


class _Found(NamedTuple):
    """What an utterance holds, and what is wrong with it."""

    problems: list[Check]
    language: str = ""
    rate: int = 0
    """Samples of its audio in a second; 0 where that is not read."""
    seconds: float = 0.0


def _utterance(corpus: Corpus, row: int, normalize: Normalizer, config: Config, audio: bool) -> _Found:
    """Look at one utterance."""
    where = f"utterance {row}"
    try:
        stated = corpus.entry(row)
        where, text = stated.id, stated.text
        # Of sources of text, training reads nothing else, whether or not they have audio.
        utterance = read_whole(corpus, row, where, stated.seconds, config.data.length_tolerance) if audio else None
    except UnreadableAudio as error:
        advice = "correct what states its length, or the audio" if error.path == where else _FIX
        return _Found([Check("problem", "", f"{error.path}: {error.why}", advice)])
    except Exception as error:
        return _Found([from_error("", error)])
    problems = []
    if not normalize(text):
        what = f"{where}: data.normalizer {normalize} leaves nothing of {text[:60]!r}"
        problems.append(
            Check("problem" if not audio else "warning", "", what, "correct the text, or take another normalizer")
        )
    if utterance is None:
        return _Found(problems, stated.language)
    if not utterance.sample_rate or not len(utterance.audio):
        return _Found([*problems, Check("problem", "", f"{where}: no samples", "correct the audio")], stated.language)
    seconds = len(utterance.audio) / utterance.sample_rate
    if int(np.abs(utterance.audio.astype(np.int32)).max()) <= QUIET:
        problems.append(Check("warning", "", f"{where}: silence", "listen to it: is it the right channel and file?"))
    return _Found(problems, stated.language, utterance.sample_rate, seconds)


def other_paths(config: Config, begun: RunDirectory | None = None) -> Iterator[Check]:
    """Check what else the config reads: a tokenizer, another run's weights, confusions of text units.

    begun: the run that it continues, which reads its own tokenizer, weights and copy of the confusions.
    """
    from joint_st.config import load
    from joint_st.data.confusions import units_in
    from joint_st.data.tokenizers import load_tokenizer

    if not begun and (path := config.data.tokenizer.path):
        tokenizer = load_tokenizer(expand(path))
        yield Check("ok", "data.tokenizer.path", f"{Path(path)}: {tokenizer.size} labels")
    if config.text.confusions:
        copy = begun.text_confusions if begun else None
        path = copy if copy and copy.is_file() else expand(config.text.confusions)
        yield Check("ok", "text.confusions", f"{path}: counted over {len(units_in(path))} text units")
    if not begun and (init := config.training.init.run):
        run = existing_run(expand_run(init))
        load(run.config)
        steps = run.checkpoint_steps
        if not steps:
            yield Check("problem", "training.init.run", f"{run.root}: no complete checkpoint", "train that run first")
        else:
            yield Check("ok", "training.init.run", f"{run.root}: checkpoints {', '.join(map(str, steps))}")
