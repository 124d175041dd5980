"""The alignments, one file each, named like the value of `losses.consistency.alignment` that chooses it.

Those that follow a path (`skip`, `step`, `dtw`, `frame_wise`, `random`) are anchored: the first frame at text position 0, the last at the last position. The cheapest ones take costs
float32 [T, B, R] (time first, as the scans want it; finite in the padding) and lengths int32 [B], and return text
positions int32 [B, T]; what stands there in the padding, or where no alignment is possible, has no meaning.

No move leads back to an earlier text position. So columns to the right of an utterance's last text position never
reach it, frames after its last are never looked at on the way back, and neither needs a mask.

The scans keep one or two bits of each cell, and are not unrolled: on a CPU that makes them several times slower.
"""
