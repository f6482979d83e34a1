"""Cuts are found where shots change, and nowhere else."""

import numpy as np
import pytest
from tiny_files import picture

from legato.video.shots import ShotDetector


def shot(kind, count, *, seed=0, noise=0.0):
    rng = np.random.default_rng(seed)
    base = rng.integers(0, 255, (6, 8, 3)).repeat(12, 0).repeat(12, 1)
    for index in range(count):
        moved = np.roll(base, index * kind, axis=1) if kind else base
        noisy = moved + rng.normal(0, noise, moved.shape)
        yield np.clip(noisy, 0, 255).astype(np.uint8)


def cuts(frames, *, first=0):
    detector = ShotDetector()
    for index, frame in enumerate(frames):
        detector.feed(first + index, frame)
    return detector.cuts()


@pytest.mark.parametrize("noise", [0, 12, 30])
@pytest.mark.parametrize("motion", [0, 1])
def test_a_change_of_shot_is_found_to_the_frame(noise, motion):
    frames = [*shot(motion, 15, seed=1, noise=noise), *shot(motion, 20, seed=2, noise=noise)]
    assert cuts(frames) == [15]


@pytest.mark.parametrize("noise", [0, 12, 40])
def test_one_moving_noisy_shot_has_no_cut(noise):
    assert cuts(shot(2, 60, noise=noise)) == []
    assert cuts(picture(i, (160, 96)) for i in range(40)) == []


@pytest.mark.parametrize("length", [1, 2])
def test_a_flash_is_no_cut(length):
    frames = list(shot(1, 40))
    for index in range(20, 20 + length):
        frames[index] = np.full_like(frames[index], 255)
    assert cuts(frames) == []


def test_several_cuts_and_any_first_index():
    frames = [f for seed in range(4) for f in shot(1, 12, seed=seed)]
    assert cuts(frames, first=1000) == [1012, 1024, 1036]


def test_the_size_of_the_pictures_does_not_matter():
    frames = [*shot(1, 15, seed=1), *shot(1, 15, seed=2)]
    large = [f.repeat(5, 0).repeat(5, 1) for f in frames]
    assert cuts(large) == cuts(frames) == [15]


def test_a_skipped_frame_is_refused():
    detector = ShotDetector()
    detector.feed(3, np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(ValueError, match="after frame 3"):
        detector.feed(5, np.zeros((8, 8, 3), np.uint8))


@pytest.mark.parametrize("motion", [0, 1])
def test_a_flash_that_rises_and_ends_at_once_is_no_cut(motion):
    """Its end stands out, its beginning does not: only the frame before it tells that it ends."""
    frames = list(shot(motion, 40))
    for index, white in ((20, 0.3), (21, 1.0)):
        frames[index] = (frames[index] * (1 - white) + 255 * white).astype(np.uint8)
    assert cuts(frames) == []
