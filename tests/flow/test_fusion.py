"""Fusing finished frames with their neighbours: what it steadies and what it leaves alone."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from legato.flow.fusion import COARSE_WEIGHT, WEIGHT, TemporalFusion, fuse_coarse


def fused(clip: torch.Tensor) -> torch.Tensor:
    return TemporalFusion()(clip, is_last=True)


def textured(rows: int = 48, cols: int = 64) -> torch.Tensor:
    """Return a smooth random picture `3 H W` in [-1, 1]."""
    coarse = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    return torch.nn.functional.interpolate(coarse, size=(rows, cols), mode="bicubic")[0] * 1.6 - 0.8


@settings(max_examples=15)
@given(cuts=st.lists(st.integers(0, 7), max_size=4))
def test_pieces_of_any_length_give_what_the_whole_clip_gives(cuts):
    clip = torch.stack([textured().roll(k, dims=-1) for k in range(7)])
    edges = [0, *sorted(cuts), 7]
    fusion, made = TemporalFusion(), []
    for start, stop in pairwise(edges):
        made.append(fusion(clip[start:stop], is_last=False))
    made.append(fusion(clip[:0], is_last=True))
    torch.testing.assert_close(torch.cat(made), fused(clip), rtol=0, atol=0)


def test_a_single_frame_and_a_still_clip_stay():
    still = textured()[None]
    torch.testing.assert_close(fused(still), still, rtol=0, atol=0)
    torch.testing.assert_close(fused(still.repeat(4, 1, 1, 1)), still.repeat(4, 1, 1, 1))


def test_noise_falls_as_the_weights_say():
    noise = 0.02 * torch.randn(9, 3, 48, 64, generator=torch.Generator().manual_seed(0))
    left = TemporalFusion(reduction=1)(textured()[None] + noise, is_last=True) - textured()
    inner = left[1:-1].std() / noise.std()
    assert inner == pytest.approx((1 + 2 * WEIGHT**2) ** 0.5 / (1 + 2 * WEIGHT), abs=0.03)


def test_flicker_of_places_falls_alike_in_frames_and_in_reduced_ones():
    clip = textured()[None] + flickering(16)
    whole, reduced = (
        TemporalFusion(reduction=r)(clip, is_last=True)[1:-1] - textured() for r in (1, 2)
    )
    assert reduced.std() == pytest.approx(whole.std().item(), rel=0.03)


def test_detail_finer_than_the_reduced_frames_stays_each_frames_own():
    grain = 0.02 * torch.randn(5, 1, 48, 64, generator=torch.Generator().manual_seed(0))
    grain -= (
        torch.nn.functional.avg_pool2d(grain, 2).repeat_interleave(2, 2).repeat_interleave(2, 3)
    )
    left = fused(textured()[None] + grain) - textured()
    torch.testing.assert_close(left, grain.expand_as(left), rtol=0, atol=1e-3)


def test_what_moves_is_followed():
    moving = torch.stack([textured(64, 96)[:, :, k : k + 64] for k in range(0, 10, 2)])
    inside = (fused(moving) - moving)[..., 8:-8, 12:-12].abs()
    plain = (WEIGHT * (moving[:-2] + moving[2:]) + moving[1:-1]) / (1 + 2 * WEIGHT)
    assert inside.mean() < 0.25 * (plain - moving[1:-1])[..., 8:-8, 12:-12].abs().mean()


@pytest.mark.parametrize("reduction", [1, 2])
@pytest.mark.parametrize(("error_px", "counts"), [(0.6, True), (0.7, False)])
def test_flow_is_trusted_to_so_many_pixels_at_full_size(reduction, error_px, counts):
    own, none = textured()[None], torch.zeros(1, 2, 48, 64)
    home = torch.full_like(none, error_px / reduction / 2**0.5)
    share = TemporalFusion(reduction=reduction)._share(own, own, none, home)
    expected = WEIGHT if counts else 0.0
    torch.testing.assert_close(share.weight, torch.full((1, 1, 48, 64), expected))


def test_a_flash_of_one_frame_survives_and_leaves_its_neighbours_alone():
    clip = textured().mul(0.4).repeat(5, 1, 1, 1)
    clip[2] += 0.5
    assert (fused(clip) - clip).abs().max() < 0.01


def test_another_scene_is_left_alone():
    cut = torch.stack([textured(), textured(), -textured(), -textured()])
    assert (fused(cut) - cut).abs().mean() < 0.02


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (33, 5)])
def test_any_size_works(size):
    clip = torch.rand(3, 3, *size)
    assert fused(clip).shape == clip.shape


def flickering(count: int) -> torch.Tensor:
    """Return smooth changes of brightness `T 1 H W` of places, each frame's its own."""
    coarse = torch.randn(count, 1, 3, 4, generator=torch.Generator().manual_seed(2))
    return 0.02 * torch.nn.functional.interpolate(coarse, size=(48, 64), mode="bicubic")


def test_flicker_of_places_falls_as_the_weight_says_and_detail_stays():
    flicker = flickering(16)
    detail = torch.ones(48, 64)
    detail[::2, 1::2] = detail[1::2, ::2] = -1
    grain = 0.02 * torch.randn(16, 1, 1, 1, generator=torch.Generator().manual_seed(3)) * detail
    left = fuse_coarse(textured()[None] + flicker + grain, passes=1, finer_px=2.0) - textured()
    coarse = torch.nn.functional.avg_pool2d(left, 8)[1:-1].std()
    inner = coarse / torch.nn.functional.avg_pool2d(flicker, 8).std()
    expected = (1 + 2 * COARSE_WEIGHT**2) ** 0.5 / (1 + 2 * COARSE_WEIGHT)
    assert inner == pytest.approx(expected, abs=0.08)
    found = (left * detail).mean(dim=(1, 2, 3)) / (grain * detail).mean(dim=(1, 2, 3))
    torch.testing.assert_close(found, torch.ones(16), rtol=0, atol=0.02)


def test_a_piece_with_as_many_frames_around_it_as_passes_is_what_the_whole_clip_gives():
    clip = torch.stack([textured().roll(k, dims=-1) for k in range(9)]) + flickering(9)
    whole = fuse_coarse(clip, passes=2, finer_px=2.0)
    piece = fuse_coarse(clip[1:8], passes=2, finer_px=2.0)
    torch.testing.assert_close(piece[2:-2], whole[3:-3], rtol=0, atol=0)
    assert not torch.equal(piece[1], whole[2])
