"""Pixels are fetched from where a motion leads: as bilinear warping does."""

import torch

from legato.flow.warp import warp
from legato.models.places import Places


def test_fetches_what_warping_gives():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3, 8, 7, 9, generator=generator)
    flow = torch.randn(3, 2, 7, 9, generator=generator) * 0.5
    motion = torch.cat((flow, torch.ones(3, 1, 7, 9)), dim=1)
    rows = x.permute(0, 2, 3, 1).reshape(-1, 8)
    found = Places.of(motion).fetch(rows).view(3, 7, 9, 8).permute(0, 3, 1, 2)
    expected = warp(x, flow, padding="border")
    near = found[..., 2:-2, 2:-2]
    torch.testing.assert_close(near, expected[..., 2:-2, 2:-2], atol=1e-5, rtol=1e-5)
    edges = (flow.abs() < 1).all(dim=1, keepdim=True).expand_as(found)
    torch.testing.assert_close(found[edges], expected[edges], atol=1e-5, rtol=1e-5)


def test_counts_by_trust_and_nothing_from_outside():
    motion = torch.zeros(1, 3, 4, 5)
    motion[:, 2] = 0.25
    motion[0, 0, :, -1] = 1.5  # leads out of the frame
    rows = torch.arange(20.0)[:, None] + 1
    found = Places.of(motion).fetch(rows).view(4, 5)
    expected = rows.view(4, 5) / 4
    expected[:, -1] = 0
    torch.testing.assert_close(found, expected)


def test_gradients_reach_what_is_fetched():
    rows = torch.randn(20, 3, requires_grad=True)
    motion = torch.full((1, 3, 4, 5), 0.5)
    Places.of(motion).fetch(rows).sum().backward()
    torch.testing.assert_close(rows.grad.sum(), torch.tensor(20 * 3 * 0.5))
