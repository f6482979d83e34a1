"""The distance of random features tells independent frames from those of a video."""

import numpy as np
import pytest

from legato.errors import InputError
from legato.evaluation.frechet import frechet_distance, random_features


def discs(seed, clips=40, num_frames=6, size=24):
    """A soft disc per clip that moves evenly, each of its own colour."""
    rng = np.random.default_rng(seed)
    axis = np.arange(size)
    made = []
    for _ in range(clips):
        start, speed = rng.uniform(4, 20, 2), rng.uniform(-1.5, 1.5, 2)
        colour = rng.uniform(80, 255, 3)
        at = start + speed * np.arange(num_frames)[:, None]
        far = (axis[:, None] - at[:, 0, None, None]) ** 2 + (axis - at[:, 1, None, None]) ** 2
        made.append(np.exp(-far / 12)[..., None] * colour)
    return np.stack(made).astype(np.uint8)


@pytest.fixture(scope="module")
def real():
    return discs(0)


def distance(real, made, kind):
    ours, theirs = random_features(real, kind), random_features(made, kind)
    return frechet_distance(ours, theirs, scale=ours)


def test_the_same_clips_have_no_distance(real):
    assert distance(real, real, "video") == pytest.approx(0, abs=1e-6)


def test_independent_frames_are_far_as_video_and_near_as_frames(real):
    others = discs(1)
    mixed = np.stack([others[(np.arange(6) * 7 + k) % 40, np.arange(6)] for k in range(40)])
    floor, video = distance(real, others, "video"), distance(real, mixed, "video")
    assert video > 3 * floor
    assert distance(real, mixed, "frame") < 1.5 * distance(real, others, "frame") + 0.5


def test_it_is_the_distance_of_normal_distributions():
    rng = np.random.default_rng(0)
    a = rng.normal(size=(4000, 2))
    b = rng.normal(size=(4000, 2)) * 3 + (1, 0)
    assert frechet_distance(a, b, scale=a) == pytest.approx(1 + 2 * (3 - 1) ** 2, rel=0.05)


def test_one_clip_is_refused(real):
    one = random_features(real[:1], "video")
    with pytest.raises(InputError, match="1 and 1 samples"):
        frechet_distance(one, one, scale=one)


def test_sets_of_one_distribution_are_near_whatever_their_sizes():
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(8, 64))
    draw = lambda count: rng.normal(size=(count, 8)) @ mixing  # noqa: E731
    scale, few = draw(2000), draw(128)
    same, more = (frechet_distance(few, draw(count), scale=scale) for count in (128, 1024))
    assert more < same
