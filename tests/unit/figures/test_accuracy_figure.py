"""The figure of certified accuracy: a panel a network, curves below what an attack leaves."""

from __future__ import annotations

import numpy as np
import pytest
from accuracies import rows_of
from drawing import assert_fits_one_column, drawn

NAMES = ["digits-cnn", "digits-cnn-decay", "sdp-crown-mnist-convsmall", "mnist-mlp", "sdp-crown-cifar10-cnn-a"]


@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_there_is_a_panel_a_network_and_all_fits_one_column(n: int) -> None:
    figure, renderer = drawn("certified_accuracy", rows_of(NAMES[:n]))
    assert [axes.get_title().replace("\n", "") for axes in figure.axes] == NAMES[:n]
    assert_fits_one_column(figure, renderer)


def test_curves_lie_below_the_attack_and_marks_at_the_radii_asked_for() -> None:
    figure, _ = drawn("certified_accuracy", rows_of(["a"]))
    lines = figure.axes[0].get_lines()
    dashed = next(line for line in lines if line.get_linestyle() == "--" and line.get_color() == "#595959")
    n_tried = len(dashed.get_xdata())
    assert max(dashed.get_xdata()) == 0.3
    curves = [line for line in lines if len(line.get_xdata()) > n_tried]
    assert len(curves) == 3
    for line in curves:
        if line.get_linestyle() != ":":
            assert (np.asarray(line.get_ydata())[:n_tried] <= np.asarray(dashed.get_ydata())).all()
    crosses = [line for line in lines if line.get_marker() == "x"]
    assert [list(map(float, line.get_ydata())) for line in crosses] == [[32.5]]
    asked = [line for line in lines if line.get_linestyle() == "None" and line.get_marker() != "x"]
    assert [list(line.get_xdata()) for line in asked] == [[0.1, 0.3], [0.1, 0.3]]


def test_without_images_it_says_so() -> None:
    figure, _ = drawn("certified_accuracy", rows_of([], waiting=["w"]))
    assert "No predictions are certified" in figure.texts[0].get_text()
