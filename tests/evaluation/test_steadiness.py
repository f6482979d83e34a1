from dataclasses import replace

import numpy as np
import pytest
import torch

from legato.evaluation.steadiness import (
    PairMotion,
    correspondences,
    flicker,
    flow_difference,
    own_flicker,
    warping_error,
)


def texture(rows=96, cols=160):
    rng = np.random.default_rng(0)
    picture = np.zeros((rows, cols, 3))
    for scale in (4, 8, 16):
        coarse = rng.uniform(0, 80, (rows // scale, cols // scale, 3))
        picture += np.kron(coarse, np.ones((scale, scale, 1)))
    return picture.clip(0, 255).astype(np.uint8)


def panning(num_frames=4, step=3):
    picture = texture(cols=192)
    return np.stack([picture[:, step * t : step * t + 128] for t in range(num_frames)])


def test_whole_pixel_motion_is_followed():
    clip = panning()
    pairs = correspondences(clip)
    assert len(pairs) == 3
    flow = pairs[0].flow[0, :, 20:-20, 20:-20]
    assert flow[0].median().item() == pytest.approx(-3, abs=0.1)
    assert flow[1].abs().median().item() < 0.1


def test_pixels_that_leave_the_picture_do_not_count():
    valid = correspondences(panning())[0].valid[0, 0]
    assert not valid[:, :2].any()
    assert valid[:, 10:-10].float().mean() > 0.95


def test_a_clean_pan_is_steady_and_trembling_noise_is_not():
    clip = panning()
    pairs = correspondences(clip)
    noise = np.random.default_rng(0).normal(0, 10, clip.shape)
    noisy = (clip + noise).clip(0, 255).astype(np.uint8)
    assert warping_error(clip, pairs) < 0.5
    # two independent frames of noise, the warped one averaged little at near-whole-pixel motion
    expected = 1000 * 2 * (10 / 255) ** 2
    assert warping_error(noisy, pairs) == pytest.approx(expected, rel=0.25)


def test_brightness_jump_gives_its_square():
    clip = np.repeat(texture()[None] // 2, 2, axis=0)
    pairs = correspondences(clip)
    clip[1] += 51
    assert warping_error(clip, pairs) == pytest.approx(1000 * 0.2**2, rel=0.01)


def test_without_a_mask_occluded_pixels_count_and_lost_ones_do_not():
    """A square appears: it is occluded, and all of the error; the pan's border never counts."""
    clip = panning()
    clip[1:, 30:50, 40:60] = 255 - clip[1:, 30:50, 40:60]
    pairs = correspondences(clip)
    hidden = 1 - pairs[0].valid.float().sum() / pairs[0].inside.float().sum()
    assert hidden > 0.02
    masked, unmasked = (warping_error(clip[:2], pairs[:1], masked=m) for m in (True, False))
    assert unmasked > 2 * masked
    clip[0, :, :2] = 0  # on its way out
    assert warping_error(clip[:2], pairs[:1], masked=False) == pytest.approx(unmasked, rel=0.05)


def test_motion_boundaries_are_left_out_where_asked_for():
    """Two halves move apart: what lies on their edge counts by rule, and not with the test."""
    clip = panning(num_frames=2)

    def step_edge(frames):
        flow = torch.zeros(1, 2, *frames.shape[-2:])
        flow[:, 0, :, 64:] = 0.5
        return flow, -flow

    plain, strict = (correspondences(clip, step_edge, boundaries=b)[0] for b in (False, True))
    lost = plain.valid & ~strict.valid
    assert lost[..., 63].all()
    assert int(lost.sum()) == clip.shape[1]
    assert not (strict.valid & ~plain.valid).any()
    assert torch.equal(plain.flow, strict.flow)


def test_one_frame_has_no_error():
    clip = texture()[None]
    assert warping_error(clip, correspondences(clip)) == 0
    assert flicker(clip, clip) == 0


def test_flicker_is_the_change_that_the_truth_does_not_have():
    truth = np.repeat(texture()[None] // 2, 4, axis=0)
    clip = truth.copy()
    clip[1::2] += 6
    assert flicker(clip, truth) == pytest.approx(6, abs=0.1)
    assert flicker(truth + 20, truth) == pytest.approx(0, abs=0.01)


def test_a_clip_that_moves_alike_has_no_tof():
    pairs = correspondences(panning())
    assert flow_difference(pairs, pairs) == 0
    assert flow_difference([], []) == 0


def test_tof_is_the_difference_of_the_motions():
    still = np.repeat(texture(cols=192)[None, :, :128], 4, axis=0)
    measured = flow_difference(correspondences(still), correspondences(panning()))
    assert measured == pytest.approx(3, abs=0.6)  # flow near the borders is guessed


def test_own_motion_is_no_flicker_but_changes_of_brightness_are():
    clip = panning()
    steady = own_flicker(clip, correspondences(clip))
    clip = clip // 2
    clip[1::2] += 8
    assert steady < 1
    assert own_flicker(clip, correspondences(clip)) == pytest.approx(8, abs=1.5)


def test_what_is_hidden_is_no_flicker_along_the_own_motion():
    clip = np.repeat(texture()[None] // 2, 2, axis=0)
    clip[1, :, 80:] += 90
    valid = torch.ones(1, 1, 96, 160, dtype=torch.bool)
    everywhere = valid.clone()
    valid[..., 80:] = False
    motion = PairMotion(flow=torch.zeros(1, 2, 96, 160), inside=everywhere, valid=valid)
    assert own_flicker(clip, [motion]) == 0
    assert own_flicker(clip, [replace(motion, valid=everywhere)]) == pytest.approx(45, abs=1)
