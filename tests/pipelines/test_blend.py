"""Blending: equal versions stay what they are, statistics and gradients are those asked for."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file

from legato.pipelines.blend import (
    RELEASED_STEEPEST,
    Statistics,
    Version,
    blend_gradients,
    blend_statistics,
    join_previous,
    merge,
    select,
)
from legato.pipelines.lab import from_lab, to_lab

sides = st.integers(1, 17)


def picture(rows=24, cols=30, seed=0):
    return np.random.default_rng(seed).uniform(20, 230, (rows, cols, 3)).astype(np.float32)


def noise(rows, cols, seed):
    return np.random.default_rng(seed).random((rows, cols)).astype(np.float32)


def test_at_the_earlier_key_frame_all_is_forward_and_at_the_later_one_backward():
    worse, better = np.full((4, 5), 9, np.float32), np.full((4, 5), 1, np.float32)
    assert not select(worse, better, 0.0).any()
    assert select(better, worse, 1.0).all()


@pytest.mark.parametrize("weight", [0.25, 0.5, 0.75])
def test_errors_count_by_their_weights(weight):
    error_forward, error_backward = noise(20, 20, 1), noise(20, 20, 2)
    chosen = select(error_forward, error_backward, weight)
    assert np.array_equal(chosen, weight * error_forward >= (1 - weight) * error_backward)


@settings(max_examples=30)
@given(rows=sides, cols=sides, seed=st.integers(0, 99))
def test_without_motion_the_selection_only_grows(rows, cols, seed):
    still, selection = np.zeros((rows, cols, 2), np.float32), np.zeros((rows, cols), bool)
    for t in range(1, 5):
        instant = select(noise(rows, cols, seed + t), noise(rows, cols, seed + 9 - t), t / 5)
        joined = join_previous(instant, selection, still)
        assert not (selection & ~joined).any()
        assert not (instant & ~joined).any()
        selection = joined


def test_what_was_selected_moves_with_the_picture():
    previous = np.zeros((5, 8), bool)
    previous[2, 3] = True
    flow = np.tile(np.array([-2.0, 1.0], np.float32), (5, 8, 1))
    joined = join_previous(np.zeros((5, 8), bool), previous, flow)
    assert np.argwhere(joined).tolist() == [[1, 5]]


@settings(max_examples=20)
@given(rows=sides, cols=sides, seed=st.integers(0, 99))
def test_equal_versions_give_that_picture(rows, cols, seed):
    same = picture(rows, cols, seed)
    selection = noise(rows, cols, seed) > 0.5
    blended = blend_statistics(same, same, noise(rows, cols, seed + 1))
    merged = blend_gradients(same, same, selection, blended)
    np.testing.assert_allclose(blended, same, atol=0.02)
    np.testing.assert_allclose(merged, same, atol=0.02)


def test_the_blend_has_the_statistics_that_are_asked_for():
    forward, backward, wanted = picture(seed=1), picture(seed=2) * 0.5, picture(seed=3) * 0.8
    blended = blend_statistics(forward, backward, 0.4, Statistics.of(wanted))
    np.testing.assert_allclose(blended.mean((0, 1)), wanted.mean((0, 1)), rtol=1e-4)
    np.testing.assert_allclose(blended.std((0, 1)), wanted.std((0, 1)), rtol=1e-4)


@pytest.mark.parametrize("error", [0.0, 3.0, 60.0])
@pytest.mark.parametrize("nearness", [0.25, 0.75])
def test_where_both_versions_are_trusted_alike_nearness_decides(error, nearness):
    errors, dark = np.full((24, 30), error, np.float32), picture() * 0.5
    merged, _ = merge(Version(dark, errors), Version(dark + 90, errors), nearness, None)
    np.testing.assert_allclose(merged.mean((0, 1)), dark.mean((0, 1)) + 90 * nearness, atol=0.1)


@pytest.mark.parametrize("nearness", [0.25, 0.75])
def test_the_version_that_is_trusted_decides_whatever_its_nearness(nearness):
    good, bad = np.zeros((24, 30), np.float32), np.full((24, 30), 60, np.float32)
    dark = picture() * 0.5
    for errors, wanted in (((good, bad), dark), ((bad, good), dark + 90)):
        merged, _ = merge(Version(dark, errors[0]), Version(dark + 90, errors[1]), nearness, None)
        np.testing.assert_allclose(merged.mean((0, 1)), wanted.mean((0, 1)), atol=0.1)


def test_statistics_change_over_evenly():
    forward, backward = picture(seed=1), picture(seed=2) * 0.5
    blended = blend_statistics(forward, backward, 0.25)
    for measure in (np.mean, np.std):
        ends = measure(forward, (0, 1)), measure(backward, (0, 1))
        expected = 0.75 * ends[0] + 0.25 * ends[1]
        np.testing.assert_allclose(measure(blended, (0, 1)), expected, rtol=1e-4)


@settings(max_examples=20)
@given(
    rows=st.integers(1, 8).map(lambda n: 2 * n),
    cols=st.sampled_from([2, 6, 14]),
    seed=st.integers(0, 99),
)
def test_the_gradient_blend_solves_its_equations(rows, cols, seed):
    """(1 + g^2 D^T D) x = u + g^2 D^T d, against a dense solution in float64."""
    forward, backward, blended = (picture(rows, cols, seed + k) for k in range(3))
    selection = noise(rows, cols, seed) > 0.5
    found = blend_gradients(forward, backward, selection, blended, steepest=60.0)
    differences, wanted = [], []
    index = np.arange(rows * cols).reshape(rows, cols)
    for here, there in ((index[:-1], index[1:]), (index[:, :-1], index[:, 1:])):
        here, there = here.ravel(), there.ravel()
        rows_of = np.zeros((len(here), rows * cols))
        rows_of[np.arange(len(here)), here], rows_of[np.arange(len(here)), there] = 1, -1
        differences.append(rows_of)
        versions = [v.reshape(-1, 3)[here] - v.reshape(-1, 3)[there] for v in (forward, backward)]
        chosen = selection.ravel()[here][:, None]
        wanted.append(np.where(chosen, versions[1], versions[0]).clip(-60, 60))
    matrix, targets = np.concatenate(differences), np.concatenate(wanted)
    for channel, g in enumerate((2.5, 0.5, 0.5)):
        left = np.eye(rows * cols) + g**2 * matrix.T @ matrix
        right = blended[..., channel].ravel() + g**2 * matrix.T @ targets[:, channel]
        exact = np.linalg.solve(left, right).reshape(rows, cols)
        np.testing.assert_allclose(found[..., channel], exact, atol=0.02)


@pytest.mark.parametrize(("rows", "cols"), [(7, 9), (1, 8), (8, 1), (1, 1)])
def test_the_gradients_of_the_picture_itself_change_nothing(rows, cols):
    same = picture(rows, cols)
    merged = blend_gradients(same, same, np.zeros((rows, cols), bool), same)
    np.testing.assert_allclose(merged, same, atol=0.01)


@settings(max_examples=20)
@given(rows=sides, cols=sides, seed=st.integers(0, 99))
def test_lab_and_back_is_the_same_picture(rows, cols, seed):
    rgb = np.random.default_rng(seed).random((rows, cols, 3)).astype(np.float32)
    np.testing.assert_allclose(from_lab(to_lab(rgb)), rgb, atol=1.5 / 255)


@pytest.mark.parametrize("level", [0, 0.5, 1])
def test_greys_have_no_colour(level):
    lab = to_lab(np.full((2, 2, 3), level, np.float32))
    assert abs(lab[..., 1:]).max() < 0.1
    if level != 0.5:
        np.testing.assert_allclose(lab[..., 0], 255 * level, atol=0.1)


def test_agrees_with_the_reference(shared):
    stored = load_file(shared / "parity/fresco/blend.safetensors")
    for j, weight in enumerate(stored["weight_backward"]):
        instant = select(stored["error_forward"][j], stored["error_backward"][j], float(weight))
        assert np.array_equal(instant, stored["selection_instant"][j].astype(bool))
        lab = [stored[f"lab_{which}"][j].astype(np.float32) for which in ("forward", "backward")]
        centred = stored["lab_blended"][j] - stored["lab_blended"][j].mean((0, 1))
        selection = stored["selection"][j].astype(bool)
        merged = blend_gradients(
            *lab, selection, centred.astype(np.float32), steepest=RELEASED_STEEPEST
        )
        np.testing.assert_allclose(merged, stored["poisson_lab_zero_mean"][j], atol=1e-3)
