"""Measurements of driving clips against scenes whose truth is known; their errors stand here.

The scenes come from seeds that nothing is trained on. Medians, and what holds for the stated share.
"""

import cv2
import numpy as np
import pytest

from legato.evaluation.driving_state import (
    car_ahead,
    colour_drift,
    lane_offset,
    nearing,
    own_speed,
)
from legato.flow.driving_camera import CAMERA_HEIGHT_M, FOCAL, HORIZON
from legato.training.driving.clips import HELD_BACK_FROM, ClipOptions, moving_moment
from legato.training.driving.render import World

RATE = 7.5


@pytest.fixture(scope="module")
def scenes():
    """24 clips of three frames from anywhere in the first 80 s, with their truth."""
    found = []
    for seed in range(HELD_BACK_FROM, HELD_BACK_FROM + 24):
        start = float(np.random.default_rng(seed).uniform(0, 80))
        found.append(World(seed).clip([start + k / RATE for k in range(3)]))
    return found


@pytest.mark.slow
def test_speed_is_found_to_half_a_metre_per_second_in_most_clips(scenes):
    errors, moves, signs = [], [], []
    for clip, truth in scenes:
        true = np.median([t.speed for t in truth])
        found = np.median(own_speed(clip, RATE))
        errors.append(abs(found - true))
        if abs(true) > 2:
            moves.append(abs(found) > 0.8)
        if abs(true) < 0.05:
            signs.append(abs(found) < 0.5)
    assert np.median(errors) < 0.8
    assert np.quantile(errors, 0.75) < 2.0
    assert np.mean(moves) > 0.6
    assert np.mean(signs) > 0.85


@pytest.mark.slow
def test_the_place_in_the_lane_is_found_to_a_decimetre(scenes):
    errors, clear = [], []
    for clip, truth in scenes:
        offsets, clearness = lane_offset(clip)
        errors.append(np.abs(offsets - [t.lane_offset_m for t in truth]))
        clear.append(clearness > 3)
    errors, clear = np.concatenate(errors), np.concatenate(clear)
    assert clear.mean() > 0.7
    assert np.median(errors[clear]) < 0.1
    assert np.quantile(errors[clear], 0.9) < 0.5


@pytest.mark.slow
def test_the_car_ahead_is_found(scenes):
    hits, alarms, errors = [], [], []
    for clip, truths in scenes:
        for found, truth in zip(car_ahead(clip), truths, strict=True):
            ahead = [
                b.distance_m
                for b in truth.boxes
                if np.cos(b.heading) > 0.5 and b.left < 0.5 < b.right and b.distance_m > 4
            ]
            if ahead and min(ahead) < 25:
                hits.append(not np.isnan(found))
                errors.append(abs(found / min(ahead) - 1))
            elif not ahead:
                alarms.append(not np.isnan(found))
    assert np.mean(hits) > 0.8
    assert np.mean(alarms) < 0.4
    assert np.nanmedian(errors) < 0.3


@pytest.fixture(scope="module")
def moving():
    """24 clips of key frames, every other one reversing."""
    options, found = ClipOptions(), []
    for number in range(24):
        world, rng = World(HELD_BACK_FROM + number), np.random.default_rng((number, 5))
        is_forward = number % 2 == 0
        begin = moving_moment(world, rng, options, is_forward=is_forward)
        if begin is not None:
            times = [begin + k / options.key_frame_rate for k in range(4)]
            found.append((world.clip(times)[0], is_forward))
    return found


@pytest.mark.slow
def test_the_direction_of_motion_is_told_without_fail(moving):
    directions = [is_forward for _, is_forward in moving]
    assert min(directions.count(True), directions.count(False)) >= 10
    read = [bool(np.median(nearing(clip)) > 0) for clip, _ in moving]
    assert read == directions


def test_larger_pictures_are_measured_alike():
    """Of the same worlds; what is told in pixels is told in larger ones."""
    times = [6.0 + k / RATE for k in range(3)]
    small, large = (World(HELD_BACK_FROM + 3).clip(times, s)[0] for s in ((64, 128), (128, 256)))
    truth = World(HELD_BACK_FROM + 3).clip(times)[1]
    assert own_speed(large, RATE) == pytest.approx(own_speed(small, RATE), abs=0.5)
    assert lane_offset(large)[0] == pytest.approx(lane_offset(small)[0], abs=0.15)
    assert nearing(large) == pytest.approx(2 * nearing(small), rel=0.25, abs=0.1)
    assert (np.isnan(car_ahead(large)) == np.isnan(car_ahead(small))).all()
    assert np.median(own_speed(large, RATE)) == pytest.approx(truth[1].speed, abs=1.5)


def test_a_zoom_is_told_in_pixels():
    rng = np.random.default_rng(5)
    still = cv2.resize(rng.integers(0, 256, (16, 32, 3), np.uint8), (128, 64))
    zoom = np.array([[1.02, 0, -0.02 * 64], [0, 1.02, -0.02 * HORIZON * 64]])
    clip = np.stack([still, cv2.warpAffine(still, zoom, (128, 64), flags=cv2.INTER_CUBIC)])
    assert nearing(clip) == pytest.approx([0.75], abs=0.25)  # 2% of 38 px, the mean distance


def road_moving_by(metres, frames=3):
    """A flat grey road with random blots on its ground, seen from places `metres` apart."""
    rng = np.random.default_rng(3)
    ground = rng.uniform(0, 1, (800, 160)).astype(np.float32)
    y, x = np.mgrid[:64, :128] + 0.5
    below = y > HORIZON * 64 + 2
    z = np.where(below, FOCAL * 128 * CAMERA_HEIGHT_M / np.maximum(y - HORIZON * 64, 1), 1.0)
    across = (x - 64) * z / (FOCAL * 128)
    clip = []
    for k in range(frames):
        s = ((z + metres * k) / 0.25).astype(int) % 800
        at = (across / 0.25).astype(int) % 160
        luma = np.where(below, 60 + 120 * ground[s, at], 200)
        clip.append(np.repeat(luma[..., None], 3, axis=2).astype(np.uint8))
    return np.stack(clip)


@pytest.mark.parametrize("metres", [-0.4, 0.0, 0.6, 1.5, 2.4])
def test_a_known_movement_is_measured(metres):
    assert own_speed(road_moving_by(metres), RATE) == pytest.approx(metres * RATE, abs=0.9)


def test_what_comes_nearer_moves_outwards_and_what_stands_still_does_not():
    assert (nearing(road_moving_by(0.6)) > 0.07).all()
    assert (nearing(road_moving_by(-0.4)) < -0.07).all()
    assert nearing(road_moving_by(0.0)) == pytest.approx([0, 0], abs=1e-6)


def test_without_anything_to_follow_nothing_moves():
    assert (nearing(np.full((3, 64, 128, 3), 90, np.uint8)) == 0).all()


def test_a_drift_of_colour_is_measured_and_its_absence_too():
    clip = np.random.default_rng(0).integers(40, 200, (8, 16, 32, 3), dtype=np.uint8)
    clip[:] = clip[:1]
    assert colour_drift(clip, 3) == (0.0, 0.0)
    clip[-3:] += 20
    means, contrast = colour_drift(clip, 3)
    assert means == pytest.approx(20)
    assert contrast == pytest.approx(0, abs=1e-9)
