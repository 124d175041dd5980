"""Which transcript of a file belongs to which reference: by the id, by the audio, or by the times of words."""

from __future__ import annotations

import bisect
import itertools
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

from joint_st.errors import UserError
from joint_st.evaluation.transcript_files import Said, TranscriptFile
from joint_st.word_times.writers import id_in_ctm


def match_ids(reference: TranscriptFile, hypothesis: TranscriptFile, by_audio: bool = True) -> TranscriptFile:
    """Return the hypothesis with the reference's ids.

    Formats other than JSON lines have no white space in ids: where one of the files is of such a format, `a b` is the
    same as `a_b`, as `joint-st` writes it. by_audio: whether ids that have nothing in common are matched by the audio: by
    its path, or by its name where it is the only one of that name in its file; a file without paths may have such names
    as ids, as `joint-st transcribe` writes them. Raises `UserError` where two ids of a file are the same in the other's
    format.
    """
    write = str if reference.form == hypothesis.form == "jsonl" else id_in_ctm
    own, heard = _by_name(write, reference), _by_name(write, hypothesis)
    if shared := own.keys() & heard.keys():
        for file, names in ((reference, own), (hypothesis, heard)):
            for name in names.keys() & shared:
                if len(names[name]) > 1:
                    raise UserError(
                        f"{file.path}: {' and '.join(map(repr, names[name]))} are both {name} in files without white "
                        "space in ids; rename one, also in the other files"
                    )
        return _renamed(hypothesis, {heard[name][0]: own[name][0] for name in shared})
    found: dict[str, str] = {}
    for ours, theirs in ((_path, _path), (_name, _name), (_name, _own), (_own, _name)) if by_audio else ():
        ids, others = (_ids_by(name_of, file, write) for name_of, file in ((ours, reference), (theirs, hypothesis)))
        found = max(found, {others[name]: ids[name] for name in ids if name in others}, key=len)
    if not found:
        return hypothesis
    return _renamed(hypothesis, found)._replace(how=f"{hypothesis.how}, matched by audio_filepath")


def _by_name(write: Callable[[str], str], file: TranscriptFile) -> dict[str, list[str]]:
    """Return the ids of a file by how they are written."""
    names = defaultdict(list)
    for id in dict.fromkeys(one.id for one in file.said):
        names[write(id)].append(id)
    return names


def _renamed(file: TranscriptFile, names: dict[str, str]) -> TranscriptFile:
    return file._replace(said=[one._replace(id=names.get(one.id, one.id)) for one in file.said])


def _own(one: Said) -> str:
    return one.id


def _path(one: Said) -> str:
    return one.audio


def _name(one: Said) -> str:
    return Path(one.audio).name


def _ids_by(name_of: Callable[[Said], str], file: TranscriptFile, write: Callable[[str], str]) -> dict[str, str]:
    """Return the ids of a file by another name; {} where some line has no such name, or two ids have the same."""
    ids: dict[str, str] = {}
    for one in file.said:
        name = write(name_of(one))
        if not name or ids.setdefault(name, one.id) != one.id:
            return {}
    return ids


class _Segments:
    """The segments of a recording, to be searched by time."""

    def __init__(self, segments: Sequence[Said]):
        self._order = sorted(range(len(segments)), key=lambda place: segments[place].start)
        self._sorted = [segments[place] for place in self._order]
        self._starts = [one.start for one in self._sorted]
        self._latest = list(itertools.accumulate((one.end for one in self._sorted), max))

    def nearest(self, time: float) -> Said:
        """Return the segment that contains a time or is nearest to it; of several, the one whose middle is nearest, and the
        first in the file."""
        begun = bisect.bisect_right(self._starts, time)
        found = self._rank(max(begun - 1, 0), time)
        for place in range(begun, len(self._starts)):
            if self._starts[place] - time > found[0]:
                break
            found = min(found, self._rank(place, time))
        for place in reversed(range(begun)):
            if time - self._latest[place] > found[0]:
                break  # all that begin earlier end earlier too
            found = min(found, self._rank(place, time))
        return self._sorted[found[-1]]

    def _rank(self, place: int, time: float) -> tuple[float, float, int, int]:
        one = self._sorted[place]
        away = max(one.start - time, time - one.end, 0.0)
        return away, abs((one.start + one.end) / 2 - time), self._order[place], place


def by_segment(reference: TranscriptFile, hypothesis: TranscriptFile) -> tuple[dict[str, str], dict[str, str]]:
    """Return reference and hypothesis of each segment of an STM, from the words of a CTM.

    A word belongs to the segment that contains its middle (of several, the one whose middle is nearest), or to the
    nearest segment of its recording. Words in ignored segments are left out. Recordings that the STM lacks are segments
    without a reference, under their own names.
    """
    segments = defaultdict(list)
    for one in reference.said:
        segments[one.id].append(one)
    scored = [one for own in segments.values() for one in own if not one.ignored]
    if not scored:
        raise UserError(f"{reference.path}: all of its segments are to be ignored; give an STM with some to be scored")
    if len({(one.id, one.start, one.end) for one in scored}) < len(scored):
        raise UserError(f"{reference.path}: two segments of one recording have the same times; keep one of them")
    searched = {id: _Segments(own) for id, own in segments.items()}
    words, decimals = defaultdict(list), 2

    def name(segment: Said) -> str:
        return f"{segment.id}-{segment.start:.{decimals}f}-{segment.end:.{decimals}f}"

    while len(references := {name(one): one.text for one in scored}) < len(scored):
        decimals += 1  # until no two segments have one name
    for word in hypothesis.said:
        middle = (word.start + word.end) / 2
        own = searched.get(word.id)
        if not own:
            words[word.id].append(word.text)
            continue
        nearest = own.nearest(middle)
        if not nearest.ignored:
            words[name(nearest)].append(word.text)
    heard = {one.id for one in hypothesis.said}
    texts = {id: " ".join(own) for id, own in words.items()}
    # A segment without words is not missing if the CTM has words of its recording.
    for id, own in segments.items():
        if id in heard:
            texts |= {name(one): "" for one in own if not one.ignored and name(one) not in texts}
    return references, texts
