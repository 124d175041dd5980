"""Unpacks what `pack.py` packed.

    python prepare.py packages WORK    packages into WORK/site; those of fallback/ where the machine's are too old
    python prepare.py data WORK        recordings as WAV, manifests, texts and phonemes into WORK/data and WORK/home

LIMIT in the environment keeps so many recordings of each manifest, and twenty times as many sentences.
"""

from __future__ import annotations

import concurrent.futures
import gzip
import importlib.metadata
import io
import json
import os
import re
import sys
import tarfile
import time
import zipfile
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
PACKED = CHECKOUT / ".gpu"
PYTHON = (3, 12)
"""Version of Python that the packages are for."""
UNUSED = {"tensorflow-datasets", "importlib-resources"}
"""Requirements of joint_st that only corpora in TFDS's form need."""
WORKERS = max(1, min(12, (os.cpu_count() or 2) - 2))


def packages(work: Path) -> None:
    site = work / "site"
    site.mkdir(parents=True, exist_ok=True)
    if sys.version_info[:2] != PYTHON:
        print(f"packed for Python {PYTHON[0]}.{PYTHON[1]}, and this is {sys.version.split()[0]}: nothing is unpacked")
        return
    with tarfile.open(PACKED / "site.tar.xz") as archive:
        archive.extractall(site, filter="data")
    wheels = {key(wheel.name.split("-")[0]): wheel for wheel in (PACKED / "fallback").glob("*.whl")}
    wanted = requirements(CHECKOUT / "pyproject.toml")
    for name, wheel in sorted(wheels.items()):
        least = wanted.get(name, "0")
        have = version_of(name)
        if have is None or numbers(have) < numbers(least):
            print(f"{name}: {have or 'missing'}, at least {least} is wanted; takes {wheel.name}")
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(site)
    for name, least in wanted.items():
        have = version_of(name, str(site))
        if name not in UNUSED and (have is None or numbers(have) < numbers(least)):
            print(f"{name}: {have or 'missing'}, at least {least} is wanted, and none is carried")


def key(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])


def requirements(file: Path) -> dict[str, str]:
    """Return the least version of each package that a project asks for."""
    found = {}
    for line in file.read_text().split("[project.optional-dependencies]")[0].splitlines():
        if match := re.match(r'\s*"([\w.-]+)(?:\[.*\])?>=([\d.]+)', line):
            found[key(match[1])] = match[2]
    return found


def version_of(name: str, *more: str) -> str | None:
    found = [*importlib.metadata.distributions(name=name, path=[*more, *sys.path])]
    return found[0].version if found else None


def data(work: Path) -> None:
    began = time.time()
    limit = int(os.environ.get("LIMIT") or 0)
    with gzip.open(PACKED / "corpus.json.gz", "rt", encoding="utf-8") as file:
        rows_of = json.load(file)
    folder = work / "data"
    groups = []
    for name, rows in rows_of.items():
        rows = rows[:limit] if limit else rows
        corpus, split = name.split("/")
        (folder / corpus / "audio").mkdir(parents=True, exist_ok=True)
        with open(folder / corpus / f"{split}.jsonl", "w", encoding="utf-8") as file:
            for row in rows:
                kept = {name: value for name, value in row.items() if name not in ("at", "bytes")}
                file.write(json.dumps(kept, ensure_ascii=False) + "\n")
        pieces = [(row["at"], row["bytes"], str(folder / corpus / row["audio_filepath"])) for row in rows]
        groups += [pieces[i : i + 50] for i in range(0, len(pieces), 50)]
    with tarfile.open(PACKED / "texts.tar.gz") as archive:
        archive.extractall(folder, filter="data")
    if limit:
        for file in (*folder.glob("text/*.txt"), *folder.glob("*/text_only.txt")):
            lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
            file.write_text("".join(lines[: 20 * limit]), encoding="utf-8")
    if (PACKED / "phonemes.tar.xz").exists():
        with tarfile.open(PACKED / "phonemes.tar.xz") as archive:
            archive.extractall(work / "home", filter="data")
    with concurrent.futures.ProcessPoolExecutor(WORKERS) as pool:
        seconds = sum(pool.map(decode, groups))
    (work / "data.done").touch()
    print(f"{seconds / 3600:.2f} h of recordings ready after {time.time() - began:.1f} s")


def decode(pieces: list[tuple[int, int, str]]) -> float:
    import soundfile

    seconds = 0.0
    with open(PACKED / "audio.bin", "rb") as blob:
        for at, size, target in pieces:
            blob.seek(at)
            audio, rate = soundfile.read(io.BytesIO(blob.read(size)), dtype="int16")
            soundfile.write(target, audio, rate, subtype="PCM_16")
            seconds += len(audio) / rate
    return seconds


if __name__ == "__main__":
    {"packages": packages, "data": data}[sys.argv[1]](Path(sys.argv[2]))
