"""Driving on: the sides move away from the point ahead as their depth says, the ground is left."""

import numpy as np
import pytest
import torch

from legato.flow.driving_camera import FOCAL, HORIZON
from legato.flow.driving_on import WALL_M, driven_frames
from legato.training.driving.render import World

ROWS, COLUMNS = 192, 384


def places():
    """Return columns and rows of pixels, from the point ahead."""
    right = torch.arange(COLUMNS) + 0.5 - COLUMNS / 2
    down = torch.arange(ROWS) + 0.5 - HORIZON * ROWS
    return torch.meshgrid(right, down, indexing="xy")


@pytest.mark.parametrize("metres", [2.0, 0.5, 0.0])
def test_a_point_of_a_wall_moves_as_its_depth_says(metres):
    x, y = places()
    picture = torch.stack((x / COLUMNS, y / ROWS, torch.zeros_like(x)))[None]
    made, seen = driven_frames(picture, 3, metres)
    for k, (frame, known) in enumerate(zip(made, seen, strict=True), start=1):
        depth = WALL_M * FOCAL * COLUMNS / x.abs()
        wanted = picture[0, :2] * depth / (depth + k * metres)
        is_known = (known[0] > 0.99).expand(2, -1, -1)
        assert is_known.float().mean() > 0.4
        torch.testing.assert_close(frame[:2][is_known], wanted[is_known], atol=1e-3, rtol=0)


def test_backwards_the_margins_are_not_foreseen():
    _, seen = driven_frames(torch.zeros(1, 3, ROWS, COLUMNS), 4, -2.0)
    shares = [float(s.mean()) for s in seen]
    assert shares == sorted(shares, reverse=True)
    assert shares[-1] < shares[0] < 0.9
    _, forwards = driven_frames(torch.zeros(1, 3, ROWS, COLUMNS), 4, 2.0)
    assert float(forwards[0].mean()) > shares[0]


def test_the_ground_before_the_camera_is_left_out():
    _, seen = driven_frames(torch.zeros(1, 3, 64, 128), 2, 1.0)
    assert seen[:, :, 40:, 54:74].max() == 0
    assert seen[:, :, :20].min() > 0.99


def test_rendered_drives_are_foretold_better_than_by_holding_the_frame():
    foretold, held = [], []
    for seed in range(900_000, 900_008):
        world = World(seed)
        begin = max(np.arange(0, 60, 0.5), key=world.road.own.speed)
        times = [begin + k / 15 for k in range(5)]
        clip, _ = world.clip(times)
        frames = torch.from_numpy(clip).permute(0, 3, 1, 2) / 127.5 - 1
        made, seen = driven_frames(frames[:1], 4, world.road.own.speed(begin) / 15)
        for errors, guess in ((foretold, made), (held, frames[:1])):
            errors.append(float((seen * (guess - frames[1:]).abs()).mean()))
    assert np.mean(foretold) < 0.9 * np.mean(held)
