"""`joint-st score`: numbers against jiwer and against SciPy's bootstrap, formats against each other, mistakes in a
line."""

from __future__ import annotations

import json
import subprocess
import sys

import jiwer
import numpy as np
import pytest
import scipy.stats

from joint_st.cli import main
from joint_st.config import ManifestSource
from joint_st.data.normalizers import normalizer
from joint_st.data.sources import open_source
from joint_st.errors import UserError
from joint_st.evaluation.bootstrap import paired_difference
from joint_st.evaluation.scoring import score_files


def texts(seed=0, utterances=60):
    """References by id, as people write them, and the hypotheses of a good and of a bad system."""
    rng = np.random.default_rng(seed)
    references = {
        f"u{i}": " ".join(rng.choice(["We", "anna,", "said", "20", "café."], rng.integers(1, 8)))
        for i in range(utterances)
    }

    def system(rate):
        heard = {}
        for id, text in references.items():
            words = []
            for word in text.split():
                draw = rng.random()
                words += ["x"] if draw < rate else [] if draw < 1.5 * rate else [word.lower()]
                words += ["more"] if rng.random() < rate / 3 else []
            heard[id] = " ".join(words)
        return heard

    return references, system(0.1), system(0.3)


def jsonl(path, rows, key="text", id_key="id"):
    path.write_text("".join(json.dumps({id_key: id, key: text}) + "\n" for id, text in rows.items()))
    return path


def trn(path, rows):
    path.write_text(";; a comment\n" + "".join(f"{text} ({id})\n" for id, text in rows.items()))
    return path


def kaldi(path, rows):
    path.write_text("".join(f"{id} {text}".strip() + "\n" for id, text in rows.items()))
    return path


def ctm(path, rows):
    """Write words a second apart, with the file's lines in random order."""
    lines = [f"{id} 1 {k}.5 0.4 {w} 0.9\n" for id, text in rows.items() for k, w in enumerate(text.split())]
    np.random.default_rng(0).shuffle(lines)
    path.write_text("".join(lines))
    return path


def run(*arguments, tmp_path):
    table = tmp_path / "table.json"
    assert main(["score", *map(str, arguments), "--json", str(table)]) == 0
    return json.loads(table.read_text())


@pytest.mark.parametrize("name", [None, "basic v1", "english", "none"])
def test_rates_are_those_of_jiwer_and_differences_those_of_the_bootstrap(name, tmp_path, capsys):
    references, good, bad = texts()
    ref = jsonl(tmp_path / "ref.jsonl", references)
    files = [jsonl(tmp_path / "good.jsonl", good, "pred_text"), trn(tmp_path / "bad.trn", bad)]
    found = run(ref, *files, *(["--normalizer", name] if name else []), tmp_path=tmp_path)
    normalize = normalizer(name or "basic")
    said = [normalize(text) for text in references.values()]
    counted = []
    for row, heard, file in zip(found["systems"], (good, bad), files):
        heard = [normalize(text) for text in heard.values()]
        words, characters = jiwer.process_words(said, heard), jiwer.process_characters(said, heard)
        assert (row["system"], row["normalizer"]) == (str(file), str(normalize))
        assert row["wer"] == pytest.approx(words.wer) and row["cer"] == pytest.approx(characters.cer)
        errors = [row[key] for key in ("insertions", "deletions", "substitutions")]
        assert errors == [words.insertions, words.deletions, words.substitutions]
        assert (row["utterances"], row["missing"], row["others"]) == (60, 0, 0)
        each = [jiwer.process_words(*pair) for pair in zip(said, heard)]
        counted.append(np.array([one.insertions + one.deletions + one.substitutions for one in each]))
        lengths = np.array([len(text.split()) for text in said])
        interval = scipy.stats.bootstrap(
            (counted[-1], lengths),
            lambda e, w, axis=-1: e.sum(axis=axis) / w.sum(axis=axis),
            paired=True,
            vectorized=True,
            method="percentile",
            n_resamples=4000,
            rng=np.random.default_rng(1),
        ).confidence_interval
        assert (row["wer_low"], row["wer_high"]) == pytest.approx(tuple(interval), abs=0.01)
    [pair] = found["differences"]
    expected = paired_difference(*counted, lengths, 10_000)
    assert pair["difference"] == pytest.approx(found["systems"][0]["wer"] - found["systems"][1]["wer"])
    assert (pair["low"], pair["high"], pair["p_value"]) == pytest.approx(expected[1:3] + expected[4:])
    assert (pair["verdict"], pair["system_b"], pair["metric"]) == ("a_lower", str(files[1]), "wer")
    printed = " ".join(capsys.readouterr().out.split())  # lines break where the names of files are long
    assert str(normalize) in printed and "key pred_text" in printed and "paired bootstrap" in printed


def chinese(rate: float, seed: int) -> dict[str, str]:
    """60 sentences of 10 characters, of each of which a share is misheard."""
    rng = np.random.default_rng(seed)
    heard = {}
    for n in range(60):
        wrong = rng.permutation(10) < 10 * rate
        heard[f"u{n}"] = "".join("\u9519" if one else chr(0x4E00 + (n + k) % 50) for k, one in enumerate(wrong))
    return heard


def test_texts_without_spaces_are_compared_by_their_characters(tmp_path, capsys):
    """Each sentence is one word, which both systems have wrong."""
    ref = jsonl(tmp_path / "ref.jsonl", chinese(0, 0))
    files = [jsonl(tmp_path / f"{n}.jsonl", chinese(rate, n), "text") for n, rate in enumerate((0.1, 0.5), 1)]
    [row] = run(ref, *files, tmp_path=tmp_path)["differences"]
    assert (row["metric"], row["wer_a"], row["wer_b"]) == ("cer", 1, 1)
    assert (row["cer_a"], row["cer_b"], row["difference"]) == pytest.approx((0.1, 0.5, -0.4))
    assert row["verdict"] == "a_lower" and row["p_value"] < 0.001 and row["words"] == 60
    assert "paired bootstrap of CER" in (said := capsys.readouterr().out)
    assert said.splitlines()[-2].split()[:5] == ["A", "B", "10.0", "50.0", "-40.0"]


def test_every_format_gives_the_same_and_three_systems_three_pairs(tmp_path):
    references, heard, other = texts(1)
    heard = {id: text or "x" for id, text in heard.items()}  # a CTM cannot say that nothing was heard
    ref = jsonl(tmp_path / "ref.jsonl", references)
    files = [
        jsonl(tmp_path / "a.jsonl", heard, "hypothesis"),
        trn(tmp_path / "b.txt", heard),
        ctm(tmp_path / "c.ctm", heard),
    ]
    found = run(ref, *files, tmp_path=tmp_path)
    rows = [{k: v for k, v in row.items() if k != "system"} for row in found["systems"]]
    assert rows[0] == rows[1] == rows[2] and rows[0]["wer"] > 0
    names = [(row["system_a"], row["system_b"]) for row in found["differences"]]
    assert names == [(str(files[i]), str(files[k])) for i, k in ((0, 1), (0, 2), (1, 2))]
    assert all((row["difference"], row["verdict"]) == (0, "undecided") for row in found["differences"])
    for form, write in (("kaldi", kaldi), ("trn", trn)):
        reference, file = write(tmp_path / f"ref.{form}", references), write(tmp_path / f"hyp.{form}", heard)
        options = ["--ref-format", form, "--format", form] if form == "kaldi" else []
        assert run(reference, file, *options, tmp_path=tmp_path)["systems"][0]["wer"] == rows[0]["wer"]


def test_one_utterance_has_no_interval_and_decides_nothing(tmp_path, capsys):
    ref = jsonl(tmp_path / "ref.jsonl", {"u": " ".join(["so"] * 100)})
    files = [jsonl(tmp_path / f"{n}.jsonl", {"u": " ".join(["so"] * n)}) for n in (90, 89)]
    found = run(ref, *files, tmp_path=tmp_path)
    [pair] = found["differences"]
    assert [pair[name] for name in ("low", "high", "p_value", "verdict")] == [None, None, 1, "undecided"]
    assert pair["difference"] == pytest.approx(-0.01)
    assert [row["wer"] for row in found["systems"]] == pytest.approx([0.1, 0.11])
    assert [row[f"wer_{end}"] for row in found["systems"] for end in ("low", "high")] == [None] * 4
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["A", "10.0", "-", "10.0", "-"] == next(line[:5] for line in lines if line[:2] == ["A", "10.0"])
    assert ["A", "B", "10.0", "11.0", "-1.0", "-", "1.000", "-"] in lines
    assert "fewer than 20 utterances are too few" in " ".join(map(" ".join, lines))


def test_ids_of_manifests_and_other_keys(tmp_path):
    """NeMo's files have no ids: the path of the audio with the offset serves as one; `text` is the reference."""
    lines = [
        {"audio_filepath": str(tmp_path / "wavs/a.wav"), "text": "one two", "pred_text": "one too"},
        {"audio_filepath": "wavs/b.flac", "offset": 1.5, "text": "three", "pred_text": "three"},
    ]
    ref, nemo = tmp_path / "ref.jsonl", tmp_path / "out" / "nemo.json"
    nemo.parent.mkdir()
    ref.write_text("".join(json.dumps({k: v for k, v in line.items() if k != "pred_text"}) + "\n" for line in lines))
    nemo.write_text("\ufeff" + "\n".join(json.dumps(line) for line in lines))
    mine = jsonl(tmp_path / "mine.jsonl", {"wavs/a": "one two", "wavs/b@1.5": ""})
    found = run(ref, nemo, mine, tmp_path=tmp_path)
    assert [row["substitutions"] for row in found["systems"]] == [1, 0]
    assert [row["deletions"] for row in found["systems"]] == [0, 1]
    odd = jsonl(tmp_path / "odd.jsonl", {"wavs/a": "one", "wavs/b@1.5": "three"}, "said", "utt")
    numbered = jsonl(tmp_path / "ref2.jsonl", {"wavs/a": "one", "wavs/b@1.5": "three"}, "truth", "utt")
    options = ["--hyp-key", "said", "--ref-key", "truth", "--id-key", "utt"]
    assert run(numbered, odd, *options, tmp_path=tmp_path)["systems"][0]["wer"] == 0


def manifest(path, rows):
    """Write lines with the path of the audio alone."""
    return jsonl(path, rows, id_key="audio_filepath")


def test_channels_and_parts_of_one_file_are_told_apart(tmp_path):
    """Lines are named as an evaluation of the manifest names them."""
    lines = [
        {"audio_filepath": "call.wav", "channel": 0, "duration": 2, "text": "one"},
        {"audio_filepath": "call.wav", "channel_selector": [0, 1], "duration": 2, "text": "two"},
        {"audio_filepath": "a.wav", "offset": 1, "duration": 2, "text": "three"},
        {"audio_filepath": "a.wav", "offset": 1.0, "duration": 3, "text": "four"},
        {"audio_filepath": "b.wav", "offset": 10, "text": "five"},
    ]
    ref, hyp, theirs = (tmp_path / name for name in ("ref.jsonl", "hyp.jsonl", "theirs.jsonl"))
    ref.write_text("".join(json.dumps(line) + "\n" for line in lines))
    names = ["call#0", "call#0,1", "a.wav@1+2", "a.wav@1+3", "b@10"]
    corpus = open_source(ManifestSource(path=str(ref)))
    taken = [corpus.entry(n) for n in range(5)]
    assert [one.full_id if name.startswith("a.wav") else one.id for one, name in zip(taken, names)] == names
    hyp.write_text("".join(json.dumps({"id": id, "text": line["text"]}) + "\n" for id, line in zip(names, lines)))
    as_floats = [line | {"pred_text": line["text"]} | {"offset": float(line.get("offset", 0))} for line in lines]
    as_floats[-1]["offset"] = "10.0"
    as_floats[0]["duration"] = 10**400  # in no id here, and no number of seconds
    theirs.write_text("".join(json.dumps(line) + "\n" for line in as_floats))
    found = score_files(ref, [hyp, theirs])
    assert [(row["wer"], row["utterances"]) for row in found["systems"]] == [(0, 5), (0, 5)]


def test_a_line_without_its_key_is_no_reason_to_score_the_reference(tmp_path):
    """NeMo's `text` is the reference, and the first utterance has failed."""
    ref, hyp = tmp_path / "ref.jsonl", tmp_path / "hyp.jsonl"
    ref.write_text('{"id": "a", "text": "one two"}\n{"id": "b", "text": "three four"}\n')
    hyp.write_text('{"id": "a", "text": "one two"}\n{"id": "b", "text": "three four", "pred_text": "nonsense"}\n')
    with pytest.raises(UserError, match=f"^{hyp}:1: pred_text is missing; it must be a text"):
        score_files(ref, [hyp])


def test_what_transcribe_writes_is_matched_by_the_audio(tmp_path, capsys):
    """Its id is the name of the file, a manifest's may be the path of the audio."""
    said = {"wavs/a.wav": "one two", "wavs/b.c.wav": "three", "wavs/d.flac": "four"}
    heard = {"wavs/a.wav": "one too", "wavs/b.c.wav": "three", "wavs/d.flac": ""}
    ref, hyp = manifest(tmp_path / "ref.jsonl", said), tmp_path / "hyp.jsonl"

    def write(ids, folder):
        rows = [
            {"id": id, "audio_filepath": f"{folder}{audio}", "text": text}
            for id, (audio, text) in zip(ids, heard.items())
        ]
        hyp.write_text("".join(json.dumps(row) + "\n" for row in rows))

    for folder in (f"{tmp_path}/", "", "elsewhere/"):
        write(("a", "b.c", "d"), folder)
        [row] = run(ref, hyp, tmp_path=tmp_path)["systems"]
        assert [row[name] for name in ("substitutions", "deletions", "missing", "others")] == [1, 1, 0, 0]
        assert "matched by audio_filepath" in " ".join(capsys.readouterr().out.split())
    # Without paths, ids that are names of files will do, in either file.
    words = ctm(tmp_path / "hyp.ctm", {"a": "one too", "b.c": "three"})
    [row] = run(ref, words, "--missing-as-empty", tmp_path=tmp_path)["systems"]
    assert [row[name] for name in ("substitutions", "deletions", "missing")] == [1, 1, 1]
    named = trn(tmp_path / "ref.trn", {"a": "one two", "b.c": "three", "d": "four"})
    assert run(named, manifest(tmp_path / "m.jsonl", heard), tmp_path=tmp_path)["systems"][0]["substitutions"] == 1
    # Ids that are shared decide.
    write(("wavs/d", "wavs/b.c", "wavs/a"), "")
    assert run(ref, hyp, tmp_path=tmp_path)["systems"][0]["deletions"] == 2


@pytest.mark.parametrize("flags", [[], ["--missing-as-empty", "--ignore-others"]])
def test_files_without_an_id_in_common_are_refused(flags, tmp_path, capsys):
    """Two files of one name are in the manifest, so that the name does not say which is meant."""
    ref = manifest(tmp_path / "ref.jsonl", {"x/a.wav": "one", "y/a.wav": "two"})
    hyp = jsonl(tmp_path / "hyp.jsonl", {"a": "one"})
    other = trn(tmp_path / "other.trn", {"b": "one"})
    for files, what in (
        ((ref, hyp), f"{hyp}: has no id of {ref}: a here, x/a there; --id-key names the key of the ids, such as "),
        ((other, trn(tmp_path / "a.trn", {"a": "one"})), "a here, b there; name the utterances alike in both"),
    ):
        assert main(["score", *map(str, files), *flags]) == 2
        error = capsys.readouterr().err
        assert what in error and error.count("\n") == 1
    both = [jsonl(tmp_path / f"{n}.jsonl", {"1": n}, id_key="utt") for n in "rh"]
    with_ids = {"id": "7", "utt": "1", "text": "h", "audio_filepath": "q.wav"}
    both[1].write_text(json.dumps(with_ids) + "\n")
    assert run(*both, "--id-key", "utt", tmp_path=tmp_path)["systems"][0]["substitutions"] == 1


def test_missing_other_and_double_ids_are_named_and_can_be_allowed(tmp_path, capsys):
    ref = jsonl(tmp_path / "ref.jsonl", {"a": "one two", "b": "three", "c": "four"})
    some = jsonl(tmp_path / "some.jsonl", {"a": "one two", "d": "five"})

    def refused(*arguments):
        assert main(["score", *map(str, arguments)]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        return error

    error = refused(ref, some)
    assert f"{some}: lacks 2 ids (b, c) of {ref}" in error and "--missing-as-empty" in error
    assert f"has 1 id (d) that {ref} lacks" in error and "--ignore-others" in error
    [row] = run(ref, some, "--missing-as-empty", "--ignore-others", tmp_path=tmp_path)["systems"]
    assert (row["deletions"], row["insertions"], row["missing"], row["others"]) == (2, 0, 2, 1)
    assert row["wer"] == 0.5
    printed = capsys.readouterr().out
    assert "A: 2 utterances are missing and count as empty" in printed
    assert "A: 1 utterances without a reference are left out" in printed
    assert "a CTM has no line for an utterance without words" in refused(
        ref, ctm(tmp_path / "x.ctm", {"a": "one", "b": "x"})
    )
    twice = tmp_path / "twice.trn"
    twice.write_text("one two (a)\nthree (b)\none (a)\nfour (c)\n")
    assert f"{twice}: 1 id (a) twice (a in lines 1 and 3)" in refused(ref, twice)
    assert f"{twice}: 1 id (a) twice" in refused(twice, ref)
    assert "no words under english" in refused(
        *(jsonl(tmp_path / f"{n}.jsonl", {"a": "один"}) for n in "rh"), "--normalizer", "english"
    )
    part = jsonl(tmp_path / "part.jsonl", {"a": "один", "b": "two"})
    run(part, part, "--normalizer", "english", tmp_path=tmp_path)
    assert "1 of 2 references have no words under it" in capsys.readouterr().out


@pytest.mark.parametrize(
    "name, content, what",
    [
        ("x.txt", "one two three four five\n", "x.txt: which format? Neither its ending nor its content says so"),
        ("x.txt", "", "which format?"),
        ("x.jsonl", "{\n", "x.jsonl:1: not JSON"),
        ("x.jsonl", "[" * 100_000 + "\n", "x.jsonl:1: not JSON"),
        ("x.jsonl", '\n["a"]\n', "x.jsonl:2: a list; each line must be a JSON object"),
        ("x.jsonl", '{"id": "a", "text": 3}\n', "x.jsonl:1: text is 3; it must be a text"),
        ("x.jsonl", '{"id": "a", "said": "b"}\n', "x.jsonl:1: pred_text is missing"),
        ("x.jsonl", '{"text": "a"}\n', "x.jsonl:1: no id and no audio_filepath"),
        ("x.jsonl", '{"id": {}, "text": "a"}\n', "x.jsonl:1: no id"),
        ("x.trn", "one two\n", "x.trn:1: no (utterance-id) at its end"),
        ("x.trn", "{one / two} (a)\n", "x.trn:1: alternatives in braces"),
        ("x.ctm", "a 1 0.5 one\n", "x.ctm:1: 4 fields"),
        ("x.ctm", "a 1 0.5 nan one\n", "x.ctm:1: 0.5 and nan must be numbers of seconds"),
        ("x.ctm", "a 1 0.5 long one\n", "must be numbers of seconds"),
        ("x.ctm", "a 1 * * <ALT_BEGIN>\n", "x.ctm:1: alternatives"),
        ("x.jsonl", b"\xff\xfe\n", "x.jsonl:1: not UTF-8"),
        ("x.stm", "talk 1 eva 2 1 one\n", "'stm'"),
    ],
)
def test_mistakes_are_one_line(name, content, what, tmp_path, capsys):
    ref, file = jsonl(tmp_path / "ref.jsonl", {"a": "one"}), tmp_path / name
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    options = ["--format", "stm"] if name == "x.stm" else []
    assert main(["score", str(ref), str(file), *options]) == 2
    error = capsys.readouterr().err
    assert what in error and error.count("\n") == 1 and len(error) < 1000


def test_what_else_is_refused(tmp_path, capsys):
    ref = jsonl(tmp_path / "ref.jsonl", {"a": "one"})
    stm, empty = tmp_path / "ref.stm", tmp_path / "empty.trn"
    stm.write_text("talk 1 eva 0 1 one\n")
    empty.write_text(";; nothing\n")
    for arguments, what in (
        ([ref, tmp_path / "absent.trn"], "absent.trn: no such file"),
        ([ref, tmp_path], f"{tmp_path}: a folder, and no file"),
        ([ref, ref, "--normalizer", "englisch"], "--normalizer: no normaliser 'englisch', perhaps 'english'"),
        ([ref, ref, "--normalizer", "english v7"], "--normalizer: no normaliser 'english v7', perhaps 'english v"),
        ([stm, ref], "ref.jsonl: jsonl; an STM needs the times of words: give a CTM"),
        ([empty, ref], "empty.trn: has no transcripts"),
        ([ref], "HYP"),
    ):
        assert main(["score", *map(str, arguments)]) == 2
        error = capsys.readouterr().err
        assert what in error and error.count("\n") == 1


def test_neither_the_help_nor_the_command_imports_jax(tmp_path):
    ref = jsonl(tmp_path / "ref.jsonl", {"a": "one"})
    program = "import sys; from joint_st.cli import main; main(sys.argv[1:]); sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program, "score", str(ref), str(ref)]).returncode == 0
