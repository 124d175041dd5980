"""Mutations of valid inputs that keep their structure: numbers in headers, tokens in lines, values in JSON."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Sequence
from random import Random
from typing import Any, NamedTuple


class Field(NamedTuple):
    """A number in a header."""

    at: int
    """Byte at which it begins."""
    size: int
    """1, 2, 3, 4 or 8 bytes."""
    big: bool = False
    """Whether its most significant byte comes first."""


def numbers(chance: Random, size: int, now: int) -> int:
    """Return a value for a field of a number of bytes: bounds, neighbours, powers of two, or any."""
    top = (1 << 8 * size) - 1
    near = (0, 1, 2, top, top - 1, top >> 1, (top >> 1) + 1, now + 1, now - 1, now * 2, now // 2, now ^ top)
    kind = chance.random()
    if kind < 0.6:
        value = chance.choice(near)
    elif kind < 0.8:
        value = 1 << chance.randrange(8 * size)
    else:
        value = chance.randrange(top + 1)
    return value & top


def set_fields(chance: Random, content: bytes, fields: Sequence[Field]) -> bytes:
    """Return the content with other values in one to three of its fields."""
    changed = bytearray(content)
    for field in chance.sample(list(fields), min(len(fields), chance.choice((1, 1, 1, 2, 3)))):
        order = "big" if field.big else "little"
        now = int.from_bytes(changed[field.at : field.at + field.size], order)
        if field.at + field.size <= len(changed):
            changed[field.at : field.at + field.size] = numbers(chance, field.size, now).to_bytes(field.size, order)
    return bytes(changed)


def damage(chance: Random, content: bytes, header: int = 256) -> bytes:
    """Return the content cut, grown, flipped, repeated or filled at one place, mostly in its first bytes."""
    if not content:
        return bytes(chance.randrange(256) for _ in range(chance.randrange(16)))
    at = chance.randrange(min(header, len(content)) if chance.random() < 0.8 else len(content))
    length = min(chance.choice((1, 1, 2, 4, 8, 64, 1000)), len(content) - at)
    part = content[at : at + length]
    match chance.randrange(8):
        case 0:
            return content[:at]
        case 1:
            return content[:at] + content[at + length :]
        case 2:
            return content[:at] + part * chance.choice((2, 3, 50)) + content[at + length :]
        case 3:
            return content[:at] + bytes([content[at] ^ 1 << chance.randrange(8)]) + content[at + 1 :]
        case 4:
            return content[:at] + bytes(length) + content[at + length :]
        case 5:
            return content[:at] + chance.randbytes(length) + content[at + length :]
        case 6:
            return content[:at] + chance.randbytes(length) + content[at:]
        case _:
            return content[:at] + b"\xff" * length + content[at + length :]


TOKENS = (
    "nan -nan inf -inf 1e400 -1e400 1e-400 0 -0 1 -1 0.5 -99 -98.5 99 2147483648 9223372036854775808 0x10 1_000 1e 1. .5 "
    "<s> </s> <unk> <UNK> \\data\\ \\end\\ \\1-grams: \\2-grams: \\9-grams: \\-1-grams: ngram ngram= ngram 1= 1=1 0=0 = \u2581 "
    '\u2028 \u00a0 \ufeff a ab the \x00 \x0b \x1c \x85 \U0001f600 ; ;; % %s {} "'.split(" ")
)
"""Tokens that mean something to one of the readers, or are easily misread."""


def token(chance: Random) -> str:
    """Return one of `TOKENS`, a number, or many digits."""
    kind = chance.random()
    if kind < 0.7:
        return chance.choice(TOKENS)
    if kind < 0.9:
        return repr(chance.uniform(-100, 100))
    return chance.choice("0123456789x-") * chance.choice((5, 50, 5000))


def lines(chance: Random, content: bytes) -> bytes:
    """Return a text with one to three of its lines or tokens changed; it may not be UTF-8 any more."""
    rows = content.split(b"\n")
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        at = chance.randrange(len(rows))
        words = rows[at].split(b" ") if chance.random() < 0.5 else rows[at].replace(b"\t", b" \t ").split(b" ")
        word = chance.randrange(len(words))
        match chance.randrange(12):
            case 0:
                del rows[at]
            case 1:
                rows.insert(at, rows[chance.randrange(len(rows))])
            case 2:
                other = chance.randrange(len(rows))
                rows[at], rows[other] = rows[other], rows[at]
            case 3:
                rows = rows[: at + 1]
            case 4 | 5 | 6 | 7:
                words[word] = token(chance).encode("utf-8", "surrogatepass")
                rows[at] = b" ".join(words)
            case 8:
                del words[word]
                rows[at] = b" ".join(words)
            case 9:
                rows[at] = b" ".join([*words[:word], token(chance).encode(), *words[word:]])
            case 10:
                rows[at] = damage(chance, rows[at])
            case _:
                rows[at] = rows[at].replace(b"\t", chance.choice((b" ", b"", b"\t\t", b"\r\t")))
        rows = rows or [b""]
    return b"\n".join(rows)


VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2, 1e308, -1e308, 1e-320, 0.1, 2**31, 2**63, 2**64, -(2**63), 10**400, 48000, 3600000,
    "", " ", "a", "0", "1e5", "nan", "\x00", "\ud800", "\u2028", "../../etc/passwd", "/etc/passwd", "/dev/zero", ".", "..", "~",
    "$HOME", "${}", "$", "file:///etc/passwd", "gs://bucket/x", "a" * 300, "<script>", "%s%n", "{0}", [], [[]], [None], {}, {"kind": "x"},
    {"a": {}}, [0.1, 0.2], [1, "a"], float("nan"), float("inf"), -float("inf"),
)  # fmt: skip
"""Values of every type that stand in place of others."""


def value(chance: Random, now: Any) -> Any:
    """Another value for one in a tree of JSON: of another type, a neighbour, or a repetition."""
    kind = chance.random()
    if kind < 0.7:
        return chance.choice(VALUES)
    if isinstance(now, bool) or now is None:
        return chance.choice(VALUES)
    if isinstance(now, (int, float)):
        return chance.choice((-now, now + 1, now - 1, now * 2, now * 1000, now / 1000, str(now), [now]))
    if isinstance(now, str):
        return chance.choice(
            (now * 2, now[1:], now.upper(), f" {now}", f"{now}\n", f"../{now}", f"/{now}", [now], {now: now})
        )
    if isinstance(now, list):
        return chance.choice(
            (now * 2, now[1:], now[::-1], dict.fromkeys(map(str, now)), now + [None], now + ["a"], str(now))
        )
    return chance.choice((list(now.items()), list(now), list(now.values()), {**now, "zzz": 1}, str(now)))


KEYS = (
    "kind",
    "path",
    "id",
    "text",
    "duration",
    "offset",
    "channel",
    "lang",
    "language",
    "zzz",
    "",
    "__class__",
    "format",
    "\ud800",
)
"""Keys that are put into objects."""


def _places(tree: Any, path: tuple = ()) -> list[tuple]:
    """Paths of all values in a tree."""
    found = [path]
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, inner in items:
        found += _places(inner, (*path, key))
    return found


def tree(chance: Random, root: Any) -> Any:
    """Return a tree of JSON with a value, a key or an item changed, added, removed or nested."""
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        places = _places(root)
        path = chance.choice(places)
        if not path:
            if chance.random() < 0.1:
                return value(chance, root)
            continue
        node = root
        for key in path[:-1]:
            node = node[key]
        key = path[-1]
        match chance.randrange(8):
            case 0:
                del node[key]
            case 1 if isinstance(node, dict):
                node[chance.choice(KEYS)] = node.pop(key)
            case 2 if isinstance(node, dict):
                node[chance.choice(KEYS)] = chance.choice(VALUES)
            case 2 if isinstance(node, list):
                node.insert(key, chance.choice(VALUES))
            case 3:
                node[key] = [node[key]] if chance.random() < 0.5 else {"a": node[key]}
            case _:
                node[key] = value(chance, node[key])
    return root


RAW: tuple[Callable[[Random, bytes], bytes], ...] = (
    lambda chance, text: damage(chance, text, len(text)),
    lambda chance, text: text[: chance.randrange(len(text) + 1)],
    lambda chance, text: b"\xef\xbb\xbf" + text,
    lambda chance, text: text.decode("utf-8", "replace").encode(chance.choice(("utf-16", "utf-16-le", "utf-32"))),
    lambda chance, text: text.replace(b":", b": " + b"[" * chance.choice((10, 1000, 100_000)), 1),
    lambda chance, text: text.replace(b":", b": " + b'{"a":' * chance.choice((10, 1000, 100_000)), 1),
    lambda chance, text: text.replace(b'"', b'"\\ud800', chance.randrange(1, 9)),
    lambda chance, text: text.replace(b"0", b"1" * chance.choice((5, 400, 5000)), 1),
    lambda chance, text: text.replace(b"0", chance.choice((b"NaN", b"Infinity", b"1e999", b"-0", b"00", b"0x0")), 1),
    lambda chance, text: text.replace(b",", b"," * 2, 1),
    lambda chance, text: text.replace(b'"', b"'"),
    lambda chance, text: text + text,
    lambda chance, text: b"",
)
"""Changes of JSON as text."""


def json_text(chance: Random, content: bytes) -> bytes:
    """JSON with a changed tree, or changed as text; mostly it can be read."""
    if chance.random() < 0.2:
        return chance.choice(RAW)(chance, content)
    try:
        changed = json.dumps(tree(chance, json.loads(content)), ensure_ascii=chance.random() < 0.5)
    except (ValueError, OverflowError, RecursionError):  # it was changed before
        return damage(chance, content, len(content))
    return changed.encode("utf-8", "surrogatepass")


def json_lines(chance: Random, content: bytes) -> bytes:
    """Lines of JSON of which some are changed, repeated, removed or put elsewhere."""
    rows = content.splitlines()
    for _ in range(chance.choice((1, 1, 2))):
        at = chance.randrange(len(rows))
        match chance.randrange(10):
            case 0:
                rows.insert(at, rows[chance.randrange(len(rows))])
            case 1:
                del rows[at]
            case _:
                rows[at] = json_text(chance, rows[at])
        rows = rows or [b""]
    return b"\n".join(rows) + b"\n" * (chance.random() < 0.9)


# Ogg: each page has a checksum, without which a change shows only as a broken page.


def _table() -> list[int]:
    entries = []
    for byte in range(256):
        register = byte << 24
        for _ in range(8):
            register = (register << 1) ^ (0x04C11DB7 if register & 0x80000000 else 0)
        entries.append(register & 0xFFFFFFFF)
    return entries


CRC = _table()


def ogg_pages(content: bytes) -> list[tuple[int, int]]:
    """Beginning and end of each page."""
    pages, at = [], 0
    while content[at : at + 4] == b"OggS" and at + 27 <= len(content):
        segments = content[at + 26]
        end = at + 27 + segments + sum(content[at + 27 : at + 27 + segments])
        pages.append((at, end))
        at = end
    return pages


def ogg_checksums(content: bytes) -> bytes:
    """Return the content with the right checksum in each page."""
    whole = bytearray(content)
    for start, end in ogg_pages(content):
        whole[start + 22 : start + 26] = bytes(4)
        register = 0
        for byte in whole[start:end]:
            register = ((register << 8) & 0xFFFFFFFF) ^ CRC[(register >> 24) ^ byte]
        struct.pack_into("<I", whole, start + 22, register)
    return bytes(whole)
