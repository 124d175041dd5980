"""WER of runs on one split as it is, and under changes of level, offset, noise and band.

    python -m benchmarks.robustness runs/quickstart --data test=tfds:spoken_grammar:test
    python -m benchmarks.robustness runs/plain runs/robust --data dev=mine/dev.jsonl \\
        --json benchmarks/results/robustness.json

Each change is made to every utterance, written as WAV files with a manifest, and evaluated by `joint_st`'s own command
with greedy decoding. Noise has the level that is named below the utterance's own power (its signal-to-noise ratio), the
offset is of full scale, the telephone band is 300 to 3,400 Hz. Rows hold `run` (as much of its path as tells the runs
apart), `data`, `condition`, `head`, `wer` and its interval as fractions, and `relative`, the change of all errors against the
unchanged audio. A file that is there keeps its rows of other runs and data.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import rich
import rich.table
import soundfile

from benchmarks import machine
from joint_st import storage
from joint_st.cli.options import read_sources
from joint_st.config import ManifestSource
from joint_st.data.audio import resample, to_int16
from joint_st.data.augmentation import with_noise
from joint_st.data.sources import open_source
from joint_st.evaluation.evaluate import evaluate_run
from joint_st.evaluation.report import between, percent
from joint_st.tables import escape

RATE = 16_000
OFFSET = 0.03
BAND = (300.0, 3400.0)
"""Hz."""


def gain(decibels: float) -> Callable:
    """Multiply the samples; what passes full scale is clipped."""
    return lambda audio, random: to_int16(audio * 10 ** (decibels / 20))


def offset(audio, random):
    """Add a constant."""
    return to_int16(audio + OFFSET * 32768.0)


def noise(colour: str, decibels: float) -> Callable:
    """Add noise at a signal-to-noise ratio."""
    return lambda audio, random: with_noise(audio, decibels, colour, random)


def telephone(audio, random):
    """Leave the band of a telephone alone."""
    spectrum, hertz = np.fft.rfft(audio), np.fft.rfftfreq(len(audio), 1 / RATE)
    return to_int16(np.fft.irfft(spectrum * ((hertz >= BAND[0]) & (hertz <= BAND[1])), n=len(audio)))


CONDITIONS: dict[str, Callable] = {
    "as it is": lambda audio, random: audio,
    "-20 dB": gain(-20),
    "-10 dB": gain(-10),
    "+6 dB": gain(6),
    "offset of 3 %": offset,
    "white noise, 20 dB": noise("white", 20),
    "white noise, 10 dB": noise("white", 10),
    "pink noise, 20 dB": noise("pink", 20),
    "pink noise, 10 dB": noise("pink", 10),
    "telephone band": telephone,
}


def write_split(source, change: Callable, folder: Path, most: int) -> ManifestSource:
    """Write the changed utterances of a source to a folder; each has noise of its own, the same at every call."""
    folder.mkdir()
    corpus, lines = open_source(source), []
    for n in range(min(len(corpus), most or len(corpus))):
        utterance = corpus[n]
        audio = resample(utterance.audio, utterance.sample_rate, RATE)
        audio = change(audio, np.random.default_rng([n, 1]))
        soundfile.write(folder / f"{n}.wav", audio, RATE, subtype="PCM_16")
        line = {"audio_filepath": f"{n}.wav", "duration": len(audio) / RATE, "text": utterance.text}
        lines.append(line | ({"speaker": utterance.speaker} if utterance.speaker else {}))
    place = folder / "manifest.jsonl"
    place.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")
    return ManifestSource(path=str(place))


def told_apart(runs: Sequence[Path]) -> list[str]:
    """Return for each run the shortest end of its path that no other run has: `base`, or `base/seed_0`."""
    paths = [run.resolve() for run in runs]
    for parts in range(1, max(len(path.parts) for path in paths) + 1):
        names = ["/".join(path.parts[-parts:]) for path in paths]
        if len(set(names)) == len(names):
            break
    return names


def merged(file: Path, rows: list[dict]) -> list[dict]:
    """Return the rows of a file of results with new ones in the place of those of the same run, data and condition."""
    kept = json.loads(file.read_text(encoding="utf-8"))["rows"] if file.exists() else []
    new = {_key(row): row for row in rows}
    return [new.pop(_key(row), row) for row in kept] + list(new.values())


def _key(row: dict) -> tuple[str, ...]:
    return tuple(row[name] for name in ("run", "data", "condition", "head"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN")
    parser.add_argument("--data", required=True, metavar="NAME=SOURCE", help="as for `evaluate`")
    parser.add_argument("--only", nargs="+", choices=CONDITIONS, metavar="CONDITION", help="some conditions alone")
    parser.add_argument("--most", type=int, default=0, help="of so many utterances; 0 for all")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    options.runs = list(dict.fromkeys(options.runs))
    ((split, source),) = read_sources([options.data]).items()
    names = [name for name in CONDITIONS if not options.only or name in (*options.only, "as it is")]
    rows, made_by = [], {"device": machine.device(), "commit": machine.commit()}
    with tempfile.TemporaryDirectory() as scratch:
        data = {
            name: write_split(source, CONDITIONS[name], Path(scratch) / str(n), options.most)
            for n, name in enumerate(names)
        }
        for name, run in zip(told_apart(options.runs), options.runs):
            found = [row for row in evaluate_run(run, data=data) if row["subset"] == "all"]
            for row in found:
                (clean,) = (one for one in found if one["split"] == "as it is" and one["head"] == row["head"])
                rows.append(
                    {
                        "run": name,
                        "data": split,
                        "condition": row["split"],
                        **{name: row[name] for name in ("head", "wer", "wer_low", "wer_high", "utterances")},
                        "relative": row["wer"] / clean["wer"] - 1 if clean["wer"] else None,
                        **made_by,
                    }
                )
    if options.json:
        content = json.dumps({"rows": merged(options.json, rows)}, indent=1) + "\n"
        storage.write_output(options.json, content)
    show(rows)


def show(rows: list[dict]) -> None:
    """Print the table."""
    table = rich.table.Table("run", "condition", "head", "WER %", "95 %", "errors")
    for row in rows:
        wer, interval = percent(row["wer"]), between(row["wer_low"], row["wer_high"])
        relative = "-" if row["relative"] is None else f"{row['relative']:+.0%}"  # there is none without any error
        table.add_row(escape(row["run"]), row["condition"], row["head"], wer, interval, relative)
    rich.print(table)


if __name__ == "__main__":
    main()
