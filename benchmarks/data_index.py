"""Time of a job from opening its data to the first planned batch: the first time, and with an existing index.

    python benchmarks/data_index.py [--rows 300000] [--units phonemes] [--runs 3]

The manifest is synthetic: sentences of made-up words, stated durations, and one shared audio file that is never
decoded. Each launch is a separate process, like a job; Python's imports are not counted. A launch finds the tokenizer
and the units in the directory of its run, like a job that continues; `another run` has to learn them from the texts,
but finds the index of the run before.

300,000 utterances, 2 CPU cores that some 20 other processes kept busy too (which the seconds include; CPU time is that
of this process):

                     characters                 phonemes, and the same texts without audio
    first launch     68.1 s, 16.2 s CPU time    1181 s, 135 s CPU time
    second launch    0.27 s, 0.08 s CPU time    0.38 s, 0.15 s CPU time
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import wave
from pathlib import Path

WORDS = 20_000
"""Different words; phonemes are kept by sentence, and all sentences differ."""

LAUNCH = """
import resource, sys, time
from joint_st.config import Config, DataConfig, ManifestSource, TextConfig, UnitsConfig
from joint_st.data.normalizers import normalizer
from joint_st.runs.directory import RunDirectory
from joint_st.training.setup import open_data
from pathlib import Path

manifest, run, units, cache = sys.argv[1:]
source = ManifestSource(path=manifest)
text = {"text": (source,), "text_batch_size": 16} if units != "none" else {}
data = DataConfig(train=(source,), units=UnitsConfig(kind=units), index_cache=cache, **text)
config = Config(data=data)
run = RunDirectory(Path(run))
run.root.mkdir(exist_ok=True)
began, spent = time.perf_counter(), time.process_time()
opened = open_data(config, run, normalizer("english"))
opened.plan[0]
print(f"{time.perf_counter() - began:.2f} s, {time.process_time() - spent:.2f} s of CPU time")
print(f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB", file=sys.stderr)
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=300_000, help="utterances")
    parser.add_argument("--units", default="none,phonemes", help="kinds of text units, separated by commas")
    parser.add_argument("--runs", type=int, default=3, help="launches with the index there")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        manifest = write_manifest(place, options.rows)
        print(f"{options.rows} utterances, {manifest.stat().st_size / 1e6:.0f} MB of manifest")
        for units in options.units.split(","):
            cache = str(place / f"cache_{units}")

            for what, run in (("first launch", "a"), *[("second launch", "a")] * options.runs, ("another run", "b")):
                print(f"{units:10s}{what:20s}{launch(manifest, place / f'{run}_{units}', units, cache)}", flush=True)
            size = sum(file.stat().st_size for file in Path(cache).iterdir())
            print(f"{units:10s}{'index':20s}{size / 1e6:.0f} MB")


def launch(manifest: Path, run: Path, units: str, cache: str) -> str:
    """Open the data of a run in a separate process; return the time that it took."""
    # The cache of phonemes is in the home.
    environment = {**os.environ, "HOME": str(manifest.parent)}
    command = [sys.executable, "-c", LAUNCH, str(manifest), str(run), units, cache]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return f"{done.stdout.strip()}, peak {done.stderr.splitlines()[-1]}"


def write_manifest(folder: Path, rows: int) -> Path:
    """Return a manifest of `rows` different sentences with durations."""
    draw = random.Random(0)
    syllables = [a + b for a in "bdfghklmnprstvw" for b in ("a", "e", "i", "o", "u", "ai", "en", "ir")]
    words = ["".join(draw.choices(syllables, k=draw.randint(1, 4))) for _ in range(WORDS)]
    with wave.open(str(folder / "shared.wav"), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes(bytes(32_000))
    with open(folder / "manifest.jsonl", "w") as file:
        for i in range(rows):
            sentence = draw.choices(words, k=draw.randint(3, 20))
            line = {"id": f"utterance-{i:07d}", "audio_filepath": "shared.wav", "text": " ".join(sentence).capitalize()}
            line |= {"duration": round(0.4 * len(sentence) + draw.random(), 3), "language": "en"}
            file.write(json.dumps(line) + "\n")
    return folder / "manifest.jsonl"


if __name__ == "__main__":
    main()
