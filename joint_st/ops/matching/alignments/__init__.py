"""The alignments, one file each, named like the value of `losses.consistency.alignment` that chooses it.

Those that follow a path (`skip`, `step`, `dtw`, `frame_wise`, `random`) are anchored: the first frame at text position
0, the last at the last position. The cheapest ones take costs float32 [T, B, R] (time first, as scans need it; finite
in the padding) and lengths int32 [B], and return text positions int32 [B, T]; positions in the padding, or where no
alignment is possible, have no meaning.

No move leads back to an earlier text position. Columns to the right of an utterance's last text position therefore
never reach it, backtracking never looks at frames after its last, and neither needs a mask.

The scans store one or two bits for each cell, and are not unrolled, which would make them several times slower on a
CPU.
"""
