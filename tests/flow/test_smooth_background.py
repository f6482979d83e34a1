"""Background: only where the mask is, carried along the flow; masks without weights find motion."""

import pytest
import torch

from legato.flow.background import background_of, smooth_background, widened
from legato.flow.correspondence import CyclicMotion, follow
from legato.flow.dis import DisFlow
from legato.flow.foreground import stand_out


def still(num_frames, rows, cols):
    flow, none = torch.zeros(num_frames, 2, rows, cols), torch.zeros(num_frames, rows, cols).bool()
    return CyclicMotion(
        flow_forward=flow, flow_backward=flow, occluded_forward=none, occluded_backward=none
    )


@pytest.mark.parametrize("num_frames", [1, 2, 5])
def test_without_a_background_nothing_changes(num_frames):
    x = torch.randn(2, num_frames, 3, 8, 12)
    out = smooth_background(x, still(num_frames, 16, 24), torch.zeros(num_frames, 1, 8, 12))
    assert torch.equal(out, x)


@pytest.mark.parametrize("num_frames", [1, 2, 5])
def test_a_still_background_becomes_that_of_the_first_frame(num_frames):
    x = torch.randn(2, num_frames, 3, 8, 12)
    out = smooth_background(x, still(num_frames, 16, 24), torch.ones(num_frames, 1, 8, 12))
    torch.testing.assert_close(out, x[:, :1].expand_as(x), atol=1e-5, rtol=0)


def test_occluded_pixels_keep_their_own_values():
    motion = still(3, 8, 12)
    hidden = torch.ones(3, 8, 12, dtype=torch.bool)
    motion = CyclicMotion(
        flow_forward=motion.flow_forward,
        flow_backward=motion.flow_backward,
        occluded_forward=hidden,
        occluded_backward=hidden,
    )
    x = torch.randn(1, 3, 3, 8, 12)
    assert torch.equal(smooth_background(x, motion, torch.ones(3, 1, 8, 12)), x)


def test_the_input_is_left_alone_and_its_dtype_kept():
    x = torch.randn(1, 3, 3, 8, 8).half()
    before = x.clone()
    out = smooth_background(x, still(3, 8, 8), torch.ones(3, 1, 4, 4))
    assert out.dtype == torch.float16
    assert torch.equal(x, before)


def test_widening_a_binary_mask_takes_the_maximum():
    mask = (torch.rand(2, 1, 20, 24) > 0.95).float()
    padded = torch.nn.functional.pad(mask, (3, 3, 3, 3), mode="replicate")
    assert torch.equal(widened(mask, 7), torch.nn.functional.max_pool2d(padded, 7, stride=1))


def test_background_is_what_does_not_stand_out():
    salient = torch.zeros(1, 1, 20, 20)
    salient[..., 10, 10] = 1
    background = background_of(salient)
    assert background[..., 7:14, 7:14].max() == 0
    assert background.sum() == 400 - 49


def scene(step, pan=0):
    """A bright red square that moves over a textured grey-green ground, which may pan."""
    ground = torch.nn.functional.interpolate(torch.rand(1, 1, 24, 40), size=(96, 160)) * 0.5 - 0.6
    ground = ground.expand(1, 3, -1, -1) + torch.tensor([-0.1, 0.1, -0.1]).view(1, 3, 1, 1)
    frames, truth = [], torch.zeros(3, 1, 48, 64)
    square = torch.rand(3, 32, 32) * 0.3 + torch.tensor([0.7, -0.6, -0.6]).view(3, 1, 1)
    for t in range(3):
        frame = ground[0, :, :, 16 + pan * t : 144 + pan * t].clone()
        left = 40 + step * t
        frame[:, 32:64, left : left + 32] = square
        truth[t, 0, 16:32, left // 2 : left // 2 + 16] = 1
        frames.append(frame)
    return torch.stack(frames).clamp(-1, 1), truth


@pytest.mark.parametrize(("step", "pan"), [(6, 0), (6, 4), (0, 0)])
def test_what_moves_by_itself_or_lies_in_the_middle_stands_out(step, pan):
    frames, truth = scene(step, pan)
    found = stand_out(frames, follow(frames, DisFlow("medium")))
    assert (found * truth).sum() > 0.9 * truth.sum()
    assert found.sum() < 2.5 * truth.sum()


def test_a_clip_of_one_colour_has_a_mask():
    frames = torch.zeros(2, 3, 33, 47)
    found = stand_out(frames, follow(frames, DisFlow("medium")))
    assert found.shape == (2, 1, 16, 23)
    assert ((found == 0) | (found == 1)).all()
