"""`joint-st data`: corpora, tokenizers, language models, and what a config reads."""

from __future__ import annotations

import argparse
from pathlib import Path

from joint_st.cli.options import config_argument, load_config, quiet_libraries
from joint_st.cli.parser import OVERRIDES, Commands, whole_number
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
    tokenizer.add_argument("--out", metavar="DIR", type=Path, help="where the tokenizer is written")
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
    ngram.add_argument("--out", metavar="FILE", type=Path, help="the ARPA file to write, gzipped if it ends in .gz")
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

    model = estimate_ngram(config, Path(options.config), options.order, options.level, options.out)
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
