"""Does what consistency gains carry over to sentences of another kind? Evaluates the runs of a sweep on a domain that none was
trained on.

    joint-st sweep configs/sweeps/consistency.py --workers 2 --only without layer_0 layer_0_weight_0.03
    python -m benchmarks.other_domain configs/sweeps/consistency.py

400 of the sentences of CMU Arctic (novels, from the transcripts of `$JOINT_ST_DATA/arctic`) are spoken by espeak-ng in the
speaker variants of `spoken_grammar`'s test split, which no run has heard: sentences are new, voices are not. Most of their
words are in neither the audio nor the text of the training. `benchmarks/results/other_domain.json` has the rows of `joint-st
sweep --collect --json`: errors relative to the sweep's references, over all seeds of both. The speech and the evaluations
are kept in a folder (`--work`).
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

from benchmarks import machine
from joint_st.config import ManifestSource
from joint_st.data.corpora.spoken_grammar.voices import VARIANTS
from joint_st.data.synthesis.corpus import synthesize
from joint_st.errors import UserError
from joint_st.evaluation.evaluate import evaluate_run
from joint_st.evaluation.report import write_rows
from joint_st.sweeps import load_sweep
from joint_st.sweeps.collect import read_evaluation, rows_of

SPLIT, LANGUAGE, MOST = "arctic_sentences", "en-us", 400
OUT = machine.RESULTS / "other_domain.json"


def sentences(folder: Path) -> list[str]:
    """Return the different transcripts of the corpus in a folder, in alphabetical order."""
    texts = set()
    for split in ("train", "dev", "test"):
        for line in (folder / f"{split}.jsonl").read_text(encoding="utf-8").splitlines():
            texts.add(json.loads(line)["text"])
    return sorted(texts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sweep", type=Path, help="file of the sweep")
    parser.add_argument("--workdir", type=Path, help="directory of its runs, if not runs/sweeps/NAME")
    parser.add_argument("--arms", nargs="+", metavar="ARM", help="evaluate these alone; all by default")
    parser.add_argument("--work", type=Path, default=Path("runs/other_domain"), help="folder of the speech")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    try:
        if not (data := os.environ.get("JOINT_ST_DATA")):
            raise UserError("JOINT_ST_DATA: not set; name the folder of recorded speech")
        sweep = load_sweep(options.sweep, options.workdir)
        text = options.work / "sentences.txt"
        text.write_text("\n".join(sentences(Path(data) / "arctic")) + "\n", encoding="utf-8")
        spoken = synthesize(
            f"text:{text}", options.work / "speech", language=LANGUAGE, most=MOST, variants=VARIANTS["test"]
        )
        print(spoken)
        found = []
        for job in sweep.jobs:
            if not job.directory.checkpoint_steps or (options.arms and job.run.arm not in options.arms):
                continue
            table = options.work / f"{job.run.arm}.seed_{job.run.seed}.json"
            source = ManifestSource(path=str(spoken.manifest))
            files = {"json_file": table, "jsonl_file": table.with_suffix(".jsonl")}
            evaluate_run(job.directory.root, data={SPLIT: source}, **files)
            found.append(read_evaluation(job, table))
        if not found:
            raise UserError(f"{sweep.directory}: has no trained run of these arms; train some first")
        rows = rows_of(found, references=sweep.references)
    except UserError as error:
        raise SystemExit(str(error)) from error
    made_by = {"device": machine.device(), "commit": machine.commit()}
    write_rows([row | made_by for row in rows], OUT)
    print(f"{OUT}: {len(rows)} rows of {len(found)} runs")


if __name__ == "__main__":
    main()
