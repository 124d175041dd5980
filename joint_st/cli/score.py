"""`joint-st score`."""

from __future__ import annotations

import argparse

from joint_st import storage
from joint_st.cli.parser import Commands, output_file
from joint_st.errors import UserError

FORMATS = ("jsonl", "trn", "ctm", "stm", "kaldi")


def add(commands: Commands) -> None:
    """Add the command to the parser."""
    score = commands.add(
        "score",
        "measure the word error rate of any system's transcripts",
        """
        joint-st score test.jsonl whisper.jsonl
        joint-st score test.jsonl nemo.jsonl espnet.trn --normalizer english --json table.json
        joint-st score ref.stm hyp.ctm
        joint-st score data/test/text exp/decode/text --ref-format kaldi --format kaldi
        joint-st score test.jsonl mine.ctm --missing-as-empty
        joint-st score test.jsonl answers.jsonl --hyp-key transcript --id-key utterance
        """,
    )
    score.add_argument(
        "reference",
        metavar="REF",
        type=storage.path,
        help="transcripts: a manifest, or a file of one of the formats; in trn, ctm and stm a word in parentheses, such as "
        "(uh), is optional: where a HYP lacks it, it counts neither as an error nor as a word",
    )
    score.add_argument(
        "hypotheses",
        metavar="HYP",
        type=storage.path,
        nargs="+",
        help="transcripts of one or several systems for the same utterances; each pair of systems is compared by the "
        "paired bootstrap, as `joint-st compare` does it",
    )
    score.add_argument(
        "--normalizer",
        metavar="NAME",
        default="basic",
        help="applied to references and hypotheses: none, basic (the default: lower case, no punctuation, any script) or "
        "english (also numbers as words, a-z and apostrophes alone), or an earlier version, such as 'english v1'",
    )
    score.add_argument(
        "--format",
        choices=FORMATS[:3] + FORMATS[4:],
        help="format of every HYP; by default found from its ending (.jsonl, .trn, .ctm), or from its content where that is clear. "
        "kaldi: `id words of it`",
    )
    score.add_argument(
        "--ref-format", choices=FORMATS, help="format of REF, in the same way; an stm needs a ctm as HYP"
    )
    score.add_argument(
        "--hyp-key",
        metavar="KEY",
        help="key of the text in JSON lines of HYP; by default the first of pred_text, hypothesis, text that is there",
    )
    score.add_argument(
        "--ref-key",
        metavar="KEY",
        help="key of the text in JSON lines of REF; by default the first of text, reference that is there",
    )
    score.add_argument(
        "--id-key",
        metavar="KEY",
        help="key of the id in JSON lines; by default id, otherwise audio_filepath without its ending; files that share no id "
        "are matched by audio_filepath",
    )
    score.add_argument(
        "--missing-as-empty",
        action="store_true",
        help="utterances that a HYP lacks count as deletions; an error without this",
    )
    score.add_argument(
        "--ignore-others",
        action="store_true",
        help="leave out utterances that REF lacks; an error without this",
    )
    score.add_argument(
        "--json", metavar="FILE", type=output_file, help="write the rows of the systems and of their differences"
    )
    score.set_defaults(run=_score)


def _score(options: argparse.Namespace) -> None:
    from joint_st.data.normalizers import normalizer

    try:
        normalizer(options.normalizer)
    except UserError as error:
        raise UserError(str(error).replace("data.normalizer", "--normalizer", 1)) from None
    from joint_st.evaluation.scoring import Rules, score_files

    rules = Rules(
        form=options.format,
        reference_form=options.ref_format,
        key=options.hyp_key,
        reference_key=options.ref_key,
        id_key=options.id_key,
        missing_as_empty=options.missing_as_empty,
        ignore_others=options.ignore_others,
    )
    score_files(
        options.reference,
        options.hypotheses,
        normalizer_name=options.normalizer,
        rules=rules,
        json_file=options.json,
    )
