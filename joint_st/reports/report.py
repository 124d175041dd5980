"""`joint-st report`: gathers the results of a run, computes those that are missing, and writes the page."""

from __future__ import annotations

import dataclasses
import functools
import sys
from collections.abc import Sequence
from pathlib import Path

from pydantic import JsonValue

from joint_st import storage
from joint_st.analysis.analyze import analysis_origin, analyze_and_keep, open_pairs
from joint_st.analysis.pairs import NothingToCompare
from joint_st.config import Source
from joint_st.data.dataset import Dataset
from joint_st.decoding.decoders import Decoder, Greedy
from joint_st.distributed.mesh import keep_compiled
from joint_st.errors import UserError
from joint_st.evaluation.breakdown import BY, UNSTATED, break_down, explain_unstated
from joint_st.evaluation.evaluate import evaluate_checkpoints
from joint_st.evaluation.origin import Origin, read_origin
from joint_st.evaluation.rates import make_rows
from joint_st.evaluation.report import ScoredUtterance, about_few, by_key, keep_all, numbered
from joint_st.evaluation.stored import contents, have_changed, origin_of, other_texts, stored_utterances
from joint_st.evaluation.wer import ALL
from joint_st.evaluation.word_errors import word_errors
from joint_st.json_files import DAMAGED, read_json
from joint_st.passes import FULL_CONTEXT, PASSES
from joint_st.reports.charts import layer_charts, training_charts
from joint_st.reports.page import embedded, make_page
from joint_st.reports.samples import make_samples
from joint_st.runs.trained import Trained, load_trained
from joint_st.training.asr import columns

MEGABYTE = 1_000_000

MOST_WORDS = 100
"""Number of confusions, and of missed words, on the page."""


def report_run(
    workdir: Path,
    *,
    output: Path | None = None,
    data: dict[str, Source] | None = None,
    head: str = FULL_CONTEXT,
    decoder: Decoder = Greedy(),
    checkpoint: str = "best",
    utterances: int = 30,
    megabytes: int = 10,
) -> Path:
    """Write the page of the run in `workdir` on a named source, its first test split by default; returns its path.

    An evaluation by `decoder` and a layer analysis that the run does not hold yet are made first, as `evaluate` and
    `analyze` do, and kept in the run; a source that is not the config's is always evaluated. Where no text of the split
    has units, the page has no curves of the layers, and stderr says so. Up to `utterances` have audio, as many as fit a
    page of `megabytes` (of 10^6 bytes); all others have their texts alone, as have all where what is stored is used and its
    source is not there.
    """
    trained = load_trained(workdir, checkpoint)
    keep_compiled(trained.config.training.compilation_cache)
    split, source = trained.split(data)
    own = trained.config.data.test.get(split) == source
    scored, why = split_utterances(trained, split, source, decoder) if own else ([], "")
    if not scored:
        if own:
            print(f"{trained.run.root}, step {trained.step}: evaluated, since {why}", file=sys.stderr)
        [evaluation] = evaluate_checkpoints(
            trained.run.root, [str(trained.step)], data={split: source}, decoders=[decoder]
        )
        if evaluation.unread:
            raise UserError(f"{trained.run.root}: {'; '.join(evaluation.unread)}")
        for problem in keep_all(evaluation.files()):
            print(problem, file=sys.stderr)
        found = by_key(evaluation.utterances)
        scored = [one for head in PASSES for one in found[split, head, decoder.name]]
    content = page_data(trained, split, scored, head=head, decoder=decoder.name)
    if trained.units is not None:
        try:
            content["layers"] = _layer_charts(trained, split, source, own)
        except NothingToCompare as error:
            content["without_layers"] = f"no curves of the layers: {error}"
            print(content["without_layers"], file=sys.stderr)
    samples: dict[str, dict] = {}
    if utterances:
        try:
            dataset = open_pairs(trained, source)
        except UserError as error:  # it does not exist any more, as where a run was moved
            print(f"no audio on the page: {error}", file=sys.stderr)
        else:
            samples = _samples(trained, dataset, scored, head, utterances)
    fitted = add_samples(content, samples, megabytes * MEGABYTE)
    page = make_page(content)
    path = output or trained.run.root / "report.html"
    (storage.write_output if output else storage.write_whole)(path, page)
    size = len(page.encode()) / MEGABYTE
    print(f"{path}: {len(content['utterances'])} utterances, {fitted} with audio, {size:.1f} MB")
    if fitted < len(samples):
        left_out = len(samples) - fitted
        print(f"audio of {left_out} more is left out to keep the page below {megabytes} MB (--megabytes)")
    return path


def _layer_charts(trained: Trained, split: str, source: Source, own: bool) -> list[dict]:
    """Return the curves of the layers on a source: from the stored analysis where the source is the config's `own` and the
    analysis is of it, otherwise from a new one, which is kept. Raises `UserError` where what is stored is damaged, and
    `NothingToCompare` where no text has units."""
    path = trained.run.analysis(trained.step, split)
    if not (own and is_of(path, trained, split, source)):
        rows, problems = analyze_and_keep(trained, split, source)
        for problem in problems:
            print(problem, file=sys.stderr)
        return layer_charts(rows)
    stored = read_json(path, list[dict[str, JsonValue]])
    try:
        return layer_charts(stored)
    except (KeyError, IndexError, TypeError, ValueError, OverflowError) as error:
        raise UserError(f"{path}: not a layer analysis ({type(error).__name__}: {error}); {DAMAGED}") from None


def page_data(trained: Trained, split: str, scored: Sequence[ScoredUtterance], *, head: str, decoder: str) -> dict:
    """Return what the page shows without audio: results, breakdowns, training curves, texts."""
    config = trained.config
    how = {
        "normalizer": str(trained.normalizer),
        "step": trained.step,
        "samples": config.evaluation.bootstrap_samples,
        "seed": config.seed,
    }
    facts = utterance_facts(scored)
    spoken = {word for one in facts for word in one["reference"].split()}
    breakdowns = []
    for by in BY:
        rows = break_down(scored, by, **how)
        few = about_few(row for row in rows if row["subset"] == ALL)
        breakdowns.append({"by": by, "rows": rows, "notes": [*explain_unstated(scored, by), *few]})
    found = word_errors(scored)
    return {
        "title": f"{config.name}: {split}",
        "run": config.name,
        "split": split,
        "step": trained.step,
        "decoder": decoder,
        "normalizer": str(trained.normalizer),
        "head": head,
        "heads": list(PASSES),
        "seconds": round(sum(one["seconds"] for one in facts), 1),
        "summary": make_rows(scored, **how),
        "breakdowns": breakdowns,
        "words": {
            name: {
                "confusions": [row for row in found["confusions"] if row["head"] == name][:MOST_WORDS],
                "missed": [row for row in found["missed_words"] if row["head"] == name][:MOST_WORDS],
            }
            for name in PASSES
        },
        "training": training_charts(trained.run.metrics, columns(trained.config)),
        "layers": [],
        "without_layers": "this model reads no text, so there is nothing to compare its speech with",
        "text_only": sorted(word for word in spoken if trained.vocabulary.subset_of(word) == "text_only"),
        "utterances": facts,
    }


def add_samples(content: dict, samples: dict[str, dict], most_bytes: int) -> int:
    """Add those samples to their utterances, in order, with which the page stays below a size; return how many were
    added."""
    places = {one["id"]: one for one in content["utterances"]}
    size = len(make_page(content).encode())
    added = 0
    for key, sample in samples.items():
        more = len(embedded({"sample": sample}).encode())
        if size + more > most_bytes:
            continue
        size += more
        places[key]["sample"] = sample
        added += 1
    return added


def _samples(
    trained: Trained, dataset: Dataset, scored: Sequence[ScoredUtterance], head: str, most: int
) -> dict[str, dict]:
    of_head = [one for one in scored if one.head == head]
    ids = [of_head[n].id for n in choose([one.errors[ALL].word_errors for one in of_head], most)]
    return make_samples(trained, dataset, ids, head)


LETTERS = {"equal": "=", "substitute": "s", "delete": "d", "insert": "i"}
"""Letter for each kind of step in the alignment of reference and hypothesis."""


def is_of(analysis: Path, trained: Trained, split: str, source: Source) -> bool:
    """Return whether a stored layer analysis belongs to a checkpoint and a source, with the texts that it has now."""
    found = read_origin(analysis)
    if found is None:
        return False
    try:
        wanted = analysis_origin(trained, split, source, open_pairs(trained, source))
    except UserError:  # it does not exist any more, as where a run was moved
        what = (trained.run, trained.step, str(trained.normalizer), {split: source})
        wanted = dataclasses.replace(Origin.of(*what, {}, 0.0, trained.look_ahead_ms), texts=found.texts)
    return dataclasses.replace(found, found="") == wanted


def split_utterances(
    trained: Trained, split: str, source: Source, decoder: Decoder
) -> tuple[list[ScoredUtterance], str]:
    """Return the utterances of a split as `decoder` recognised them, head by head, or why there are none.

    There are none unless the run's evaluations have them for both heads, from the same source and decoder, with the
    utterances and texts that the source has now; one that does not exist any more is not compared.
    """
    keys = [(split, name, decoder.name) for name in PASSES]
    how = (trained.config.window_seconds, trained.look_ahead_ms)
    wanted = origin_of(trained.run, trained.step, str(trained.normalizer), {split: source}, [decoder], *how)
    found, why = stored_utterances(trained.run, trained.step, keys, wanted)
    if not why:
        name, threads = f"{trained.run.root}, step {trained.step}", trained.config.data.read_threads
        open_split = functools.partial(open_pairs, trained, source)
        if have_changed(name, open_split, [contents(found[key]) for key in keys], threads):
            why = other_texts(split)
    return ([], why) if why else ([one for key in keys for one in found[key]], "")


def utterance_facts(scored: Sequence[ScoredUtterance]) -> list[dict]:
    """Return a record for each utterance of a split, in its order.

    `groups` has, by the keys of `BY`, the group that `break_down` counts it in; `heads` has each head's `hypothesis`
    with its `edits`, a letter of `LETTERS` for each step from the reference's words to the hypothesis's.
    """
    group_of = {by: make(scored) for by, make in BY.items()}
    facts: dict[tuple, dict] = {}
    of_head = {head: numbered(one.id for one in scored if one.head == head) for head in {one.head for one in scored}}
    in_turn = {head: iter(own) for head, own in of_head.items()}
    for one in scored:
        found = {by: group(one) for by, group in group_of.items()}
        own = facts.setdefault(
            next(in_turn[one.head]),
            {
                "id": one.id,
                "seconds": round(one.seconds, 3),
                "groups": {by: group.name if group else UNSTATED for by, group in found.items()},
                "reference": one.reference,
                "heads": {},
            },
        )
        edits = "".join(LETTERS[op.kind] for op in one.ops)
        own["heads"][one.head] = {"hypothesis": one.hypothesis, "edits": edits}
    stated = {by for by in BY if any(one["groups"][by] != UNSTATED for one in facts.values())}
    for own in facts.values():
        own["groups"] = {by: group for by, group in own["groups"].items() if by in stated}
    return list(facts.values())


def choose(errors: Sequence[int], most: int) -> list[int]:
    """Return the numbers of up to `most` utterances that have audio, the most informative first.

    It takes in turn the one with the most errors, and one of those evenly spread over all. errors: number of errors in
    each utterance, [N].
    """
    count = len(errors)
    worst = sorted(range(count), key=lambda n: -errors[n])
    even = [round(k * (count - 1) / max(most - 1, 1)) for k in range(min(most, count))]
    in_turn = [n for pair in zip(worst, even) for n in pair]
    return list(dict.fromkeys([*in_turn, *worst]))[:most]
