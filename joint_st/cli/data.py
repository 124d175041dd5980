"""`joint-st data`: corpora, tokenizers, language models, and what a config reads."""

from __future__ import annotations

import argparse
from pathlib import Path

from joint_st import storage
from joint_st.cli.options import config_argument, load_config, quiet_libraries
from joint_st.cli.parser import OVERRIDES, Commands, count, folder, index, local_output, whole_number
from joint_st.errors import UserError


def add(commands: Commands) -> None:
    """Add the commands to the parser."""
    data = commands.add("data", "build corpora and tokenizers, inspect what a config reads", "")
    data_commands = Commands(data)

    build = data_commands.add("build", "build a corpus that this package defines", "joint-st data build spoken_grammar")
    build.add_argument("name", metavar="NAME", help="the corpus")
    build.add_argument(
        "--data-dir", metavar="DIR", default="", help="$TFDS_DATA_DIR or ~/tensorflow_datasets by default"
    )
    build.set_defaults(run=_data_build)

    tokenizer = data_commands.add(
        "tokenizer",
        "make the tokenizer of a config from its texts",
        """
        joint-st data tokenizer configs/quickstart.py --out pieces --data.tokenizer.kind sentencepiece
        joint-st train configs/quickstart.py --data.tokenizer.path pieces
        """,
        f"%(prog)s CONFIG --out DIR {OVERRIDES}",
        "Config",
    )
    config_argument(tokenizer)
    tokenizer.add_argument("--out", metavar="DIR", type=local_output, help="where the tokenizer is written")
    tokenizer.set_defaults(run=_data_tokenizer)

    ngram = data_commands.add(
        "ngram",
        "estimate an n-gram language model on the training texts of a config or a run",
        """
        joint-st data ngram configs/quickstart.py --order 3 --level word --out lm.arpa
        joint-st data ngram runs/quickstart --order 6 --level label --out letters.arpa.gz
        """,
        f"%(prog)s CONFIG --out FILE [--order N] [--level word|label] {OVERRIDES}",
        "Config",
    )
    config_argument(ngram)
    ngram.add_argument(
        "--order", metavar="N", type=whole_number(1, 20), default=3, help="length of n-grams; %(default)s by default"
    )
    ngram.add_argument(
        "--level",
        choices=("word", "label"),
        default="word",
        help="over words (the default), or over the labels of the config's tokenizer (of a run, its own)",
    )
    ngram.add_argument(
        "--out", metavar="FILE", type=local_output, help="the ARPA file to write, gzipped if it ends in .gz"
    )
    ngram.set_defaults(run=_data_ngram)

    inspect = data_commands.add(
        "inspect",
        "count what a config reads: utterances, hours, what is dropped and why, buckets, padding",
        """
        joint-st data inspect configs/quickstart.py --data.buckets 4
        joint-st data inspect configs/quickstart.py --decode
        """,
        f"%(prog)s CONFIG [--decode] {OVERRIDES}",
        "Config",
    )
    config_argument(inspect)
    inspect.add_argument(
        "--decode",
        action="store_true",
        help="also decode all audio, and name what cannot be read or is longer or shorter than stated; exit status 1 "
        "where there is any",
    )
    inspect.set_defaults(run=_data_inspect)

    synthesize = data_commands.add(
        "synthesize",
        "speak text without audio, by espeak-ng, to train on together with recordings",
        """
        joint-st data synthesize text:sentences.txt --language en --out corpus/spoken
        joint-st data synthesize configs/quickstart.py --out spoken --most 5000 --seed 1
        joint-st data synthesize corpus/text.jsonl --out corpus/spoken --voices f1 f2 m1 m2
        """,
    )
    synthesize.add_argument(
        "source",
        metavar="SOURCE",
        help="what to speak: text:FILE, a manifest, tfds:NAME:SPLIT, or a config, whose data.text is taken",
    )
    synthesize.add_argument(
        "--out",
        metavar="DIR",
        type=folder,
        required=True,
        help="folder for audio (FLAC, 16 kHz) and manifest.jsonl; what is there and whole is kept",
    )
    synthesize.add_argument(
        "--language",
        metavar="TAG",
        default="",
        help="BCP 47 tag of sentences whose source states none; data.units.language of a config by default",
    )
    synthesize.add_argument("--most", metavar="N", type=count, help="speak N sentences, drawn from all of them")
    synthesize.add_argument(
        "--seed",
        metavar="N",
        type=index,
        default=0,
        help="another number gives other voices, rates and pitches; %(default)s by default",
    )
    synthesize.add_argument(
        "--voices",
        metavar="NAME",
        nargs="+",
        default=[],
        help="speaker variants of espeak-ng (f1, m3, Annie); by default the 33 that spoken_grammar trains on",
    )
    synthesize.add_argument(
        "--workers", metavar="N", type=whole_number(1, 64), help="number of threads; up to 4 by default"
    )
    synthesize.set_defaults(run=_data_synthesize)


def _data_build(options: argparse.Namespace) -> None:
    quiet_libraries()
    import pkgutil

    from joint_st.data import corpora

    known = [module.name for module in pkgutil.iter_modules(corpora.__path__) if module.ispkg]
    if options.name.partition("/")[0] not in known:
        raise UserError(f"{options.name}: this package builds no such corpus; it builds {', '.join(known)}")
    corpora.build_if_absent(options.name, options.data_dir)


def _data_tokenizer(options: argparse.Namespace) -> None:
    config = load_config(options)
    if config is None:
        return
    if options.out is None:
        options.parser.error("--out DIR is missing")
    if config.data.tokenizer.path:
        raise UserError("data.tokenizer.path: set it to '' to make a tokenizer from the texts")
    quiet_libraries()
    from joint_st.data.texts import train_tokenizer

    tokenizer = train_tokenizer(config)
    tokenizer.save(options.out)
    print(f"{options.out}: {tokenizer.kind}, {tokenizer.size} labels, the CTC blank included")


def _data_ngram(options: argparse.Namespace) -> None:
    config = load_config(options)
    if config is None:
        return
    if options.out is None:
        options.parser.error("--out FILE is missing")
    quiet_libraries()
    from joint_st.lm.estimate import estimate_ngram

    place, write = Path(options.config), storage.write_output
    model = estimate_ngram(config, place, options.order, options.level, options.out, write)
    counts = ", ".join(f"{len(of_order)} {n}-grams" for n, of_order in enumerate(model.ngrams, 1))
    print(f"{options.out}: over {options.level}s, {counts}")


def _data_inspect(options: argparse.Namespace) -> None:
    config = load_config(options)
    if config is None:
        return
    quiet_libraries()
    from joint_st.data.inspection import decode_all, inspect

    if options.decode:
        # First: where all is bad, there is nothing else to tell.
        found = decode_all(config)
        for bad in found.bad:
            print(bad, flush=True)
        print(found, flush=True)
    for line in inspect(config):
        print(line, flush=True)
    if options.decode and found.bad:
        raise SystemExit(1)


def _data_synthesize(options: argparse.Namespace) -> None:
    quiet_libraries()
    from joint_st.data.synthesis.corpus import WORKERS, synthesize

    found = synthesize(
        options.source,
        options.out,
        language=options.language,
        most=options.most or 0,
        seed=options.seed,
        variants=options.voices,
        workers=options.workers or WORKERS,
    )
    print(found)
