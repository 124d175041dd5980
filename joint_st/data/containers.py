"""How much audio a file holds, found by its structure and not by its header.

libsndfile takes the length of a file from its header and reads up to that length. A file that was cut therefore comes
out short, and data that the header does not count are dropped, both without a warning. Formats with this problem are
scanned here, without decoding.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable
from typing import BinaryIO, NamedTuple


class Structure(NamedTuple):
    """What was found in a file; None where the file does not tell."""

    promised: float | None = None
    """Seconds that its header promises."""
    present: float | None = None
    """Seconds of the complete frames that are in it."""
    slack: float = 0.1
    """Seconds by which a decoder may correctly give less than `present`: encoders pad the first and last frames."""
    damage: str = ""
    """Why it is not complete; empty where no damage can be seen."""


def examine(file: BinaryIO, kind: str) -> Structure:
    """Return the structure of an open file, given libsndfile's name of its format; for most formats it tells
    nothing."""
    if kind not in READERS:
        return Structure()
    file.seek(0)
    found = READERS[kind](file)
    if found.promised is not None and found.present is not None and found.present > found.promised + found.slack:
        # The header counts a part only, for instance where files were concatenated.
        return found._replace(promised=None)
    return found


PCM = (1, 3, 6, 7, 0xFFFE)
"""WAV formats whose samples have a fixed size."""
UNKNOWN = 0x7FFF0000
"""Programs that write into a pipe do not know the size yet, and state this many bytes or more."""
MOST_CHUNKS = 10_000


def _wav(file: BinaryIO) -> Structure:
    """Return what a WAV promises, and how much of it and of the WAVs after it is there, since several may have been
    concatenated."""
    size = file.seek(0, 2)
    first, at = _one_wav(file, 0, size)
    present = first.present
    while present is not None and at is not None and _begins_wav(file, at):
        following, at = _one_wav(file, at, size)
        present += following.present or 0.0
    return first._replace(present=present)


def _one_wav(file: BinaryIO, start: int, size: int) -> tuple[Structure, int | None]:
    """Return the structure of the WAV that begins at `start` in a file of `size` bytes, and where it ends; None where that
    is not known."""
    file.seek(start)
    riff = file.read(12)[:4]
    order = ">" if riff == b"RIFX" else "<"
    block, rate, large = 0, 0, None
    for _ in range(MOST_CHUNKS):
        head = file.read(8)
        if len(head) < 8:
            break
        name, length = struct.unpack(f"{order}4sI", head)
        at = file.tell()
        if name == b"data":
            held = size - at
            if large is not None and length == 0xFFFFFFFF:
                length = large
            if not (block and rate):
                break
            seconds = block * rate
            if (length >= UNKNOWN and length > held) or (length == 0 and held >= block):
                return Structure(present=held / seconds), None
            return Structure(length / seconds, min(length, held) / seconds), at + length + length % 2
        body = file.read(min(length, 64))
        if name == b"ds64" and len(body) >= 16:
            (large,) = struct.unpack_from("<Q", body, 8)
        if name == b"fmt " and len(body) >= 16:
            form, _, rate, _, block, _ = struct.unpack_from(f"{order}HHIIHH", body)
            block = block if form in PCM else 0
        file.seek(at + length + length % 2)
    return Structure(), None


def _begins_wav(file: BinaryIO, at: int) -> bool:
    file.seek(at)
    return file.read(4) in (b"RIFF", b"RF64", b"RIFX")


def _aiff(file: BinaryIO) -> Structure:
    """Return the number of frames that the chunk COMM promises; libsndfile knows the rate."""
    head = file.read(1 << 16)
    at = head.find(b"COMM")
    if at < 0 or len(head) < at + 26:
        return Structure()
    (frames,) = struct.unpack_from(">I", head, at + 10)
    exponent, mantissa = struct.unpack_from(">HQ", head, at + 16)  # a float of 80 bits
    rate = mantissa * 2.0 ** ((exponent & 0x7FFF) - 16383 - 63) if exponent & 0x7FFF < 16383 + 64 else 0.0
    return Structure(frames / rate if rate >= 1 else None)


def _au(file: BinaryIO) -> Structure:
    head = file.read(24)
    order = "<" if head[:4] == b"dns." else ">"
    if len(head) < 24:
        return Structure()
    _, size, form, rate, channels = struct.unpack_from(f"{order}IIIII", head, 4)
    block = {1: 1, 2: 1, 3: 2, 4: 3, 5: 4, 6: 4, 7: 8, 27: 1}.get(form, 0) * channels * rate
    return Structure(size / block if block and size != 0xFFFFFFFF else None)


def _nist(file: BinaryIO) -> Structure:
    found = dict(re.findall(rb"(sample_count|sample_rate) -i (\d{1,18})\s", file.read(1024)))
    count, rate = int(found.get(b"sample_count", 0)), int(found.get(b"sample_rate", 0))
    return Structure(count / rate if count and rate else None)


TAIL_W64 = b"\xf3\xac\xd3\x11\x8c\xd1\x00\xc0\x4f\x8e\xdb\x8a"
"""Endings of the names of W64's chunks."""


def _w64(file: BinaryIO) -> Structure:
    head = file.read(1 << 16)
    form, data = head.find(b"fmt " + TAIL_W64), head.find(b"data" + TAIL_W64)
    if min(form, data) < 0 or len(head) < form + 40 or len(head) < data + 24:
        return Structure()
    kind, _, rate, _, block, _ = struct.unpack_from("<HHIIHH", head, form + 24)
    (size,) = struct.unpack_from("<Q", head, data + 16)
    seconds = block * rate if kind in PCM else 0
    return Structure(max(size - 24, 0) / seconds if seconds else None)


def _flac(file: BinaryIO) -> Structure:
    # libsndfile stops at the header's count.
    if file.read().find(b"fLaC\x00\x00\x00\x22", 1) > 0:
        return Structure(present=float("inf"))
    return Structure()


BITRATES = {
    1: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    2: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
"""kbit/s of layer III, of MPEG 1 and of MPEG 2 and 2.5. Layers I and II are not examined."""


class _Frame(NamedTuple):
    """A frame of MPEG audio, layer III."""

    size: int
    samples: int
    seconds: float


def _mpeg_frame(content: bytes, at: int) -> _Frame | None:
    """Return the frame whose header begins at a place; None where there is none."""
    if at + 4 > len(content) or content[at] != 0xFF or content[at + 1] & 0xE6 != 0xE2:
        return None
    version = {3: 1, 2: 2, 0: 2}.get(content[at + 1] >> 3 & 3)
    bitrate, rate, padding = content[at + 2] >> 4, content[at + 2] >> 2 & 3, content[at + 2] >> 1 & 1
    if version is None or bitrate in (0, 15) or rate == 3:
        return None
    hertz = (44100, 48000, 32000)[rate] // {3: 1, 2: 2, 0: 4}[content[at + 1] >> 3 & 3]
    samples = 1152 if version == 1 else 576
    return _Frame(samples // 8 * BITRATES[version][bitrate] * 1000 // hertz + padding, samples, samples / hertz)


def _mp3(file: BinaryIO) -> Structure:
    content = file.read()
    at, present, promised, filled, longest, damage = 0, 0.0, None, 0.0, 0.0, ""
    while at < len(content):
        frame = _mpeg_frame(content, at)
        if frame is None:
            at = _resync(content, at)
            continue
        if at + frame.size > len(content):
            damage = "ends in the middle of a frame: it was cut"
            break
        longest = max(longest, frame.seconds)
        counted = _counted_frames(content[at : at + 256])
        if counted is None:
            present += frame.seconds
        elif not present and counted.frames:
            filled = counted.filled / frame.samples * frame.seconds
            promised = counted.frames * frame.seconds - filled
        at += frame.size
    if not present:
        return Structure(promised)
    # Where there is a count, an incomplete last frame shows as one frame less in the comparison with the count.
    return Structure(promised, present - filled, max(0.1, 4 * longest), damage if promised is None else "")


class _Counted(NamedTuple):
    """What the first frame of a file states about the others."""

    frames: int
    """Number of frames; 0 where it is not stated."""
    filled: int
    """Samples that the encoder has added at both ends, and that a decoder removes."""


def _counted_frames(head: bytes) -> _Counted | None:
    """Read a frame that counts the others (Xing, Info, VBRI); None for another frame."""
    padded = head.ljust(256, b"\0")
    for name in (b"Xing", b"Info"):
        if (found := head.find(name, 4, 46)) > 0:
            flags, count = struct.unpack_from(">II", padded, found + 4)
            # After the fields that the flags announce come the encoder's name and nine more bytes, as LAME writes them.
            at = found + 8 + 4 * (flags & 1) + 2 * (flags & 2) + 25 * (flags & 4) + (flags & 8) // 2 + 21
            added = int.from_bytes(padded[at : at + 3], "big")
            return _Counted(count if flags & 1 else 0, (added >> 12) + (added & 0xFFF))
    if head[36:40] == b"VBRI":
        return _Counted(struct.unpack_from(">I", padded, 50)[0], 0)
    return None


def _resync(content: bytes, at: int) -> int:
    """Return the place of the next frame or tag after bytes that are neither; the end where there is none."""
    if content[at : at + 3] == b"ID3" and at + 10 <= len(content):
        size = 0
        for byte in content[at + 6 : at + 10]:
            size = size << 7 | byte & 0x7F
        return at + 10 + size
    if content[at : at + 3] == b"TAG":
        return at + 128
    while (at := content.find(b"\xff", at + 1)) >= 0:
        frame = _mpeg_frame(content, at)
        # Two frames in a row, because other bytes may look like one.
        if frame and _mpeg_frame(content, at + frame.size):
            return at
    return len(content)


def _ogg(file: BinaryIO) -> Structure:
    content = file.read()
    at, chained, begun = 0, False, False
    while at < len(content):
        if content[at : at + 4] != b"OggS":
            found = content.find(b"OggS", at + 1)
            if found < 0:
                break
            if begun:
                return Structure(damage=f"{found - at} bytes in its midst are no page: it is damaged")
            at = found
            continue
        table = content[at + 27 : at + 27 + content[at + 26]] if at + 27 <= len(content) else b""
        size = 27 + len(table) + sum(table)
        if at + 27 > len(content) or len(table) < content[at + 26] or at + size > len(content):
            return Structure(damage="ends in the middle of a page: it was cut")
        if not _is_whole(content[at : at + size]):
            return Structure(damage="the checksum of a page does not hold: it is damaged")
        first = content[at + 5] & 2
        chained = chained or bool(first and begun)
        begun = begun or not first
        at += size
    return Structure(present=float("inf") if chained else None)


_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def _is_whole(page: bytes) -> bool:
    """Return whether the checksum of an Ogg page holds (RFC 3533, section 6)."""
    # It has zlib's polynomial, with the bits of each byte and of the result the other way round, and neither inverted.
    zeroed = page[:22] + bytes(4) + page[26:]
    mirrored = ~zlib.crc32(zeroed.translate(_REVERSED), 0xFFFFFFFF) & 0xFFFFFFFF
    return int(f"{mirrored:032b}"[::-1], 2) == int.from_bytes(page[22:26], "little")


READERS: dict[str, Callable[[BinaryIO], Structure]] = {
    **dict.fromkeys(("WAV", "WAVEX", "RF64"), _wav),
    "AIFF": _aiff,
    "AU": _au,
    "NIST": _nist,
    "W64": _w64,
    "FLAC": _flac,
    "MP3": _mp3,
    "OGG": _ogg,
}
"""Functions that scan files, by libsndfile's names of their formats."""

STARTS = (
    (0, b"RIFF", "WAV"),
    (0, b"RIFX", "WAV"),
    (0, b"RF64", "RF64"),
    (0, b"riff\x2e\x91\xcf\x11", "W64"),
    (0, b"FORM", "AIFF"),
    (0, b".snd", "AU"),
    (0, b"NIST_1A", "NIST"),
    (0, b"caff", "CAF"),
    (0, b"fLaC", "FLAC"),
    (0, b"OggS", "OGG"),
    (0, b"ID3", "MP3"),
    (4, b"ftyp", "MP4"),
    (0, b"\x1a\x45\xdf\xa3", "Matroska"),
    (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "ASF"),
    (0, b"#!AMR", "AMR"),
)
"""First bytes of formats: offset, bytes, and the format's name (libsndfile's where it has one)."""

HEAD = 4096
"""Number of bytes at the beginning of a file that tell its format."""


def format_of(head: bytes) -> str:
    """Return the format of the file that begins with `head` (its first `HEAD` bytes); empty where it has none of
    them."""
    for at, magic, name in STARTS:
        if head[at : at + len(magic)] == magic:
            return name
    # Samples may look like the header of one frame, but hardly like a frame that another one follows.
    frame = _mpeg_frame(head, 0)
    return "MP3" if frame and _mpeg_frame(head, frame.size) else ""
