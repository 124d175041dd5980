"""The input pipeline holds no corpus in memory: reading a larger one takes no more memory."""

import json
import subprocess
import sys

import numpy as np
import soundfile

READ = """
import json, resource, sys
from joint_st.config import DataConfig, FeaturesConfig, ManifestSource
from joint_st.data.buckets import Buckets
from joint_st.data.normalizers import normalizer
from joint_st.data.loader import batches
from joint_st.data.dataset import open_paired
from joint_st.data.plan import BatchPlan
from joint_st.data.tokenizers import Characters

data = DataConfig(train=(ManifestSource(path=sys.argv[1]),), max_seconds=60)
features = FeaturesConfig()
prepared = open_paired(data.train, data, features, normalizer("basic"), Characters("a"), training=True)
buckets = Buckets.choose(prepared.lengths, prepared.label_lengths, count=1, multiple=640, batch_size=2)
plan = BatchPlan(prepared.lengths, buckets, shuffle=False)
peaks, samples = [], 0
for batch in batches(prepared, plan, read_threads=2, prefetch=2):
    samples += int(batch.arrays["paired"]["audio_lengths"].sum())
    if batch.number in (plan.steps_per_epoch // 3, plan.steps_per_epoch - 1):
        peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
print(json.dumps({"growth": peaks[1] - peaks[0], "read": 2 * samples}))
"""


def test_reading_on_takes_no_more_memory(tmp_path):
    """The last two thirds of 150 MB of audio add only a small part of their size to the peak."""
    soundfile.write(tmp_path / "noise.wav", np.random.default_rng(0).integers(-9000, 9000, 480_000, np.int16), 16_000)
    line = {"audio_filepath": "noise.wav", "duration": 30.0, "text": "a"}
    (tmp_path / "corpus.jsonl").write_text("".join(json.dumps({**line, "id": f"{i}"}) + "\n" for i in range(156)))
    command = [sys.executable, "-c", READ, str(tmp_path / "corpus.jsonl")]
    found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert found["read"] == 156 * 960_000
    assert found["growth"] < 0.15 * found["read"]
