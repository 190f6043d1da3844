"""Margins and radii rounded to the safe side, against exact fractions; which constants are needed."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import oracle
import pytest
from classifiers import classifier, pictures
from hypothesis import given
from hypothesis import strategies as st

from certlip.certify.attack import norms_up
from certlip.certify.radii import AT_ONCE, is_open, margins_at, most_needed, radii_of
from certlip.network import Dense, Network

DOUBLES = st.floats(1e-300, 1e300)


@given(st.lists(st.tuples(DOUBLES, DOUBLES), min_size=1))
def test_a_radius_is_below_the_quotient(pairs: list[tuple[float, float]]) -> None:
    below, constants = np.array(pairs).T
    for margin, constant, radius in zip(below, constants, radii_of(below, constants), strict=True):
        quotient = Fraction(margin) / Fraction(constant)
        assert Fraction(radius) < quotient
        if 1e-300 < quotient < 1e300:
            assert Fraction(radius) > quotient * (1 - Fraction(2) ** -50)


def test_radii_of_what_is_not_positive_or_constant() -> None:
    below = np.array([-1.0, 0.0, np.inf, 1.0, -np.inf, 1e300])
    constants = np.array([1.0, 1.0, 0.0, 0.0, 0.0, 1e-300])
    assert radii_of(below, constants).tolist() == [0.0, 0.0, np.inf, np.inf, 0.0, np.finfo(float).max]


@pytest.mark.parametrize("scale", [1e-200, 1.0, 1e150])
def test_margins_enclose_the_exact_ones(scale: float) -> None:
    rng = np.random.default_rng(0)
    weight, bias = scale * rng.standard_normal((4, 5)), scale * rng.standard_normal(4)
    network = Network((Dense("a", weight, bias),), (5,))
    images, labels = pictures(network, 30)
    below, above = margins_at(network, images, labels)
    for image, label, least, most in zip(images, labels, below, above, strict=True):
        outputs = [
            row[0] + Fraction(b)
            for row, b in zip(
                oracle.exact_product(oracle.rational(weight), oracle.rational(image[:, None])), bias, strict=True
            )
        ]
        for j in range(4):
            if j != label:
                assert Fraction(least[j]) <= outputs[label] - outputs[j] <= Fraction(most[j])
                assert most[j] - least[j] <= 1e-13 * scale * 50
        assert least[label] == most[label] == np.inf


def test_margins_do_not_depend_on_how_images_are_batched() -> None:
    network = classifier(1, 4, 5, 3)
    images, labels = pictures(network, 2 * AT_ONCE + 3)
    below, _ = margins_at(network, images, labels)
    for k in (0, AT_ONCE - 1, AT_ONCE, 2 * AT_ONCE + 2):
        one, _ = margins_at(network, images[k : k + 1], labels[k : k + 1])
        assert one[0] == pytest.approx(below[k], abs=1e-12)


def test_where_nothing_can_be_said_nothing_is_certified() -> None:
    network = Network((Dense("a", np.full((2, 2), 1e300), np.zeros(2)),), (2,))
    below, above = margins_at(network, np.full((1, 2), 1e300), np.array([0]))
    assert (below[0, 1], above[0, 1]) == (-np.inf, np.inf)
    assert radii_of(below, np.ones((1, 2)))[0, 1] == 0


@given(st.lists(st.floats(-1e200, 1e200), min_size=1, max_size=6))
def test_norms_are_rounded_up(vector: list[float]) -> None:
    (norm,) = norms_up(np.array([vector]))
    square = sum((Fraction(x) ** 2 for x in vector), Fraction(0))
    assert Fraction(norm) ** 2 >= square
    assert Fraction(norm) ** 2 <= square * (1 + Fraction(1, 10**12)) or norm < 1e-300


RADII = np.array(
    [
        [9.0, 0.2, 0.2, 9.0],  # needs (0, 1) and (0, 2)
        [9.0, 9.0, 9.0, 0.2],  # needs (0, 3)
        [9.0, 0.2, 9.0, 9.0],  # needs (0, 1)
        [0.2, 9.0, 0.0, 9.0],  # is wrong
        [0.2, 0.2, 9.0, 0.2],  # is broken by the attack
        [9.0, 9.0, 9.0, 9.0],  # is certified
    ]
)
LABELS = np.array([0, 0, 0, 1, 2, 3])
NEAREST = np.array([np.inf, np.inf, 0.7, np.inf, 0.4, np.inf])


def known(*pairs: tuple[int, int]) -> np.ndarray:
    found = np.zeros((4, 4), dtype=bool)
    for i, j in pairs:
        found[i, j] = found[j, i] = True
    return found


def test_the_pair_that_holds_back_most_images_comes_first() -> None:
    assert most_needed([0.5], RADII, LABELS, NEAREST, known()) == [(0, 1), (0, 3), (0, 2)]


def test_an_image_that_a_known_constant_holds_back_needs_no_other() -> None:
    assert most_needed([0.5], RADII, LABELS, NEAREST, known((0, 1))) == [(0, 3)]
    assert most_needed([0.5], RADII, LABELS, NEAREST, known((0, 2))) == [(0, 1), (0, 3)]


def test_nothing_is_needed_where_all_is_settled() -> None:
    assert most_needed([0.1], RADII, LABELS, NEAREST, known()) == []
    assert is_open(0.1, RADII, NEAREST).tolist() == [False] * 6
    assert is_open(0.5, RADII, NEAREST).tolist() == [True, True, True, False, False, False]
    assert is_open(0.3, RADII, NEAREST).tolist() == [True, True, True, False, True, False]


def test_at_a_smaller_radius_an_image_may_still_need_what_it_does_not_at_a_larger() -> None:
    radii = np.array([[9.0, 0.4, 0.2]])
    arguments = radii, np.array([0]), np.array([np.inf]), known((0, 1))[:3, :3]
    assert most_needed([0.5], *arguments) == []
    assert most_needed([0.3, 0.5], *arguments) == [(0, 2)]
