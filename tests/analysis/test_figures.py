"""Figures: what is drawn and how it is labelled, read from their axes."""

import warnings

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from joint_st.analysis.figures import alignment_figure, curves, figure_to_image
from joint_st.analysis.pairs import ExamplePair
from joint_st.figures import save_figure

NAMES = ("encoders", "streaming 1", "full context 1")
FRAME_SECONDS = 0.04


def make_rows(names=NAMES, timed=True) -> list[dict]:
    rows = []
    for layer, name in enumerate(names):
        row = {"layer": name}
        for at, kind in enumerate(("best", "frame_wise", "random", "wrong_text")):
            row[f"relative_{kind}"] = (at + 1) / (layer + 5)
            row[f"{kind}_boundary_ms"] = 10.0 * (at + layer) if timed else None
        for direction in ("audio_to_text", "text_to_audio"):
            row |= {f"{direction}_recall_{k}": k / 20 for k in (1, 5, 10)}
        rows.append(row)
    return rows


def make_example(**changes) -> ExamplePair:
    """`to me` in two text frames a unit; the best path is a diagonal."""
    unit = np.repeat(np.arange(5), 2)
    frames = 20
    fields = {
        "id": "test_7",
        "text": "to me",
        "layers": NAMES,
        "costs": np.random.default_rng(0).random((len(NAMES), frames, len(unit))),
        "positions": np.tile(np.arange(frames) // 2, (len(NAMES), 1)),
        "unit": unit,
        "symbols": ("t", "o", " ", "m", "e"),
        "words": np.array([0, 0, -1, 1, 1]),
        "word_times": np.array([[0.1, 0.3], [0.4, 0.7]]),
        "frame_seconds": FRAME_SECONDS,
    }
    return ExamplePair(**fields | changes)


def drawn(figure):
    """Return the axes that hold data, not legends."""
    return [ax for ax in figure.axes if ax.axison]


def test_curves_show_each_number_by_layer():
    rows = make_rows()
    figure = curves(rows, {"utterances": 50, "chance": 0.06})
    distances, retrieval, boundaries = drawn(figure)
    assert [ax.get_title("left") for ax in (distances, retrieval, boundaries)] == [
        "Distance of speech and text",
        "Retrieval among 50",
        "Word boundaries",
    ]
    for ax in (distances, retrieval, boundaries):
        assert [label.get_text() for label in ax.get_xticklabels()] == list(NAMES)
    lines = {line.get_label(): line.get_ydata().tolist() for line in distances.lines}
    assert lines["best alignment"] == [row["relative_best"] for row in rows]
    assert lines["best, wrong text"] == [row["relative_wrong_text"] for row in rows]
    assert len(lines) == 4
    assert boundaries.get_ylabel() == "mean error (ms)"
    assert boundaries.lines[0].get_ydata().tolist() == [0, 10, 20]
    assert retrieval.lines[0].get_ydata() == pytest.approx([5, 5, 5])
    assert retrieval.get_ylabel() == "recall (%)"
    assert retrieval.lines[-1].get_ydata() == pytest.approx([6, 6])  # by chance, where texts occur several times
    legends = [[text.get_text() for text in ax.get_legend().texts] for ax in figure.axes if ax.get_legend()]
    assert len(legends) == 3 and "random alignment" in legends[2]


def test_lines_differ_in_colour_and_marker():
    distances = drawn(curves(make_rows(), {"utterances": 50, "chance": 0.06}))[0]
    assert len({to_rgb(line.get_color()) for line in distances.lines}) == 4
    assert len({line.get_marker() for line in distances.lines}) == 4


def test_without_word_times_two_panels_remain():
    assert len(drawn(curves(make_rows(timed=False), {"utterances": 50, "chance": 0.06}))) == 2


def test_of_many_layers_some_are_named():
    names = ["encoders", *(f"streaming {k}" for k in range(1, 25))]
    ax = drawn(curves(make_rows(names), {"utterances": 50, "chance": 0.06}))[0]
    labels = dict(zip(ax.get_xticks(), (label.get_text() for label in ax.get_xticklabels())))
    assert len(labels) == 9 and labels[3] == "streaming 3"
    assert all(name == names[int(at)] for at, name in labels.items())


def test_the_alignment_is_drawn_in_seconds_over_units():
    example = make_example()
    figure = alignment_figure(example)
    panels = [ax for ax in figure.axes if ax.images]
    assert [ax.get_title("left") for ax in panels] == list(NAMES)
    first = panels[0]
    assert first.get_xlabel() == "time (s)"
    assert first.images[0].get_extent() == pytest.approx([0, 20 * FRAME_SECONDS, 0, 10])
    assert np.array_equal(first.images[0].get_array(), example.costs[0].T)
    path = first.lines[0]
    assert path.get_xdata()[:2] == pytest.approx([0.02, 0.06])
    assert path.get_ydata() == pytest.approx(example.positions[0] + 0.5)
    assert [label.get_text() for label in first.get_yticklabels()] == ["t", "o", "␣", "m", "e"]
    assert first.get_yticks() == pytest.approx([1, 3, 5, 7, 9])
    words = first.child_axes[0]
    assert [label.get_text() for label in words.get_xticklabels()] == ["to", "me"]
    assert words.get_xticks() == pytest.approx([0.2, 0.55])
    boxes = [(*box.get_xy(), box.get_width(), box.get_height()) for box in first.patches]
    assert boxes == [pytest.approx((0.1, 0, 0.2, 4)), pytest.approx((0.4, 6, 0.3, 4))]
    assert figure.get_suptitle() == "test_7: to me"
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.texts] == ["best alignment", "word, when it was spoken"]


def test_without_word_times_there_are_no_boxes():
    figure = alignment_figure(make_example(word_times=None))
    assert not figure.axes[0].patches and not figure.axes[0].child_axes


def test_of_many_layers_some_are_shown_the_first_and_the_last_among_them():
    names = ("encoders", *(f"streaming {k}" for k in range(1, 13)))
    costs, positions = np.ones((13, 20, 10)), np.zeros((13, 20), int)
    figure = alignment_figure(make_example(layers=names, costs=costs, positions=positions))
    assert [ax.get_title("left") for ax in figure.axes] == ["encoders", "streaming 4", "streaming 8", "streaming 12"]


def test_images_are_light_and_files_small(tmp_path):
    figure = curves(make_rows(), {"utterances": 50, "chance": 0.06})
    image = figure_to_image(figure)
    assert image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3
    assert image[0, 0].tolist() == [255, 255, 255] and image.mean() > 200 and image.min() < 128
    for name, drawing in (("layers", figure), ("alignment", alignment_figure(make_example()))):
        save_figure(drawing, tmp_path / "new" / f"{name}.png")
    with warnings.catch_warnings():  # none of what the font has not
        warnings.simplefilter("error")
        foreign = alignment_figure(make_example(text="日本語 ถ้า"))
        save_figure(foreign, tmp_path / "new" / "alignment.png")
        figure_to_image(foreign)
        figure_to_image(alignment_figure(make_example(text="$5 a_{$", id="a$b_{$")))  # no formulas
    files = list((tmp_path / "new").iterdir())
    assert {file.name for file in files} == {"layers.png", "alignment.png"}
    assert all(1000 < file.stat().st_size < 300_000 for file in files)
