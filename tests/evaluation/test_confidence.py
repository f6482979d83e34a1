import numpy as np
import pytest

from legato.evaluation.confidence import confidence_interval


def values(num, seed=0):
    return np.random.default_rng(seed).normal(30, 2, num).tolist()


@pytest.mark.parametrize("num", [2, 5, 40])
def test_the_interval_holds_the_mean(num):
    low, high = confidence_interval(values(num))
    assert low < np.mean(values(num)) < high


def test_it_shrinks_with_the_root_of_the_number():
    widths = [np.diff(confidence_interval(values(num)))[0] for num in (25, 100, 400)]
    assert widths[0] / widths[1] == pytest.approx(2, rel=0.35)
    assert widths[1] / widths[2] == pytest.approx(2, rel=0.35)


def test_it_is_that_of_a_normal_mean():
    low, high = confidence_interval(values(400))
    assert high - low == pytest.approx(2 * 1.96 * np.std(values(400)) / 20, rel=0.1)


def test_a_seed_repeats_it_and_another_changes_it():
    assert confidence_interval(values(9), 1) == confidence_interval(values(9), 1)
    assert confidence_interval(values(9), 1) != confidence_interval(values(9), 2)


def test_one_value_has_none():
    assert confidence_interval([3.0]) is None
