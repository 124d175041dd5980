"""Time of a joint training step, on speech and text, over that of a step on speech alone.

    python -m benchmarks.joint_step                              # all sizes; about 5 minutes on 2 CPU cores
    python -m benchmarks.joint_step --size quickstart --rounds 5 --out /tmp/joint_step.json

`quickstart` has the config of the quickstart and `6M` the losses of configs/librispeech_960h.py at the dimensions of
benchmarks/train_step.py. A joint step has speech with its losses, text alone that is reconstructed, and the consistency
of speech and its text, which takes a pass of the paired text. Three steps take turns: `ours_ms` is that of the joint
step, `without_consistency_ms` that without the consistency and its pass, and `audio_ms` that on speech alone. Steps on
text only, with which a training can begin, are not timed.

`over_audio` is the joint step's time over that on speech alone, and `over_without_consistency` that over the step without
it (the paper, arXiv 2308.06125, reports 1.5): medians of the ratios of the rounds, with the middle 80 %. `*_share_of_peak`
is what the matrix products of a step make of the rate that one large float32 product reaches.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from benchmarks import machine
from benchmarks.side_by_side import median_ms, ratio_in_words, ratios, take_turns, write_sizes
from benchmarks.timed_step import Batch, TimedStep, peak_flops
from joint_st.config import Config, load, override
from joint_st.data.symbols import SymbolSizes

RESULTS = machine.RESULTS / "joint_step.json"

WITHOUT_CONSISTENCY = {"losses.consistency.weight": 0}
AUDIO_ALONE = {
    **WITHOUT_CONSISTENCY,
    "data.text_batch_size": 0,
    "losses.reconstruction.streaming": 0,
    "losses.reconstruction.full_context": 0,
    "training.text_first_steps": 0,
}


class Size(NamedTuple):
    """A config, what is changed in it, and its batch."""

    config: str
    changes: dict
    sizes: SymbolSizes
    batch: Batch


SIZES = {
    # That training's inventories and batch (`joint-st data inspect configs/quickstart.py`); speech has up to 72 labels there.
    "quickstart": Size("quickstart.py", {}, SymbolSizes(29, 67), Batch(8, 4, labels=56, units=40, texts=24)),
    "6M": Size(
        "librispeech_960h.py",
        {
            "model.width": 144,
            "model.heads": 4,
            "model.audio_layers": 2,
            "model.text_layers": 1,
            "model.streaming_layers": 2,
            "model.full_context_layers": 8,
            "model.compute_dtype": "float32",
            "model.remat": False,
            "model.unroll": 8,
            "data.batch_size": 8,
            "data.text_batch_size": 8,
        },
        SymbolSizes(256, 64),
        Batch(8, 8, labels=40, units=112),
    ),
}


def measure(name: str, rounds: int) -> dict:
    """Return the row of one size."""
    size = SIZES[name]
    base = override(load(machine.CHECKOUT / "configs" / size.config), size.changes)
    configs: dict[str, Config] = {
        "ours": base,
        "without_consistency": override(base, WITHOUT_CONSISTENCY),
        "audio": override(base, AUDIO_ALONE),
    }
    steps = {kind: TimedStep(config, size.sizes, size.batch) for kind, config in configs.items()}
    peak = peak_flops()
    # As many steps at a time as take about a second.
    counts = {kind: max(1, round(1.0 / step.steps(1))) for kind, step in steps.items()}
    calls = {kind: lambda kind=kind: steps[kind].steps(counts[kind]) for kind in steps}
    taken = take_turns(calls, rounds, at_least=0, warm_ups=0)
    seconds = {kind: one / counts[kind] for kind, one in taken.items()}
    row = {"name": name, **size.batch._asdict(), "width": base.model.width, "parameters": steps["ours"].parameters}
    row["rounds"] = rounds
    for kind, step in steps.items():
        row[f"{kind}_ms"] = median_ms(seconds[kind])
        row[f"{kind}_share_of_peak"] = round(step.flops / float(np.median(seconds[kind])) / peak, 4)
    for other in ("audio", "without_consistency"):
        found = ratios(seconds[other], seconds["ours"])
        row |= {name.replace("ratio", f"over_{other}"): value for name, value in found.items()}
    flops = {kind: step.flops for kind, step in steps.items()}
    row["flops_over_audio"] = round(flops["ours"] / flops["audio"], 3)
    return row | {"peak_gflops_per_second": round(peak / 1e9, 1)}


def describe(row: dict) -> str:
    """Return a row in words."""
    return (
        f"{row['name']}: {row['parameters'] / 1e6:.1f} M parameters, joint {row['ours_ms']:.0f} ms "
        f"({row['ours_share_of_peak']:.0%} of peak), speech alone {row['audio_ms']:.0f} ms, "
        f"joint over speech alone {ratio_in_words(row, 'over_audio')} (matrix products {row['flops_over_audio']:.2f}), "
        f"over without consistency {ratio_in_words(row, 'over_without_consistency')}"
    )


def main() -> None:
    write_sizes(__doc__ or "", SIZES, RESULTS, ("jax", "jaxlib"), measure, describe)


if __name__ == "__main__":
    main()
