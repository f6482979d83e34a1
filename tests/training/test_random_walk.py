import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from legato.errors import InputError
from legato.training.random_walk import Walk, check_mixture, choose


@settings(max_examples=40)
@given(st.floats(-5, 5), st.floats(0, 4), st.floats(0, 2), st.integers(1, 40), st.integers(0, 99))
def test_a_walk_stays_in_range_and_moves_at_most_a_step(low, width, step, num_frames, seed):
    walk = Walk(low, low + width, step)
    path = walk.path(np.random.default_rng(seed), num_frames)
    assert path.shape == (num_frames,)
    assert path.min() >= walk.low
    assert path.max() <= walk.high
    assert num_frames == 1 or np.abs(np.diff(path)).max() <= step + 1e-9


def test_a_walk_without_steps_is_constant():
    path = Walk(1.0, 2.0).path(np.random.default_rng(1), 9)
    assert (path == path[0]).all()


def test_a_walk_moves():
    path = Walk(0.0, 100.0, 1.0).path(np.random.default_rng(1), 9)
    assert len(set(path)) == 9


def test_starts_are_uniform_over_the_range():
    rng = np.random.default_rng(0)
    starts = np.array([Walk(2.0, 6.0, 0.1).path(rng, 3)[0] for _ in range(2000)])
    # 4 sigma: a uniform mean has standard error 4 / sqrt(12 * 2000) = 0.026
    assert abs(starts.mean() - 4.0) < 0.11
    assert np.histogram(starts, bins=4, range=(2, 6))[0].min() > 400


def test_a_mixture_is_drawn_with_its_probabilities():
    rng = np.random.default_rng(0)
    drawn = [choose(rng, (("a", 0.1), ("b", 0.6), ("c", 0.3))) for _ in range(4000)]
    for name, share in (("a", 0.1), ("b", 0.6), ("c", 0.3)):
        assert abs(drawn.count(name) / 4000 - share) < 0.032  # 4 standard errors at 0.5


@pytest.mark.parametrize("values", [(2.0, 1.0, 0.1), (0.0, 1.0, -0.1), (float("nan"), 1.0, 0.0)])
def test_impossible_walks_are_refused(values):
    with pytest.raises(InputError):
        Walk(*values)


@pytest.mark.parametrize(
    "mixture", [(), (("a", 0.5),), (("a", 1.5), ("b", -0.5)), (("a", 0.5), ("z", 0.5))]
)
def test_impossible_mixtures_are_refused(mixture):
    with pytest.raises(InputError):
        check_mixture("kinds", mixture, ["a", "b"])
