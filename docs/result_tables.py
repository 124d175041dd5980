"""What each file in `benchmarks/results/` gives to the pages of the site and to the README: numbers as text, and tables.

A reader takes the content of a file and returns nested dictionaries of text, by which `results.py` names them. Nothing
here imports JAX.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

from forest import Interval, forest
from recorded_tables import recorded
from result_cells import by_seed, change, rate, removed, removed_of, table

SUBSETS = ("", "_heard", "_text_only")
"""Endings of the rates of a sweep's rows: all words, words in training audio, words in training text alone."""
HEADS = {"": "full context", "streaming_": "streaming"}
"""Beginnings of the same names."""
SUBSET_NAMES = {"": "all words", "_heard": "heard", "_text_only": "text only"}

MAIN_ARMS = ("audio_only", "reconstruction", "reconstruction_consistency")
"""Arms of the sweeps that show what text adds; the last one is the base, with the alignment `dtw`."""

GIB = 2**30


def headline(found: dict[str, Any]) -> str:
    """Return the table of the README: the quickstart by decoder, and what text adds to the same speech."""
    quick, arms = found["quickstart"], found["text_injection"]
    rows = [
        ("quickstart, greedy", quick["greedy"]["full_context"]),
        ("quickstart, beam with a 3-gram of its texts", quick["beam_3gram"]["full_context"]),
        ("quickstart, beam with an LSTM over its letters", quick["beam_lstm"]["full_context"]),
        ("a layer less, two thousand steps, without text", _by_subset(arms["audio_only"])),
        ("the same speech, with text and consistency", _by_subset(arms["reconstruction_consistency"])),
    ]
    lines = [
        [name, *(rates[subset].replace(" %", "") for subset in ("all", "heard", "text_only"))] for name, rates in rows
    ]
    return table(["", "all words", "heard in training", "in training text alone"], lines)


def _by_subset(arm: dict[str, str]) -> dict[str, str]:
    return {(end.removeprefix("_") or "all"): arm[f"wer{end}"] for end in SUBSETS}


def sweep(rows: list[dict]) -> dict[str, Any]:
    """Return the values of a sweep's rows (`joint-st sweep --collect --json`): by arm, and as tables."""
    subsets = [ending for ending in SUBSETS if f"words{ending}" in rows[0] or not ending]
    header = ["arm", *(f"{HEADS[head]}: {SUBSET_NAMES[ending]}" for head in HEADS for ending in subsets)]
    found: dict[str, Any] = {"rates": table(header, [_rates(row, subsets) for row in rows])}
    for reference in dict.fromkeys(name for row in rows for name in row["relative_to"]):
        compared = [row for row in rows if reference in row["relative_to"]]
        lines = [_changes(row, reference, subsets) for row in compared]
        found[f"relative_to_{reference}"] = table(header, lines)
    by_name = {row["name"]: row for row in rows}
    found["main"] = table(header, [_rates(by_name[name], subsets) for name in MAIN_ARMS if name in by_name])
    if len(by_name) > len(MAIN_ARMS):
        found["alignments"] = _alignments([row for row in rows if row["name"] not in MAIN_ARMS[:2]])
    for row in rows:
        arm: dict[str, Any] = {f"{head}wer{end}": rate(row, f"{head}wer{end}") for head in HEADS for end in subsets}
        arm["by_seed"] = by_seed(row)
        for reference, changes in row["relative_to"].items():
            arm[f"versus_{reference}"] = {key: removed(one) for key, one in changes.items() if one}
        if monitors := row.get("monitors"):
            arm |= {name: f"{value:.1f}" for name, value in monitors.items()}
            arm["relative_distance"] = f"{monitors['relative_distance']:.2f}"
        found[row["name"].replace(".", "_")] = arm  # a dot would begin another name
    if lines := _consistency(rows):
        found["figure"] = forest(lines, "errors removed by consistency, % (95 % interval)")
    first = rows[0]
    found |= {name: str(first[name]) for name in ("split", "decoder", "normalizer", "utterances", "words")}
    return found | {"seeds": str(len(first["seeds"]))}


def _consistency(rows: list[dict]) -> list[tuple[str, dict[str, Interval]]]:
    """Return what consistency removes in each arm, over the arm that differs from it in having none, as a figure takes it:
    those first that gain most in full context."""

    def others(row: dict) -> dict:
        return {key: value for key, value in row["overrides"].items() if not key.startswith("losses.consistency.")}

    without = {json.dumps(others(row)): row["name"] for row in rows if row["name"].split("_")[0] == "without"}
    lines = []
    for row in rows:
        changes = row["relative_to"].get(without.get(json.dumps(others(row))), {})
        if row["name"] not in without.values() and changes:
            lines.append((row["name"], {HEADS[head]: removed_of(changes[f"{head}all"]) for head in HEADS}))
    return sorted(lines, key=lambda line: -line[1]["full context"][0])


def _alignments(rows: list[dict]) -> str:
    """Return a table of arms that differ in their alignment, those with the lowest rate first."""
    rate_name, base = "wer_text_only", MAIN_ARMS[-1]
    header = ["alignment", "text only, full context", "change from `reconstruction`", "change from `dtw`"]
    lines = []
    for row in sorted(rows, key=lambda row: row[rate_name]):
        name = "dtw" if row["name"] == base else row["name"]
        changes = [row["relative_to"].get(other, {}).get("text_only") for other in ("reconstruction", base)]
        cells = [change(one).replace(" %", "") if one else "" for one in changes]
        lines.append([f"`{name}`", rate(row, rate_name).replace(" %", ""), *cells])
    return table(header, lines)


def _rates(row: dict, subsets: Sequence[str]) -> list[str]:
    rates = (rate(row, f"{head}wer{end}") for head in HEADS for end in subsets)
    return [f"`{row['name']}`", *(one.replace(" %", "") for one in rates)]


def _changes(row: dict, reference: str, subsets: Sequence[str]) -> list[str]:
    changes = row["relative_to"][reference]
    keys = [head + (end.removeprefix("_") or "all") for head in HEADS for end in subsets]
    return [f"`{row['name']}`", *(change(changes[key]).replace(" %", "") if changes.get(key) else "-" for key in keys)]


def pods(rows: list[dict]) -> dict[str, str]:
    """Return the memory and the traffic of training steps compiled for slices of TPU pods."""
    header = ["config", "slice", "chips", "parameters", "GiB of a chip", "GiB it has", "MiB sent a step"]
    lines = []
    for row in rows:
        if row["quick"]:  # not what a run would compile
            continue
        memory, sent = row["memory"], sum(one["bytes"] for one in row["collectives"]) / 2**20
        sizes = [
            f"{memory['total'] / GIB:.2f}",
            f"{memory['usable'] / GIB:.2f}",
            f"{sent:,.1f}" if row["fits"] else "-",
        ]
        lines.append([f"`{row['config']}`", f"`{row['topology']}`", row["chips"], f"{row['parameters']:,}", *sizes])
    return {"table": table(header, lines)}


def quickstart(found: dict) -> dict[str, Any]:
    """Return the evaluations of the quickstart (`benchmarks/quickstart.py`): by decoder, head and subset."""
    names = {
        "greedy": "greedy",
        "beam": "beam 16",
        "beam_3gram": "beam 16, 3-gram",
        "beam_lstm": "beam 16, LSTM",
        "beam_rescored": "beam 16, rescored by LSTM",
        "beam_3gram_rescored": "beam 16, 3-gram, rescored by LSTM",
    }
    cells: dict[str, Any] = {}
    for row in found["rows"]:
        if row["split"] == "test" and row["wer"] is not None:
            cells.setdefault(row["name"], {}).setdefault(row["head"], {})[row["subset"]] = rate(row, "wer")
    columns = [(head, subset) for head in ("full_context", "streaming") for subset in ("all", "heard", "text_only")]
    header = ["decoder", *(f"{head.replace('_', ' ')}: {subset.replace('_', ' ')}" for head, subset in columns)]
    lines = [
        [names.get(name, name), *(heads.get(head, {}).get(subset, "-").replace(" %", "") for head, subset in columns)]
        for name, heads in cells.items()
    ]
    return {"decoders": table(header, lines), **cells}


def one_gpu(found: dict) -> dict[str, Any]:
    """Return the speed of training steps on one GPU, of those variants whose loss stayed a number.

    `hours_for_1000` has, by variant, the hours that the steps of one pass over 1,000 hours of speech take.
    """
    speed = found["step_speed"]
    lines, hours = [], {}
    for name, variant in speed["variants"].items():
        losses = speed["losses_after_rounds"].get(name, {}).values()
        if losses and all(math.isfinite(float(loss)) for loss in losses):
            time = variant["time"]
            sizes = variant["rows"], f"{variant['parameters']:,}"
            lines.append([f"`{name}`", *sizes, f"{time['ms']:.1f}", f"{time['audio_seconds_per_second']:,.0f}"])
            hours[name] = f"{1_000 / time['audio_seconds_per_second']:.2f}"
    header = ["variant", "utterances", "parameters", "ms a step", "seconds of audio a second"]
    return {"device": found["device"], "steps": table(header, lines), "hours_for_1000": hours}


def faults(found: dict) -> dict[str, Any]:
    """Return how the tries of each fault ended, and how many there were in all."""
    outcomes = ("survived", "refused", "traceback", "silent", "lost")
    rows = [[one["fault"], *(f"{one[name]:,}" for name in ("tried", *outcomes))] for one in found["faults"]]
    tried = f"{sum(one['tried'] for one in found['faults']):,}"
    return {"tried": tried, "table": table(["fault", "tried", *outcomes], rows)}


def look_ahead(rows: list[dict]) -> dict[str, dict[str, str]]:
    """Return the table of WER against delay for each data set, a line for each run and length."""

    def of(row: dict, head: str) -> str:
        same = ("run", "data", "look_ahead_ms")
        (one,) = (other for other in rows if other["head"] == head and all(other[key] == row[key] for key in same))
        return rate(one, "wer").replace(" %", "")

    def line(row: dict) -> list[str]:
        trained = ", ".join(f"{length:g}" for length in row["trained_with_ms"])
        waits = f"{row['look_ahead_ms']:g}", f"{row['delay_ms']:g}"
        return [trained, *waits, of(row, "streaming"), of(row, "full_context")]

    header = ["trained with (ms)", "decoded with (ms)", "mean delay (ms)", "streaming", "full context"]
    found = {}
    for data in dict.fromkeys(row["data"] for row in rows):
        own = [row for row in rows if row["data"] == data and row["head"] == "streaming"]
        found[data] = {"utterances": str(own[0]["utterances"]), "table": table(header, [line(row) for row in own])}
    return found


def robustness(found: dict) -> dict[str, dict[str, str]]:
    """Return, for each split, a table for each head of WER under changes of the audio, with a line for each change and a
    column for each run."""
    return {data: _robustness([row for row in found["rows"] if row["data"] == data]) for data in _each(found, "data")}


def _each(found: dict, name: str) -> list[str]:
    return list(dict.fromkeys(row[name] for row in found["rows"]))


def _robustness(rows: list[dict]) -> dict[str, str]:
    tables = {}
    runs, conditions = (list(dict.fromkeys(row[name] for row in rows)) for name in ("run", "condition"))
    by_name = {(row["run"], row["condition"], row["head"]): row for row in rows}

    def cell(row: dict | None) -> str:
        if row is None:
            return "-"
        more = "" if row["condition"] == "as it is" or row["relative"] is None else f" {100 * row['relative']:+.0f} %"
        return f"{rate(row, 'wer').replace(' %', '')}{more}"

    for head in ("full_context", "streaming"):
        lines = [[name, *(cell(by_name.get((run, name, head))) for run in runs)] for name in conditions]
        tables[head] = table(["audio", *(f"`{run}`" for run in runs)], lines)
    device = ", ".join(dict.fromkeys(row["device"] for row in rows))
    return tables | {"utterances": str(rows[0]["utterances"]), "device": device}


def train_step(found: dict) -> dict[str, str]:
    """Return the table of the time of a step against PyTorch's."""
    rows = found["rows"]
    lines = [
        [
            f"{row['width']}, {row['layers']}, {row['kernel']}, {row['batch']} × {row['seconds']:g} s",
            f"{row['parameters'] / 1e6:.1f} M",
            f"{row['ours_ms']:.0f}",
            f"{row['torch_ms']:.0f}",
            f"{row['ratio']:.2f} ({row['ratio_low']:.2f}-{row['ratio_high']:.2f})",
            f"{row['ours_share_of_peak']:.0%}, {row['torch_share_of_peak']:.0%}",
        ]
        for row in rows
        if "ratio" in row
    ]
    header = ["width, layers, kernel, batch", "parameters", "ours (ms)", "PyTorch (ms)", "ratio", "share of peak"]
    kinds = list(dict.fromkeys(kind for row in rows for kind in row["parts"]))
    parts = [
        [
            f"{row['parameters'] / 1e6:.1f} M",
            *(f"{row['parts'].get(kind, 0):.0%}" for kind in kinds),
            f"{row['products_share_of_peak']:.0%}",
        ]
        for row in rows
    ]
    return {
        "device": rows[0]["device"],
        "rival": rows[0]["rival"],
        "table": table(header, lines),
        "parts": table(["parameters", *kinds, "products' share of peak"], parts),
    }


def joint_step(found: dict) -> dict[str, str]:
    """Return the table of the time of a joint step against that of a step on speech alone."""

    def of(row: dict, name: str) -> str:
        return f"{row[name]:.2f} ({row[f'{name}_low']:.2f}-{row[f'{name}_high']:.2f})"

    lines = [
        [
            row["name"],
            f"{row['parameters'] / 1e6:.1f} M",
            f"{row['utterances']} × {row['seconds']:g} s, {row['utterances'] if row['texts'] is None else row['texts']}",
            f"{row['ours_ms']:.0f}",
            f"{row['ours_share_of_peak']:.0%}",
            of(row, "over_audio"),
            f"{row['flops_over_audio']:.2f}",
            of(row, "over_without_consistency"),
        ]
        for row in found["rows"]
    ]
    header = ["size", "parameters", "speech, texts", "joint step (ms)", "share of peak", "over speech alone"]
    header += ["products over speech alone", "over no consistency"]
    return {"device": found["rows"][0]["device"], "table": table(header, lines)}


def tpu_forms(found: dict) -> dict[str, str]:
    """Return the tables of what a TPU's compiler makes of forms of an operation, by kind of operation."""
    rows = found["rows"]
    header = [
        "form",
        "B × T",
        "HBM (MB)",
        "HBM (ms)",
        "products (ms)",
        "temporaries (MB)",
        "program (MB)",
        "compiling (s)",
    ]
    tables = {}
    for kind in dict.fromkeys(row["kind"] for row in rows):
        lines = []
        for row in (row for row in rows if row["kind"] == kind):
            name = f"**{row['form']}**" if row["ours"] else row["form"]
            cells = [f"not compiled: {row['missing']}", *[""] * 5] if "missing" in row else _needs(row)
            lines.append([name, f"{row['batch']} × {row['frames']}", *cells])
        tables[kind.replace("-", "_")] = table(header, lines)
    return {"topology": rows[0]["topology"], **tables}


def _needs(row: dict) -> list[str]:
    sizes = (f"{row[name] / 1e6:,.{digits}f}" for name, digits in (("temporary_bytes", 0), ("program_bytes", 1)))
    times = f"{row['hbm_ms']:.2f}", f"{row['product_ms']:.2f}"
    return [f"{row['hbm_bytes'] / 1e6:,.0f}", *times, *sizes, f"{row['compile_seconds']:.0f}"]


SIZES = {"batch": "B", "frames": "T", "positions": "R", "vocabulary": "V", "labels": "U", "width": "D"}
"""Sizes in rows of speed, and the letters that they have in the tables."""


def side_by_side(found: dict) -> dict[str, Any]:
    """Return the speed of ours and of others that took turns (`benchmarks/side_by_side.py`): a table, the device, its load.

    Ranges in brackets are those of the middle 80 % of the rounds' ratios. `rule` says what a ratio is.
    """
    lines = []
    for row in found["rows"]:
        sizes = ", ".join(f"{letter} {row[name]}" for name, letter in SIZES.items() if name in row)
        cells = [f"not measured: {row['missing']}", "", ""] if "missing" in row else _times(row)
        lines.append([f"`{row['op']}`", row["rival"], sizes, *cells])
    devices = dict.fromkeys(row["device"] for row in found["rows"])
    header = ["ours", "compared with", "sizes", "ours, ms", "theirs, ms", "theirs over ours"]
    load = str(found["machine"]["load_at_the_start"])
    rule = found.get("ratio_rule", "ratio of the medians")
    return {"device": "; ".join(devices), "load": load, "rule": rule, "table": table(header, lines)}


def _times(row: dict) -> list[str]:
    ratio = f"{row['ratio']:.2f} ({row['ratio_low']:.2f}-{row['ratio_high']:.2f})"
    return [f"{row['ours_ms']:.1f}", f"{row['theirs_ms']:.1f}", ratio]


BY_FILE = {
    "faults": faults,
    "ctc": side_by_side,
    "alignment": side_by_side,
    "text_injection": sweep,
    "recorded": recorded,
    "recorded_read": recorded,
    "recorded_dutch": recorded,
    "regularisation": recorded,
    "text_options": sweep,
    "consistency": sweep,
    "other_domain": sweep,
    "pods": pods,
    "quickstart": quickstart,
    "one_gpu_h200": one_gpu,
    "look_ahead": look_ahead,
    "robustness": robustness,
    "train_step": train_step,
    "joint_step": joint_step,
    "tpu_forms": tpu_forms,
}
"""What reads each file of results. A file that is not here has no values."""
