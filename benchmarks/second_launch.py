"""Time from the launch of a training to its first step, before and after everything is compiled; prints the ratio.

    python benchmarks/second_launch.py [CONFIG]

Each launch is a process of its own with a run of its own, of one step; first and second launches share a
fresh folder of compiled programs. With `--cold` the first launch also synthesises its corpus and indexes it.

On 2 CPU cores with an audio-only model of the quickstart's width, twice: 36.5 s, then 13.9 s, a ratio of 0.38; `--cold`
71.6 s, then 14.1 s, 0.20. The second launch consists of imports, tracing, and reading the compiled programs back.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def launch(config: str, workdir: Path, compiled: Path, environment: dict[str, str]) -> float:
    """Return the seconds from the start of the process to its first step."""
    command = [sys.executable, "-m", "joint_st", "train", config, "--workdir", str(workdir)]
    command += ["--training.steps", "1", "--training.text_first_steps", "0"]
    command += ["--training.compilation_cache", str(compiled)]
    began = time.perf_counter()
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        for line in process.stderr:
            if "step 1/1" in line:
                seconds = time.perf_counter() - began
                process.kill()
                return seconds
            if line.startswith("joint-st: error"):
                sys.exit(line.strip())
    sys.exit(f"{' '.join(command)} ended with status {process.returncode} before its first step")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", nargs="?", default="configs/quickstart.py")
    parser.add_argument("--cold", action="store_true", help="let the first launch build and index the corpus as well")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        environment = dict(os.environ)
        if arguments.cold:
            environment |= {"TFDS_DATA_DIR": str(folder / "corpora"), "HOME": str(folder)}
        else:
            launch(arguments.config, folder / "warm", folder / "other", environment)
        first, second = (
            launch(arguments.config, folder / name, folder / "compiled", environment) for name in ("first", "second")
        )
    print(f"first launch {first:.1f} s, second {second:.1f} s to the first step; ratio {second / first:.2f}")


if __name__ == "__main__":
    main()
