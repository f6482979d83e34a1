"""The smoother between frames."""

from dataclasses import replace

import pytest
import torch
from draws import draw
from tiny_upscaler import moving_clip

from legato.diffusion.denoiser import Step
from legato.diffusion.interleaved_smoother import FlowBetween, InterleavedSmoother
from legato.flow.dis import DisFlow


def smoother(first_step=2, between=None):
    return InterleavedSmoother(
        decode=lambda z: z[:, :, :3] * 2,
        encode=lambda frames: torch.cat((frames, frames[:, :, :1]), dim=2) / 2,
        between=between or (lambda first, second, _: (first + second) / 2),
        times=range(5),
        first_step=first_step,
    )


def at(index):
    return Step(index=index, num_steps=8, timestep=500)


@pytest.mark.parametrize(("index", "replaced"), [(1, []), (2, [1, 3]), (3, [2]), (4, [])])
def test_odd_and_then_even_frames_are_replaced(index, replaced):
    x0 = draw(1, 5, 4, 6, 6)
    out = smoother()(at(index), x0)
    changed = [t for t in range(5) if not torch.equal(out[:, t], x0[:, t])]
    assert changed == replaced
    for t in replaced:
        torch.testing.assert_close(out[:, t, :3], (x0[:, t - 1, :3] + x0[:, t + 1, :3]) / 2)


@pytest.mark.parametrize("frames", [1, 2])
def test_a_clip_without_inner_frames_stays(frames):
    x0 = draw(1, frames, 4, 6, 6)
    assert smoother()(at(2), x0) is x0


def test_the_frame_between_two_lies_half_way_along_the_flow():
    clip = moving_clip(3, 48, 64)
    middle = FlowBetween(DisFlow())(clip[0], clip[2], 0.5)
    inside = (..., slice(8, -8), slice(8, -8))
    error = (middle - clip[1])[inside].abs().mean()
    assert error < 0.3 * ((clip[0] + clip[2]) / 2 - clip[1])[inside].abs().mean()


@pytest.mark.parametrize("k", range(5))
def test_a_frame_between_two_is_where_its_time_says(k):
    wide = draw(3, 16, 40)
    clip = [wide[..., t : t + 32] for t in range(5)]  # one pixel to the left per frame
    there = torch.tensor([-4.0, 0.0]).view(1, 2, 1, 1).expand(1, 2, 16, 32)
    middle = FlowBetween(lambda _: (there, -there))(clip[0], clip[4], k / 4)
    torch.testing.assert_close(middle[..., 4:-4], clip[k][..., 4:-4], rtol=1e-4, atol=1e-4)


def test_the_smoother_tells_the_share_of_time():
    shares = []

    def between(first, second, t):
        shares.append(t)
        return first

    replace(smoother(between=between), times=(0, 1, 4, 5, 9))(at(2), draw(1, 5, 4, 6, 6))
    assert shares == [1 / 4, 1 / 5]
