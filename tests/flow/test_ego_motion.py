"""Ego-motion: the sides move away from the point ahead as their depth says, the ground is left.

And the motion of a camera is found in a flow, whatever else moves.
"""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from legato.flow.dis import DisFlow
from legato.flow.driving_camera import FOCAL, HORIZON
from legato.flow.ego_motion import (
    WALL_M,
    Corridor,
    Motion,
    Plane,
    camera_motion,
    place_before,
    places_of,
)
from legato.flow.steady import driven_frames, steady_frames
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


def picture(rows=ROWS, columns=COLUMNS):
    return torch.rand(1, 3, rows, columns, generator=torch.Generator().manual_seed(0)) * 2 - 1


def backward_flow(motion, around):
    places = places_of(picture())
    return (place_before(places, motion, around) - places)[None] * COLUMNS


@settings(max_examples=20)
@given(
    around=st.sampled_from([Plane(), Corridor()]),
    share=st.floats(-1, 1),
    dx=st.floats(-5, 5),
    dy=st.floats(-3, 3),
)
def test_the_cameras_motion_is_found_whatever_moves_by_itself(around, share, dx, dy):
    advance = share * (0.1 if isinstance(around, Plane) else 4.0)
    motion = Motion(advance, torch.tensor([dx, dy]).view(2, 1, 1) / COLUMNS)
    flow = backward_flow(motion, around)
    flow[:, :, 20:90, 60:150] = torch.tensor([-20.0, 15.0]).view(1, 2, 1, 1)  # a twelfth
    found = camera_motion(flow, picture(), around)
    assert found.advance == pytest.approx(advance, abs=0.01 * max(abs(advance), 1))
    torch.testing.assert_close(found.shift * COLUMNS, motion.shift * COLUMNS, atol=0.2, rtol=0)


@pytest.mark.parametrize("around", [Plane(), Corridor()])
def test_a_flat_picture_has_a_motion_too(around):
    flow = torch.full((1, 2, ROWS, COLUMNS), 2.0)
    found = camera_motion(flow, torch.zeros(1, 3, ROWS, COLUMNS), around)
    assert found.advance == pytest.approx(0, abs=1e-6)
    torch.testing.assert_close(found.shift, torch.full((2, 1, 1), 2.0 / COLUMNS))


@settings(max_examples=20)
@given(seed=st.integers(0, 99), size_px=st.sampled_from([1.0, 30.0, 300.0]))
def test_any_flow_gives_a_motion_that_is_a_number(seed, size_px):
    flow = size_px * torch.randn(1, 2, 24, 40, generator=torch.Generator().manual_seed(seed))
    for around in (Plane(), Corridor()):
        found = camera_motion(flow, picture(24, 40), around)
        assert np.isfinite(found.advance)
        assert found.shift.isfinite().all()


def test_the_speed_of_renders_is_read_from_two_frames_of_them():
    errors, speeds = [], []
    for seed in range(900_000, 900_012):
        world = World(seed)
        begin = max(np.arange(0, 60, 0.5), key=world.road.own.speed)
        clip, truths = world.clip([begin, begin + 0.2], (ROWS, COLUMNS))
        frames = torch.from_numpy(clip).permute(0, 3, 1, 2) / 127.5 - 1
        _, backward = DisFlow()(frames)
        found = camera_motion(backward, frames[1:], Corridor()).advance / 0.2
        errors.append(abs(found - truths[1].speed))
        speeds.append(truths[1].speed)
    assert np.median(errors) < 0.35 * np.median(speeds)


def test_after_two_frames_of_a_drive_walls_foretell_better_than_one_zoom():
    errors = {"walls": [], "zoom": [], "held": []}
    for seed in range(900_000, 900_016):
        world = World(seed)
        begin = max(np.arange(0, 60, 0.5), key=world.road.own.speed)
        clip, _ = world.clip([begin + k * 4 / 15 for k in range(4)])
        frames = torch.from_numpy(clip).permute(0, 3, 1, 2) / 127.5 - 1
        walls, seen = steady_frames(frames[:2], 2, DisFlow(), Corridor())
        zoom, _ = steady_frames(frames[:2], 2, DisFlow(), Plane())
        for name, guess in (("walls", walls), ("zoom", zoom), ("held", frames[1:2])):
            is_wall = Corridor().is_known(places_of(frames))
            in_cells = F.avg_pool2d(is_wall * seen * (guess - frames[2:]), 4)  # as latents see it
            errors[name].append(float(in_cells.abs().mean()))
    walls, zoom, held = (np.mean(errors[name]) for name in ("walls", "zoom", "held"))
    assert walls < 0.95 * zoom
    assert walls < 0.85 * held
