"""Packs into `.gpu/`, at the root of this checkout, what `run.sh` needs on a machine that has a GPU and no network.

    JOINT_ST_DATA=... .venv/bin/python benchmarks/one_gpu/pack.py

What is there already and still fits is kept, so a second call takes seconds. LIMIT in the environment packs so many
recordings of each manifest, and no phonemes, to try the kit itself.

    site.tar.xz      packages for CPython 3.12 on x86-64 Linux that the other machine lacks, unpacked
    fallback/*.whl   packages that it has, in case its versions are too old
    audio.bin        the recordings, 16 kHz mono Ogg Opus, one after the other
    corpus.json.gz   the manifests, and where each recording lies in audio.bin
    texts.tar.gz     sentences without audio
    phonemes.tar.xz  the phonemes of all texts, in the form of joint_st's cache
"""

from __future__ import annotations

import argparse
import concurrent.futures
import gzip
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from pathlib import Path

from pip._vendor.packaging.requirements import Requirement

CHECKOUT = Path(__file__).resolve().parents[2]
OUT = CHECKOUT / ".gpu"

LACKING = (
    "grain",
    "array_record",
    "portpicker",
    "pydantic",
    "pydantic_core",
    "annotated-types",
    "typing-inspection",
    "typing_extensions",
    "soundfile",
    "cffi",
    "pycparser",
    "soxr",
    "RapidFuzz",
    "espeakng-loader",
)
"""Packages that joint_st imports, directly or not, and the other machine lacks."""

FALLBACK = ("flax", "optax", "orbax-checkpoint", "etils", "cloudpickle", "rich", "tqdm", "absl-py", "sentencepiece")
"""Packages that the other machine has; they are carried in case they are missing there, or too old for joint_st."""

THERE = """absl-py aiofiles annotated-doc attrs chex click cloudpickle cycler einops etils flax fsspec humanize
importlib-metadata jax jaxlib markdown-it-py matplotlib mdurl ml-dtypes msgpack numpy opt-einsum optax orbax-checkpoint
packaging pillow prometheus-client protobuf psutil pygments pyparsing python-dateutil pyyaml rich scipy sentencepiece
simplejson six tensorstore toolz torch tqdm treescope typing-extensions uvloop zipp contourpy fonttools
kiwisolver""".split()
"""Further packages that joint_st needs, directly or not, and the other machine has."""

PLATFORMS = (
    "manylinux_2_28_x86_64",
    "manylinux_2_27_x86_64",
    "manylinux_2_24_x86_64",
    "manylinux_2_17_x86_64",
    "manylinux2014_x86_64",
    "manylinux_2_5_x86_64",
    "manylinux1_x86_64",
)

OTHER_MACHINE = {
    "python_version": "3.12",
    "python_full_version": "3.12.3",
    "sys_platform": "linux",
    "platform_system": "Linux",
    "platform_machine": "x86_64",
    "implementation_name": "cpython",
    "platform_python_implementation": "CPython",
    "os_name": "posix",
    "extra": "",
}

CORPORA = {
    "arctic": ("train", "dev", "test"),
    "speechocean762": ("train", "dev"),
    "common_voice_en": ("train", "dev", "test"),
}
TEXTS = ("text/english_novels.txt", "common_voice_en/text_only.txt")
BITS = "16k"
"""Bits for a second of audio; the rate is variable, so that silence takes fewer."""
TOGETHER = 40
"""Recordings that one process of ffmpeg encodes."""
MOST_MIB = 56
LIMIT = int(os.environ.get("LIMIT") or 0) or None


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    data = Path(os.environ.get("JOINT_ST_DATA") or sys.exit("JOINT_ST_DATA has to name the folder of the recordings"))
    if not data.is_dir():
        sys.exit(f"JOINT_ST_DATA is {data}, which is no folder")
    OUT.mkdir(exist_ok=True)
    began = time.time()
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        # Packages wait for the network and for one core; recordings for all.
        packages = pool.submit(pack_packages)
        pack_texts(data)
        pack_audio(data)
        packages.result()
    pack_phonemes(data)
    check(data)
    sizes = {file.name: folder_size(file) for file in sorted(OUT.iterdir())}
    for name, size in sizes.items():
        print(f"{size / 2**20:8.2f} MiB  .gpu/{name}")
    total = sum(sizes.values()) / 2**20
    print(f"{total:8.2f} MiB  in all, of at most {MOST_MIB}; {time.time() - began:.0f} s")
    if total > MOST_MIB:
        sys.exit(f"too large by {total - MOST_MIB:.2f} MiB: lower BITS in pack.py, and pack again")


def folder_size(path: Path) -> int:
    return (
        sum(file.stat().st_size for file in path.rglob("*") if file.is_file()) if path.is_dir() else path.stat().st_size
    )


# Packages


def pack_packages() -> None:
    pinned = versions(CHECKOUT / "constraints.txt")
    wanted = {"site.tar.xz": LACKING, "fallback": FALLBACK}
    stamp = digest(repr((pinned, wanted, PLATFORMS)))
    if known("packages") == stamp and all((OUT / name).exists() for name in wanted):
        return
    with tempfile.TemporaryDirectory() as folder:
        for name, packages in wanted.items():
            download(Path(folder) / name, [f"{package}=={pinned[key(package)]}" for package in packages])
        wheels = [*(Path(folder) / "site.tar.xz").glob("*.whl")]
        fallback = [*(Path(folder) / "fallback").glob("*.whl")]
        check_requirements(wheels, fallback)
        site = Path(folder) / "site"
        for wheel in wheels:
            with zipfile.ZipFile(wheel) as archive:
                if strange := [name for name in archive.namelist() if re.search(r"\.data/(?!scripts/)", name)]:
                    sys.exit(f"{wheel.name}: {strange[0]}: not laid out as it is imported; teach pack.py to")
                archive.extractall(site)
        trim(site)
        with tarfile.open(OUT / "site.tar.xz.part", "w:xz", preset=6) as archive:
            archive.add(site, ".")
        (OUT / "site.tar.xz.part").rename(OUT / "site.tar.xz")
        shutil.rmtree(OUT / "fallback", ignore_errors=True)
        shutil.copytree(Path(folder) / "fallback", OUT / "fallback")
    note("packages", stamp)


def key(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def versions(constraints: Path) -> dict[str, str]:
    """Return the version of each package on Python 3.12."""
    found = {}
    for line in constraints.read_text().splitlines():
        requirement, _, marker = line.partition(";")
        if "==" in requirement and "<" not in marker:
            name, version = requirement.strip().split("==")
            found[key(name)] = version
    return found


def download(folder: Path, requirements: list[str]) -> None:
    platforms = [word for platform in PLATFORMS for word in ("--platform", platform)]
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "-q",
        "--no-deps",
        "--only-binary=:all:",
        "--disable-pip-version-check",
    ]
    command += ["--python-version", "3.12", "--implementation", "cp", *platforms, "-d", str(folder), *requirements]
    for attempt in range(3):
        if subprocess.run(command, stderr=subprocess.PIPE if attempt < 2 else None).returncode == 0:
            return
    sys.exit(f"pip could not download {' '.join(requirements)}")


def check_requirements(wheels: list[Path], fallback: list[Path]) -> None:
    """Exits where a package that is carried asks for one that is neither carried nor there."""
    carried = {key(wheel.name.split("-")[0]) for wheel in (*wheels, *fallback)}
    for wheel in (*wheels, *fallback):
        with zipfile.ZipFile(wheel) as archive:
            name = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
            metadata = archive.read(name).decode()
        for line in metadata.splitlines():
            if not line.startswith("Requires-Dist:"):
                continue
            requirement = Requirement(line.removeprefix("Requires-Dist:").strip())
            if requirement.marker and not requirement.marker.evaluate(OTHER_MACHINE):
                continue
            needed = key(requirement.name)
            if needed not in carried and needed not in THERE:
                sys.exit(f"{wheel.name} needs {needed}, which is neither carried nor there")


def trim(site: Path) -> None:
    """Removes what English does not need of espeak-ng: its library's further names and other dictionaries."""
    loader = site / "espeakng_loader"
    for file in loader.glob("libespeak-ng.so.*"):
        file.unlink()
    for file in (loader / "espeak-ng-data").glob("*_dict"):
        if file.name != "en_dict":
            file.unlink()


# Recordings


def pack_texts(data: Path) -> None:
    with tarfile.open(OUT / "texts.tar.gz", "w:gz", compresslevel=9) as archive:
        for name in TEXTS:
            archive.add(data / name, name)


def manifests(data: Path) -> dict[str, list[dict]]:
    """Return the rows of each manifest, by `corpus/split`."""

    def rows(file: Path) -> list[dict]:
        return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()[:LIMIT]]

    return {
        f"{corpus}/{split}": rows(data / corpus / f"{split}.jsonl")
        for corpus, splits in CORPORA.items()
        for split in splits
    }


def pack_audio(data: Path) -> None:
    rows_of = manifests(data)
    stamp = digest(json.dumps([rows_of, BITS]))
    if known("audio") == stamp and (OUT / "audio.bin").exists() and (OUT / "corpus.json.gz").exists():
        return
    cache = Path(tempfile.gettempdir()) / f"one_gpu_audio_{stamp}"
    cache.mkdir(exist_ok=True)
    files = {}
    for name, rows in rows_of.items():
        for i, row in enumerate(rows):
            source = data / name.split("/")[0] / row["audio_filepath"]
            files[name, i] = source, cache / f"{name.replace('/', '_')}_{i}.ogg"
    todo = [(source, target) for source, target in files.values() if not target.exists()]
    encode = find_encoder()
    groups = [todo[i : i + TOGETHER] for i in range(0, len(todo), TOGETHER)]
    workers = os.cpu_count() or 2
    with concurrent.futures.ProcessPoolExecutor(workers) as pool:
        done = 0
        for count in pool.map(encode, groups):
            done += count
            print(f"\rencoded {done} of {len(todo)} recordings", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    position = 0
    with open(OUT / "audio.bin", "wb") as blob:
        for (name, i), (_, target) in files.items():
            content = target.read_bytes()
            row = rows_of[name][i]
            row["at"], row["bytes"] = position, len(content)
            row["audio_filepath"] = f"audio/{target.stem}.wav"
            position += blob.write(content)
    with gzip.open(OUT / "corpus.json.gz", "wt", encoding="utf-8") as file:
        json.dump(rows_of, file, ensure_ascii=False)
    note("audio", stamp)
    shutil.rmtree(cache)


def find_encoder():
    """Return the encoder: ffmpeg if installed, or that of the package imageio-ffmpeg; else libsndfile, which is
    slow."""
    program = shutil.which("ffmpeg")
    if not program:
        folder = Path(tempfile.gettempdir()) / "one_gpu_ffmpeg"
        command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(folder), "imageio-ffmpeg"]
        if folder.exists() or subprocess.run(command, stderr=subprocess.DEVNULL).returncode == 0:
            program = next((str(path) for path in folder.rglob("ffmpeg-linux*")), None)
    if (
        program
        and "libopus" in subprocess.run([program, "-hide_banner", "-encoders"], capture_output=True, text=True).stdout
    ):
        os.environ["ONE_GPU_FFMPEG"] = program
        return encode_by_ffmpeg
    print("no ffmpeg with libopus: encoding takes several times as long", file=sys.stderr)
    return encode_by_libsndfile


def encode_by_ffmpeg(pairs: list[tuple[Path, Path]]) -> int:
    words = [os.environ["ONE_GPU_FFMPEG"], "-v", "error", "-nostdin", "-y"]
    for source, _ in pairs:
        words += ["-i", str(source)]
    for n, (_, target) in enumerate(pairs):
        words += ["-map", f"{n}:a:0", "-ac", "1", "-ar", "16000", "-c:a", "libopus", "-b:a", BITS, "-vbr", "on"]
        words += ["-application", "voip", "-frame_duration", "60", "-compression_level", "4", "-map_metadata", "-1"]
        words += ["-page_duration", "20000000", "-f", "ogg", f"{target}.part"]
    subprocess.run(words, check=True)
    for _, target in pairs:
        Path(f"{target}.part").rename(target)
    return len(pairs)


def encode_by_libsndfile(pairs: list[tuple[Path, Path]]) -> int:
    import soundfile
    import soxr

    for source, target in pairs:
        audio, rate = soundfile.read(source, dtype="float32", always_2d=True)
        audio = soxr.resample(audio.mean(1), rate, 16_000)
        level = 1 - (float(BITS.removesuffix("k")) * 1000 - 7500) / 250_000  # what libsndfile makes a bit rate of
        soundfile.write(f"{target}.part", audio, 16_000, format="OGG", subtype="OPUS", compression_level=level)
        Path(f"{target}.part").rename(target)
    return len(pairs)


# Phonemes


def pack_phonemes(data: Path) -> None:
    """Has joint_st compute the phonemes of all texts, with a home of its own, and packs its cache of them."""
    if LIMIT:
        (OUT / "phonemes.tar.xz").unlink(missing_ok=True)
        return
    stamp = digest(json.dumps(manifests(data)) + "".join(digest((data / name).read_text()) for name in TEXTS))
    if known("phonemes") == stamp and (OUT / "phonemes.tar.xz").exists():
        return
    with tempfile.TemporaryDirectory() as home:
        environment = {**os.environ, "HOME": home, "JOINT_ST_DATA": str(data.resolve()), "JAX_PLATFORMS": "cpu"}
        environment.pop("TINY", None)
        config = Path(__file__).with_name("recorded.py")
        # It computes the phonemes of all splits and texts on its way.
        done = subprocess.run(
            [sys.executable, "-m", "joint_st", "data", "inspect", str(config)], env=environment, cwd=CHECKOUT
        )
        if done.returncode:
            print("the phonemes could not be computed here; the other machine will", file=sys.stderr)
            (OUT / "phonemes.tar.xz").unlink(missing_ok=True)
            return
        folder = Path(home) / ".cache" / "joint_st" / "phonemes"
        with tarfile.open(OUT / "phonemes.tar.xz", "w:xz", preset=6) as archive:
            archive.add(folder, ".cache/joint_st/phonemes")
    note("phonemes", stamp)


# What was packed: whether it is whole, and whether it still fits


def check(data: Path) -> None:
    """Exits unless every recording of every manifest can be decoded and is as long as its row says."""
    import soundfile

    with gzip.open(OUT / "corpus.json.gz", "rt", encoding="utf-8") as file:
        rows_of = json.load(file)
    blob = (OUT / "audio.bin").read_bytes()
    before = manifests(data)
    worst, seconds = 0.0, 0.0
    for name, rows in rows_of.items():
        if [row["text"] for row in rows] != [row["text"] for row in before[name]]:
            sys.exit(f"{name}: its texts are not those of {data}")
        for row in rows:
            info = soundfile.info(io.BytesIO(blob[row["at"] : row["at"] + row["bytes"]]))
            if info.samplerate != 16_000 or info.channels != 1:
                sys.exit(f"{name}: {row['id']}: {info.samplerate} Hz, {info.channels} channels")
            off = abs(info.frames / 16_000 - row["duration"])
            worst, seconds = max(worst, off), seconds + row["duration"]
            if off > 0.09:
                sys.exit(
                    f"{name}: {row['id']}: {info.frames / 16_000:.3f} s, and {row['duration']:.3f} s in its manifest"
                )
    count, rate = sum(map(len, rows_of.values())), 8e-3 * len(blob) / seconds
    print(f"{count} recordings, {seconds / 3600:.2f} h, {rate:.1f} kbit/s; at most {1e3 * worst:.0f} ms off")


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def known(part: str) -> str | None:
    file = OUT / "packed.json"
    return json.loads(file.read_text()).get(part) if file.exists() else None


def note(part: str, stamp: str) -> None:
    file = OUT / "packed.json"
    found = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps(found | {part: stamp}))


if __name__ == "__main__":
    main()
