"""Rows, scalars and the table of a layer analysis, on numbers written by hand."""

import numpy as np
import pytest
from rich.console import Console

from joint_st.analysis.report import LayerReport, Measured

FACTS = {"alignment": "skip", "cost": "squared_l2", "utterances": 3, "chance": 1 / 3, "infeasible": 1}


def make_measured(**changes) -> Measured:
    """Return one layer, three pairs of 10, 30 and 50 frames; the last cannot be aligned, and the first has no wrong
    text."""
    numbers = {
        "texts": ["a", "b", "c"],
        "frames": np.array([[10, 20], [30, 20], [50, 50]]),
        "feasible": np.array([True, True, False]),
        "distances": np.array([[[1.0, 2.0, 4.0, np.nan], [3.0, 6.0, 8.0, 7.0], [99.0, 99.0, 99.0, 99.0]]]),
        "matched": np.array([[0.5, 1.0, 0.0]]),
        "norms": np.array([[[1.0, 2.0], [3.0, 2.0], [9.0, 9.0]]]),
        "square_norms": np.array([[[2.0, 3.0], [10.0, 3.0], [99.0, 99.0]]]),
        "centres": np.array([[[[1.0, 0.0], [1.0, 1.0]], [[1.0, 0.0], [1.0, 0.0]], [[9.0, 9.0], [9.0, 9.0]]]]),
        "pooled": np.array([[[[1.0, 0.0], [1.0, 0.1]], [[0.0, 1.0], [0.1, 1.0]], [[-1.0, 0.0], [1.0, 0.2]]]]),
        "boundary_seconds": np.array([[[0.1, 0.2, 0.4], [0.3, 0.0, 0.6], [9.0, 9.0, 9.0]]]),
        "boundaries": np.array([4, 6, 2]),
    }
    return Measured(**numbers | changes)


def test_distances_are_means_over_the_frames_of_what_can_be_aligned():
    (row,) = make_measured().rows(["encoders"])
    distances = [row[kind] for kind in ("best", "frame_wise", "random", "wrong_text")]
    assert distances == pytest.approx([(10 * 1 + 30 * 3) / 40, 5, 7, 7])
    assert [row["audio_norm"], row["text_norm"], row["text_matched"]] == pytest.approx([2.5, 2.0, 0.75])
    # Squared norms of 8 and 3, centres (1, 0) and (1, 1/2): two frames are 8 + 3 - 2 apart in the mean.
    relative = [row[f"relative_{kind}"] for kind in ("best", "frame_wise", "random", "wrong_text")]
    assert relative == pytest.approx([2.5 / 9, 5 / 9, 7 / 9, 7 / 9])


def test_unrelated_frames_have_a_relative_distance_of_one():
    generator = np.random.default_rng(0)
    audio, text = generator.normal(size=(2, 40, 3)) + [5.0, 0.0, 0.0]
    between = np.mean(np.sum((audio[:, None] - text[None]) ** 2, axis=-1))
    centres, squares = ([x.mean(axis=0) for x in (audio, text)], [np.mean(np.sum(x**2, -1)) for x in (audio, text)])
    (row,) = make_measured(
        distances=np.full((1, 3, 4), between),
        square_norms=np.tile(squares, (1, 3, 1)),
        centres=np.tile(np.array(centres), (1, 3, 1, 1)),
    ).rows(["encoders"])
    assert row["relative_best"] == pytest.approx(1)


def test_word_times_are_means_over_boundaries():
    (row,) = make_measured().rows(["encoders"])
    errors = [row[f"{kind}_boundary_ms"] for kind in ("best", "frame_wise", "random")]
    assert row["boundaries"] == 10 and errors == pytest.approx([40, 20, 100])


def test_retrieval_takes_all_pairs_both_ways():
    (row,) = make_measured().rows(["encoders"])
    # Speech of a and b is nearest to its own text; that of c is farthest. Text of c is nearest to speech of a.
    assert row["audio_to_text_recall_1"] == pytest.approx(2 / 3)
    assert row["audio_to_text_reciprocal_rank"] == pytest.approx((1 + 1 + 1 / 2) / 3, abs=0.06)
    assert row["text_to_audio_recall_1"] == pytest.approx(2 / 3)
    assert row["text_to_audio_recall_5"] == 1


def test_what_is_not_known_is_none_and_a_dash():
    nothing = np.zeros(3, int)
    unknown = np.full((1, 3, 4), np.nan)
    rows = make_measured(boundaries=nothing, distances=unknown).rows(["encoders"])
    assert rows[0]["best_boundary_ms"] is rows[0]["wrong_text"] is rows[0]["relative_best"] is None
    report = LayerReport(rows, FACTS, [])
    assert not [name for name in report.scalars() if "boundary" in name or "best" in name]
    assert printed(report).count(" - ") >= 4


def test_scalars_are_named_by_number_and_layer():
    rows = make_measured().rows(["full context 1"])
    scalars = LayerReport(rows, FACTS, []).scalars()
    assert scalars["layers/best/full_context_1"] == rows[0]["best"]
    assert scalars["layers/relative_wrong_text/full_context_1"] == rows[0]["relative_wrong_text"]
    assert scalars["layers/audio_to_text_recall_1/full_context_1"] == pytest.approx(2 / 3)
    assert all(isinstance(value, float) for value in scalars.values())


def printed(report: LayerReport) -> str:
    console = Console(width=80, file=None)
    with console.capture() as capture:
        console.print(report.table())
    return capture.get()


def test_the_table_fits_eighty_columns_and_cuts_nothing():
    large, square = np.full((1, 3, 4), 123_456.0), np.full((1, 3, 2), 99_999.0)
    large = make_measured(distances=large, square_norms=square, boundary_seconds=np.full((1, 3, 3), 9.876))
    text = printed(LayerReport(large.rows(["full context 12"]), FACTS, []))
    assert "…" not in text
    assert "full context 12" in text and "1 without an alignment" in text
    for number in ("123456", "0.617", "66.7%", "1975"):
        assert number in text
