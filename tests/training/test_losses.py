"""The losses see what they are for, and nothing else."""

import math

import pytest
import torch

from legato.evaluation.steadiness import flicker
from legato.training.batches import unit_range
from legato.training.losses import (
    PixelLoss,
    PixelLossWeights,
    detail_loss,
    flicker_loss,
    grain_excess,
    lattice_excess,
    line_ratios,
    shifted_and_reduced,
    spectral_distance,
    warping_loss,
)


def noise(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 0.3


def lattice(size, period):
    x = torch.arange(size)
    return 0.1 * ((x % period) == 0).float().expand(1, 3, size, size)


def test_equal_pictures_cost_nothing():
    frames = noise(2, 3, 96, 96)
    total, parts = PixelLoss(PixelLossWeights(), None)(frames, frames, torch.Generator())
    assert total.item() == 0
    assert set(parts) == {"l1", "spectral", "grain", "lattice", "detail"}


@pytest.mark.parametrize("period", [2, 4])
def test_a_lattice_shows_in_the_line_ratio_and_in_the_excess(period):
    clean = noise(1, 3, 96, 96)
    marked = clean + lattice(96, period)
    lines = {4: 0, 2: 1}
    rise = line_ratios(marked, -1)[lines[period]] - line_ratios(clean, -1)[lines[period]]
    assert rise > 0.5
    assert lattice_excess(marked, clean) > 0.5
    assert lattice_excess(marked.mT, clean.mT) == pytest.approx(
        lattice_excess(marked, clean).item()
    )
    assert lattice_excess(clean, marked) < 1e-6  # rounding of the line that is not marked


def test_a_line_ratio_is_one_of_power():
    clean, mark = noise(1, 3, 96, 96), 10 * lattice(96, 4)
    plain, doubled = (line_ratios(clean + strength * mark, -1)[0] for strength in (1, 2))
    assert (doubled - plain).item() == pytest.approx(math.log(4), abs=0.1)


def test_grain_counts_where_the_truth_is_smooth_and_not_where_it_is_missing():
    smooth, weave = torch.zeros(1, 3, 64, 64), 0.05 * noise(1, 3, 64, 64)
    assert grain_excess(smooth + weave, smooth) > 0.005
    assert grain_excess(smooth, smooth + weave) == 0


def test_spectral_distance_ignores_where_texture_lies_but_not_how_much_there_is():
    texture = noise(1, 3, 64, 64)
    moved = texture.roll((5, 9), dims=(-2, -1))
    assert spectral_distance(moved, texture) < 1e-4
    assert spectral_distance(0.5 * texture, texture) > 0.3


def test_detail_counts_where_it_is_missing_and_not_where_it_is_drawn_too_strongly():
    texture = noise(2, 3, 64, 64)
    assert detail_loss(0.8 * texture, texture) == pytest.approx(0.2, abs=1e-3)
    assert detail_loss(1.5 * texture, texture) == pytest.approx(0, abs=1e-6)
    assert detail_loss(-texture, texture) > 0.99
    assert detail_loss(texture + 1, texture) < 0.01  # brightness is no detail
    pattern = 0.3 * torch.arange(64).mul(torch.pi / 8).sin().expand(1, 3, 64, 64)
    assert detail_loss(0.2 * pattern, pattern) > 0.6
    grainy = 0.2 * pattern + 0.3 * noise(1, 3, 64, 64)
    assert detail_loss(grainy, pattern) > 0.4  # other detail does not make up for it


def test_shifted_copies_depend_on_the_generator_only():
    frames = noise(1, 3, 64, 64)
    first = shifted_and_reduced(frames, torch.Generator().manual_seed(3))
    again = shifted_and_reduced(frames, torch.Generator().manual_seed(3))
    assert torch.equal(first, again)
    sizes = {
        shifted_and_reduced(frames, torch.Generator().manual_seed(k)).shape[-1] for k in range(40)
    }
    assert min(sizes) < 0.6 * 64
    assert 57 <= max(sizes) <= 64


def test_a_clip_that_follows_its_flow_has_no_warping_loss_and_flicker_has():
    still = noise(1, 1, 3, 16, 16).expand(1, 4, 3, 16, 16).clone()
    flow, visible = torch.zeros(1, 3, 2, 16, 16), torch.ones(1, 3, 1, 16, 16)
    assert warping_loss(still, flow, visible) < 1e-8
    flickering = still + torch.tensor([0.0, 0.2, 0.0, 0.2]).view(1, 4, 1, 1, 1)
    assert warping_loss(flickering, flow, visible).item() == pytest.approx(0.04, rel=0.01)


def test_hidden_places_neither_add_to_a_warping_loss_nor_thin_it_out():
    clip = torch.zeros(1, 2, 3, 16, 16)
    clip[:, 1] = 0.2
    clip[:, 1, :, 8:] = 5.0
    visible = torch.ones(1, 1, 1, 16, 16)
    visible[..., 8:, :] = 0
    loss = warping_loss(clip, torch.zeros(1, 1, 2, 16, 16), visible)
    assert loss.item() == pytest.approx(0.04, rel=0.01)


def test_moving_content_follows_its_flow():
    base = noise(3, 16, 20)
    clip = torch.stack([base.roll(k, dims=-1) for k in range(3)])[None]
    flow = torch.zeros(1, 2, 2, 16, 20)
    flow[:, :, 0] = 1.0
    visible = torch.zeros(1, 2, 1, 16, 20)
    visible[..., 2:-3] = 1
    assert warping_loss(clip, flow, visible) < 1e-8
    assert warping_loss(clip, -flow, visible) > 1e-2


def test_flicker_counts_as_it_is_measured():
    made, truth = torch.randint(0, 256, (2, 4, 3, 16, 24), dtype=torch.uint8)
    frames = [unit_range(clip)[None] for clip in (made, truth)]
    measured = flicker(*(clip.permute(0, 2, 3, 1).numpy() for clip in (made, truth)))
    assert 127.5 * flicker_loss(*frames).item() == pytest.approx(measured, rel=0.02)
    steady = frames[1] + 0.25 * torch.randn(3, 16, 24)  # the same error in every frame
    assert flicker_loss(steady, frames[1]).item() == pytest.approx(0, abs=1e-6)
