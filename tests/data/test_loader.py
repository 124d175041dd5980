import itertools
import json
import logging
import re
import socket
import subprocess
import sys
import textwrap
import threading

import numpy as np
import pytest
import soundfile

from joint_st.config import DataConfig, FeaturesConfig, Gain, ManifestSource
from joint_st.data.buckets import Buckets
from joint_st.data.dataset import Dataset, open_paired
from joint_st.data.loader import BatchLoader, batches
from joint_st.data.normalizers import normalizer
from joint_st.data.plan import BatchPlan
from joint_st.data.tokenizers import Characters
from joint_st.errors import Stalled, UserError

FEATURES = FeaturesConfig()
CHARACTERS = Characters(" 'abcdefghijklmnopqrstuvwxyz")
COUNT = 23


@pytest.fixture
def manifest(tmp_path):
    """Utterance `i`: 0.2 + 0.04 i seconds of the constant i + 1, and i mod 5 + 1 letters."""
    lines = []
    for i in range(COUNT):
        seconds = 0.2 + 0.04 * i
        soundfile.write(tmp_path / f"u{i}.flac", np.full(round(seconds * 16000), i + 1, np.int16), 16000)
        text = "abcde"[: i % 5 + 1]
        lines.append({"audio_filepath": f"u{i}.flac", "duration": round(seconds, 2), "text": text})
    path = tmp_path / "m.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    return path


def ready(manifest, *, strict=False, shuffle=True, seed=0, **options):
    source = ManifestSource(path=str(manifest))
    data = DataConfig(train=(source,), strict=strict, **options)
    prepared = open_paired(data.train, data, FEATURES, normalizer("english"), CHARACTERS, training=True)
    buckets = Buckets.choose(
        prepared.lengths, prepared.label_lengths, count=2, multiple=FEATURES.samples_per_frame, batch_size=4
    )
    return prepared, BatchPlan(prepared.lengths, buckets, seed=seed, shuffle=shuffle)


def take(prepared, plan, count, **options):
    options = {"read_threads": 3, "prefetch": 2, **options}
    return list(itertools.islice(batches(prepared, plan, **options), count))


def assert_equal(found, expected):
    assert [batch.number for batch in found] == [batch.number for batch in expected]
    for a, b in zip(found, expected):
        assert (a.shape, a.arrays.keys()) == (b.shape, b.arrays.keys())
        for part in a.arrays:
            np.testing.assert_array_equal(a.rows[part], b.rows[part])
            assert_arrays_equal(a.arrays[part], b.arrays[part])


def assert_arrays_equal(a, b):
    assert a.keys() == b.keys()
    for key in a:
        assert a[key].dtype == b[key].dtype
        np.testing.assert_array_equal(a[key], b[key])


def assert_together(whole, slices):
    """What several hosts hold of each batch, one after the other, is the batch of one host."""
    for one, *parts in zip(whole, *slices, strict=True):
        for part, arrays in one.arrays.items():
            joined = {key: np.concatenate([batch.arrays[part][key] for batch in parts]) for key in arrays}
            assert_arrays_equal(joined, arrays)
            np.testing.assert_array_equal(np.concatenate([own.local_rows[part] for own in parts]), one.rows[part])


def test_batches_hold_what_the_plan_says(manifest):
    prepared, plan = ready(manifest)
    for i, batch in enumerate(take(prepared, plan, 2 * plan.steps_per_epoch)):
        bucket, rows = plan[i]
        paired, size = batch.arrays["paired"], plan.buckets.batch_sizes[bucket]
        assert batch.number == i and batch.shape == (bucket, None)
        assert paired["audio"].shape == (size, plan.buckets.bounds[bucket])
        assert paired["audio"].dtype == np.int16
        assert paired["labels"].shape == (size, plan.buckets.label_bounds[bucket])
        assert paired["labels"].dtype == np.int32
        np.testing.assert_array_equal(batch.rows["paired"], rows)
        np.testing.assert_array_equal(paired["valid"], rows >= 0)
        for b, n in enumerate(rows):
            samples, text = (round((0.2 + 0.04 * n) * 16000), "abcde"[: n % 5 + 1]) if n >= 0 else (0, "")
            assert paired["audio_lengths"][b] == samples and paired["label_lengths"][b] == len(text)
            assert (paired["audio"][b, :samples] == n + 1).all() and not paired["audio"][b, samples:].any()
            assert CHARACTERS.decode(paired["labels"][b]) == text
            assert paired["frames_needed"][b] == len(text)


@pytest.mark.parametrize("start", [1, 3, 1000])
def test_starting_later_gives_the_same_batches(manifest, start):
    prepared, plan = ready(manifest)
    whole = [BatchLoader(prepared, plan)(i) for i in range(start, start + 4)]
    assert_equal(take(prepared, plan, 4, start=start), whole)


def test_threads_and_prefetch_change_nothing(manifest):
    prepared, plan = ready(manifest)
    one = take(prepared, plan, 12, read_threads=1, prefetch=1)
    assert_equal(take(prepared, plan, 12, read_threads=8, prefetch=5), one)


@pytest.mark.parametrize("share", [0.4, 1.0])
def test_audio_that_is_kept_is_read_once_and_augmented_anew(manifest, share, monkeypatch):
    """With room for a share of the samples, utterances that fit into it are read once and the others in each epoch."""
    options = {"augmentation": (Gain(low_db=-6, high_db=6),), "read_threads": 1}
    prepared, plan = ready(manifest, **options)
    epochs = 3
    expected = take(prepared, plan, epochs * plan.steps_per_epoch)
    kept, plan = ready(manifest, **options, keep_audio_gib=share * 2 * int(prepared.lengths.sum()) / 2**30)
    read = []
    utterance = Dataset.utterance

    def counted(self, n):
        read.append(n)
        return utterance(self, n)

    monkeypatch.setattr(Dataset, "utterance", counted)
    # Loaded one after the other: of two threads at once, both may read a row that neither has kept yet.
    loader = BatchLoader(kept, plan)
    found = [loader(i) for i in range(epochs * plan.steps_per_epoch)]
    assert_equal(found, expected)
    once = [n for n in range(COUNT) if read.count(n) == 1]
    assert set(read.count(n) for n in range(COUNT)) <= {1, epochs}
    assert sum(int(prepared.lengths[n]) for n in once) <= share * int(prepared.lengths.sum())
    assert len(once) == COUNT if share == 1 else 0 < len(once) < COUNT


@pytest.mark.parametrize("hosts", [2, 4])
def test_hosts_together_hold_the_batch_of_one(manifest, hosts):
    prepared, plan = ready(manifest)
    parts = [take(prepared, plan, 8, parts=((p,), hosts)) for p in range(hosts)]
    assert_together(take(prepared, plan, 8), parts)


def test_a_host_may_hold_parts_that_are_no_neighbours(manifest):
    prepared, plan = ready(manifest)
    one, even, odd = (take(prepared, plan, 8, parts=parts) for parts in (((0,), 1), ((0, 2), 4), ((1, 3), 4)))
    for whole, a, b in zip(one, even, odd):
        for key, rows in whole.arrays["paired"].items():
            quarters = np.split(rows, 4)
            np.testing.assert_array_equal(a.arrays["paired"][key], np.concatenate(quarters[0::2]))
            np.testing.assert_array_equal(b.arrays["paired"][key], np.concatenate(quarters[1::2]))


def test_a_batch_that_does_not_divide_over_the_hosts_is_refused(manifest):
    with pytest.raises(UserError, match="data.batch_size: batches of 4 do not divide into 3 parts"):
        take(*ready(manifest), 1, parts=((0,), 3))


def test_an_evaluation_pass_ends(manifest):
    prepared, plan = ready(manifest, shuffle=False)
    found = take(prepared, plan, None)
    assert len(found) == plan.steps_per_epoch
    seen = np.concatenate([batch.local_rows["paired"][batch.arrays["paired"]["valid"]] for batch in found])
    assert sorted(seen.tolist()) == list(range(COUNT))
    assert_equal(take(prepared, plan, None, start=2), found[2:])
    assert take(prepared, plan, None, start=plan.steps_per_epoch) == []


def test_an_unreadable_file_becomes_an_invalid_row_and_is_counted_once(manifest, caplog):
    prepared, plan = ready(manifest)
    manifest.with_name("u7.flac").write_bytes(b"junk")
    manifest.with_name("u9.flac").unlink()
    rows = []
    with caplog.at_level(logging.WARNING):
        for one in take(prepared, plan, 2 * plan.steps_per_epoch):
            batch, index = one.arrays["paired"], one.rows["paired"]
            for b in np.flatnonzero(np.isin(index, (7, 9))):
                rows.append(index[b])
                assert not batch["valid"][b]
                assert batch["audio_lengths"][b] == batch["label_lengths"][b] == 0
                assert not batch["audio"][b].any() and not batch["labels"][b].any()
            assert batch["valid"].sum() == (index >= 0).sum() - np.isin(index, (7, 9)).sum()
    assert sorted(rows) == [7, 7, 9, 9]
    assert sorted(prepared.unreadable) == [7, 9] and prepared.unreadable[9].endswith("/u9.flac: no such file")
    assert [sum(name in r.getMessage() for r in caplog.records) for name in ("u7.flac", "u9.flac")] == [1, 1]


def test_strict_stops_at_an_unreadable_file(manifest):
    prepared, plan = ready(manifest, strict=True)
    manifest.with_name("u7.flac").write_bytes(b"junk")
    with pytest.raises(UserError, match="u7.flac: "):
        take(prepared, plan, plan.steps_per_epoch)


def test_an_unreadable_file_in_a_row_that_other_hosts_hold_too_stops_all(manifest):
    prepared, plan = ready(manifest)
    manifest.with_name("u7.flac").write_bytes(b"junk")
    with pytest.raises(UserError, match="u7.flac: "):
        take(prepared, plan, plan.steps_per_epoch, shared=True)


def test_a_training_ends_where_nothing_can_be_read_any_more(manifest):
    prepared, plan = ready(manifest)
    taken = batches(prepared, plan, read_threads=1, prefetch=1)
    assert next(taken).arrays["paired"]["valid"].any()
    for file in manifest.parent.glob("*.flac"):
        file.unlink()
    rows = 0
    with pytest.raises(
        Stalled, match=r"could read none of the last \d+ utterances \(.*\.flac: no such file\); look at"
    ):
        for batch in taken:
            rows += np.count_nonzero(batch.rows["paired"] >= 0)
    assert COUNT < rows <= 32 + 3 * 8  # batches that were read ahead have audio
    # An evaluation says itself that nothing could be read.
    one_pass = BatchPlan(prepared.lengths, plan.buckets, shuffle=False)
    assert len(take(prepared, one_pass, None)) == plan.steps_per_epoch


def test_audio_much_longer_than_stated_is_unreadable_and_a_little_longer_is_cut(manifest):
    prepared, plan = ready(manifest)
    bound = plan.buckets.bounds[-1]
    last = COUNT - 1
    for extra, valid in ((800, True), (16000, False)):
        soundfile.write(manifest.with_name(f"u{last}.flac"), np.ones(bound + extra, np.int16), 16000)
        i = next(i for i in range(plan.steps_per_epoch) if last in plan[i].rows)
        batch = BatchLoader(prepared, plan)(i)
        row, batch = batch.rows["paired"].tolist().index(last), batch.arrays["paired"]
        assert batch["valid"][row] == valid and batch["audio_lengths"][row] == (bound if valid else 0)
    assert "where its source says 1.080 s" in prepared.unreadable[last]


def test_whether_audio_is_read_depends_on_no_neighbour(manifest):
    """It does not depend on the bucket either: audio that differs from its stated length is left out, or cut if it is
    only a little longer."""
    lines = [json.loads(line) for line in manifest.read_text().splitlines()]
    lines[10]["duration"] += 0.5
    lines[15]["duration"] -= 0.25
    lines[20]["duration"] -= 0.35
    for some in ([10], [15], [20], range(COUNT)):
        manifest.write_text("\n".join(json.dumps(lines[i]) for i in some))
        prepared, plan = ready(manifest, shuffle=False)
        for batch in take(prepared, plan, None):
            paired = batch.arrays["paired"]
            for n, valid, length in zip(batch.rows["paired"], paired["valid"], paired["audio_lengths"]):
                number = list(some)[n]
                assert n < 0 or valid == (number not in (10, 20))
                assert n < 0 or length == valid * round(16000 * lines[number]["duration"])


def test_a_run_that_fails_between_batches_ends(manifest):
    """Threads that read ahead must not keep the interpreter alive, nor write anything."""
    program = f"""
        import sys
        sys.path.insert(0, {str(manifest.parent)!r})
        sys.path[:0] = {sys.path!r}
        from pathlib import Path
        from tests.data.test_loader import batches, ready
        iterator = batches(*ready(Path({str(manifest)!r})), read_threads=2, prefetch=3)
        next(iterator)
        sys.exit("stopped")
    """
    command = [sys.executable, "-c", textwrap.dedent(program)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (1, "stopped\n")


def test_a_read_that_never_returns_is_told_with_what_is_read(manifest, monkeypatch):
    prepared, plan = ready(manifest)
    load, returns = Dataset.load, threading.Event()

    def stuck(self, n, *draw):
        if n == 5:
            returns.wait()
        return load(self, n, *draw)

    monkeypatch.setattr(Dataset, "load", stuck)
    where = re.escape(f"process 0 on {socket.gethostname()}: ")
    with pytest.raises(Stalled, match=f"^{where}has been reading {prepared.id(5)} for 0.3 s; .* the same command"):
        take(prepared, plan, 12, read_timeout=0.3)
    returns.set()
    assert len(take(prepared, plan, 12, read_timeout=10)) == 12


def test_recorded_speech_makes_batches(recorded):
    for corpus in ("spoken_digits", "common_voice_en"):
        prepared, plan = ready(recorded / corpus / "train.jsonl")
        one = take(prepared, plan, 1)[0]
        batch = one.arrays["paired"]
        for b in np.flatnonzero(batch["valid"]):
            n = one.rows["paired"][b]
            assert batch["audio_lengths"][b] == pytest.approx(prepared.lengths[n], abs=200)
            assert CHARACTERS.decode(batch["labels"][b]) == prepared.text(n)
            assert np.abs(batch["audio"][b].astype(int)).max() > 300
        assert not prepared.unreadable
