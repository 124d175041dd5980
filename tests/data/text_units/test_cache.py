"""The cache of phonemes, with a usable and with an unusable file."""

import logging
import sqlite3
from concurrent.futures import ThreadPoolExecutor

import pytest

from joint_st.data.text_units import cache
from joint_st.data.text_units.cache import PhonemeCache

ROWS = [("en", f"text {i}", f"phonemes {i}") for i in range(50)]


def test_rows_outlive_the_cache_and_are_told_apart_by_voice(tmp_path):
    PhonemeCache(tmp_path / "c.sqlite").put(ROWS)
    found = PhonemeCache(tmp_path / "c.sqlite")
    assert [found.get(voice, text) for voice, text, _ in ROWS] == [phonemes for *_, phonemes in ROWS]
    assert found.get("de", "text 1") is None and found.get("en", "text 99") is None


def test_several_caches_and_threads_write_one_file(tmp_path):
    caches = [PhonemeCache(tmp_path / "c.sqlite") for _ in range(2)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: caches[i % 2].put([ROWS[i]]), range(50)))
        found = list(pool.map(lambda i: caches[i % 2].get(*ROWS[i - 1][:2]), range(50)))
    assert found == [ROWS[i - 1][2] for i in range(50)]


def junk(path):
    path.write_bytes(b"junk" * 999)


def folder(path):
    path.mkdir()


def locked(path):
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    return holder


@pytest.mark.parametrize("spoil", [junk, folder, locked])
def test_memory_stands_in_for_a_file_that_cannot_be_used(tmp_path, monkeypatch, caplog, spoil):
    monkeypatch.setattr(cache, "WAIT_SECONDS", 0.05)
    path = tmp_path / "c.sqlite"
    holder = spoil(path)
    with caplog.at_level(logging.WARNING):
        found = PhonemeCache(path)
        found.put(ROWS)
        assert found.get(*ROWS[3][:2]) == ROWS[3][2] and found.get("en", "other") is None
    assert [str(path) in record.getMessage() for record in caplog.records] == [True]
    if holder:
        holder.close()


def test_a_file_that_fails_later_loses_nothing_new(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(cache, "WAIT_SECONDS", 0.05)
    found = PhonemeCache(tmp_path / "c.sqlite")
    found.put(ROWS[:5])
    holder = locked(tmp_path / "c.sqlite")
    found.put(ROWS[5:])
    assert found.get(*ROWS[7][:2]) == ROWS[7][2]
    assert found.get(*ROWS[0][:2]) is None  # will be computed again
    holder.close()
