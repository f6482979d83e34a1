"""Frames fused with the first and the one before: shapes early, pixels midway, colours late."""

import pytest
import torch
from draws import draw
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from legato.diffusion.denoiser import Step
from legato.diffusion.frame_fusion import (
    COLOR,
    PIXEL,
    SHAPE,
    ColorFusion,
    PixelFusion,
    ShapeFusion,
    acts,
)
from legato.flow.correspondence import BackMotion, to_first
from legato.flow.dis import DisFlow
from legato.flow.warp import warp


def motion(count=2, rows=24, cols=32, *, flow=(0.0, 0.0), hidden=False):
    field = torch.tensor(flow)[:, None, None].expand(count, 2, rows, cols)
    return BackMotion(flow=field, hidden=torch.full((count, rows, cols), hidden))


def at(share, num_steps=20):
    index = next(i for i in range(num_steps) if acts(share, step(i, num_steps)))
    return step(index, num_steps)


def step(index, num_steps=20):
    return Step(index=index, num_steps=num_steps, timestep=500)


def pixels(first, previous):
    """A fusion whose latents are the frames' own pixels, four apart."""
    return PixelFusion(
        decode=lambda z: z.repeat_interleave(4, -1).repeat_interleave(4, -2),
        encode=lambda frames: frames[..., ::4, ::4],
        to_first=first,
        to_previous=previous,
    )


@given(st.integers(1, 60), st.sampled_from([SHAPE, PIXEL, COLOR]))
def test_each_share_has_a_step(num_steps, share):
    assert any(acts(share, step(index, num_steps)) for index in range(num_steps))


def test_shares_of_20_steps():
    found = [[i for i in range(20) if acts(share, step(i))] for share in (SHAPE, PIXEL, COLOR)]
    assert found == [[0, 1], list(range(10, 16)), list(range(16, 20))]


@pytest.mark.parametrize(
    ("edit", "share"),
    [
        (ShapeFusion(to_first=motion()), SHAPE),
        (pixels(motion(), motion()), PIXEL),
        (ColorFusion(), COLOR),
    ],
    ids=lambda each: type(each).__name__,
)
def test_edits_act_in_their_share_and_never_on_the_first_frame(edit, share):
    x0 = draw(2, 3, 3, 6, 8)
    for index in range(20):
        out = edit(step(index), x0)
        assert torch.equal(out[:, 0], x0[:, 0])
        assert torch.equal(out, x0) != acts(share, step(index))
    assert edit(at(share), x0[:, :1]) is not None
    assert torch.equal(edit(at(share), x0[:, :1]), x0[:, :1])


def test_what_stands_still_takes_the_first_frames_shape():
    x0 = draw(1, 3, 4, 6, 8)
    out = ShapeFusion(to_first=motion())(at(SHAPE), x0)
    torch.testing.assert_close(out, x0[:, :1].expand_as(x0))


def test_shapes_move_by_cells_and_stay_where_they_are_hidden():
    x0 = draw(1, 3, 4, 6, 8)
    seen = motion(flow=(8.0, 0.0))  # two cells of four pixels
    seen.hidden[1] = True
    out = ShapeFusion(to_first=seen)(at(SHAPE), x0)
    torch.testing.assert_close(out[:, 1, ..., :6], x0[:, 0, ..., 2:])
    assert torch.equal(out[:, 2], x0[:, 2])


def test_pixels_come_from_the_first_frame_then_from_the_one_before_then_stay():
    frames = draw(1, 3, 3, 24, 32)
    hidden = motion(hidden=True)
    first = pixels(motion(), hidden).fused(frames)
    torch.testing.assert_close(first, frames[:, :1].expand_as(frames))
    partly = motion()
    partly.hidden[1] = True
    previous = pixels(hidden, partly).fused(frames)
    torch.testing.assert_close(previous[:, 1], frames[:, 0])
    torch.testing.assert_close(previous[:, 2], frames[:, 2])
    torch.testing.assert_close(pixels(hidden, hidden).fused(frames), frames)


def test_pixels_move_latents_half_way():
    x0 = draw(1, 3, 3, 6, 8)
    out = pixels(motion(), motion())(at(PIXEL), x0)
    torch.testing.assert_close(out[:, 1:], (x0[:, 1:] + x0[:, :1]) / 2)
    hidden = motion(hidden=True)
    assert torch.equal(pixels(hidden, hidden)(at(PIXEL), x0), x0)


def test_edges_of_what_is_hidden_are_soft():
    seen = motion()
    seen.hidden[:, :, 16:] = True
    frames = torch.stack([torch.zeros(3, 24, 32), torch.ones(3, 24, 32), torch.ones(3, 24, 32)])
    row = pixels(seen, motion(hidden=True)).fused(frames[None])[0, 1, 0, 12]
    assert (row[:8] == 0).all()
    torch.testing.assert_close(row[16:], torch.ones(16))
    assert (row[1:] >= row[:-1] - 1e-6).all()


def test_what_encoding_loses_is_added_before():
    lossy = PixelFusion(
        decode=lambda z: z,
        encode=lambda frames: 0.9 * frames,
        to_first=motion(),
        to_previous=motion(),
    )
    frames = draw(1, 3, 3, 24, 32).clamp(-1, 1)
    torch.testing.assert_close(lossy.faithful(frames), 0.99 * frames)
    wild = PixelFusion(
        decode=lambda z: -z, encode=lambda f: f, to_first=motion(), to_previous=motion()
    )
    far = torch.ones(1, 3, 3, 24, 32)
    assert torch.equal(wild.faithful(far), far)


def test_colours_have_the_first_frames_mean_and_spread():
    x0 = draw(2, 3, 4, 6, 8) * torch.tensor([1.0, 2.0, 3.0]).view(1, 3, 1, 1, 1) + 1
    out = ColorFusion()(at(COLOR), x0)
    for statistic in (torch.mean, torch.std):
        got = statistic(out, dim=(-2, -1))
        torch.testing.assert_close(got, got[:, :1].expand_as(got), rtol=1e-3, atol=1e-3)


def test_the_first_frame_is_found_from_every_later_one():
    coarse = draw(1, 3, 10, 14)
    wide = F.interpolate(coarse, scale_factor=6, mode="bicubic")[0].clamp(-1, 1)
    clip = torch.stack([wide[:, :48, t : t + 64] for t in range(0, 12, 4)])
    found = to_first(clip, DisFlow())
    warped = warp(clip[:1].expand(2, -1, -1, -1), found.flow)
    inside = (..., slice(8, -8), slice(16, -16))
    error = (warped - clip[1:])[inside].abs().mean()
    assert error < 0.2 * (clip[:1] - clip[1:])[inside].abs().mean()
    assert found.hidden[inside].float().mean() < 0.05
    assert found.hidden[1, :, -7:].all()  # has come in since
