"""Keeps OUT/results.json: versions, device and what all stages have found so far.

    python results.py device            the machine and the versions; exits with 1 if there is no accelerator
    python results.py STAGE STATUS      the status of a stage, and its results
    python results.py show              print the numbers that matter

Nothing here needs joint_st.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

OUT = Path(os.environ["OUT"])
PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy", "torch", "torchaudio", "pydantic")


def main(what: str, *more: str) -> None:
    file = OUT / "results.json"
    found = json.loads(file.read_text()) if file.exists() else {}
    if what == "device":
        import jax

        device = jax.devices()[0]
        versions = {}
        for name in PACKAGES:
            try:
                versions[name] = importlib.metadata.version(name)
            except importlib.metadata.PackageNotFoundError:
                versions[name] = None
        commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip()
        total = float((jax.numpy.ones((64, 64)) @ jax.numpy.ones((64, 64))).sum())
        found["machine"] = {
            "device": device.device_kind,
            "platform": device.platform,
            "cores": os.cpu_count(),
            "python": platform.python_version(),
            "versions": versions,
            "commit": commit,
            "xla_flags": os.environ.get("XLA_FLAGS", ""),
            "product_is_right": total == 64**3,
        }
        print(json.dumps(found["machine"], indent=1))
    elif what == "show":
        show(found)
        return
    else:
        found.setdefault("status", {})[what] = int(more[0])
        own = OUT / f"{what}.json"
        if own.exists():
            found[what] = json.loads(own.read_text())
    draft = file.with_suffix(".part")
    draft.write_text(json.dumps(found, indent=1))
    draft.rename(file)
    if what == "device" and device.platform == "cpu":
        sys.exit(1)


def show(found: dict) -> None:
    """Print the numbers that matter."""
    speed = found.get("step_speed", {})
    for name, one in speed.get("variants", {}).items():
        time = one.get("time")
        if not time:
            print(f"{name}: {one.get('error')}")
            continue
        mfu = f", MFU {100 * time['mfu']:.1f} %" if "mfu" in time else ""
        print(
            f"{name}: {one['rows']} rows, {time['ms']:.1f} ms, {time['audio_seconds_per_second']:.0f} audio-s/s, "
            f"{time['model_tflops_per_second']:.1f} TFLOP/s{mfu}, peak {one.get('peak_gib_so_far', 0):.1f} GiB, "
            f"compiled in {one.get('compile_seconds', 0):.0f} s"
        )
    for name, one in speed.get("pytorch", {}).items():
        print(f"PyTorch {name}: {one.get('ms')} ms {one.get('kind', '')} {one.get('error', '')}")
    for name, ratio in speed.get("ratios", {}).items():
        print(f"{name}: {ratio['median']:.3f} ({ratio['low']:.3f}-{ratio['high']:.3f})")
    ops = found.get("ops_speed", {})
    for kind in ("ctc", "alignment", "beam"):
        for sizes, of in ops.get(kind, {}).items():
            numbers = [f"{k} {v['ms']:.2f} ms" for k, v in of.items() if isinstance(v, dict) and "ms" in v]
            ratios = [f"{k} {v:.2f}" for k, v in of.items() if isinstance(v, float)]
            print(f"{kind} {sizes}: {', '.join(numbers + ratios)}")
    recorded = found.get("recorded", {})
    print({name: recorded.get(name) for name in ("steps", "pilot_steps_per_second", "judged", "stopped", "failed")})
    for arm, rows in recorded.get("tables", {}).items():
        for row in rows:
            if row.get("subset") == "all":
                print(
                    f"{arm} {row['split']} {row['head']}, step {row['step']}: WER {100 * row['wer']:.1f} "
                    f"({interval(row['wer_low'], row['wer_high'])})"
                )
    for name, rows in recorded.get("comparisons", {}).items():
        for row in rows:
            if row["subset"] == "all":
                print(
                    f"{name}: {row['split']} {row['head']} {100 * row['wer_a']:.1f} {100 * row['wer_b']:.1f} "
                    f"({interval(row['low'], row['high'])}), p {row['p_value']:.3f}"
                )


def interval(low: float | None, high: float | None) -> str:
    """Return an interval of fractions in per cent; a dash where there is none."""
    return "-" if low is None else f"{100 * low:.1f} to {100 * high:.1f}"


if __name__ == "__main__":
    main(*sys.argv[1:])
