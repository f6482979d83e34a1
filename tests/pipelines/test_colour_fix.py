"""Colour correction agrees with the reference; back-projection reproduces the input."""

import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional as F

from legato.pipelines.colour_fix import adain, blur, bound_chroma, fix_colours, wavelet
from legato.pipelines.fidelity import back_project, trust_clean


@pytest.fixture(scope="module")
def stored(shared):
    return load_file(shared / "parity/upscale_a_video/color_fix.safetensors")


@pytest.mark.parametrize("method", [wavelet, adain])
def test_agrees_with_the_reference(stored, method):
    expected = stored[method.__name__]
    out = method(stored["content"], stored["style"])
    torch.testing.assert_close(out, expected, atol=float(2e-4 * expected.abs().max()), rtol=0)


def clip(rows=40, cols=56):
    small = F.interpolate(torch.rand(2, 3, 9, 13), size=(rows, cols), mode="bicubic") * 2 - 1
    large = F.interpolate(small, scale_factor=4, mode="bicubic")
    return small, large + 0.1 * torch.randn_like(large)


def test_the_fast_wavelet_is_the_exact_one_within_two_grey_levels():
    small, large = clip()
    shifted = large + 0.3 * torch.tensor([1.0, -1.0, 0.5]).view(1, 3, 1, 1)
    exact = wavelet(shifted, F.interpolate(small, scale_factor=4, mode="bicubic"))
    fast = fix_colours(shifted, small, method="wavelet")
    assert (fast - exact).abs().max() < 2 / 127.5
    assert (fast - exact).abs().mean() < 0.2 / 127.5


@pytest.mark.parametrize("method", ["wavelet", "adain"])
def test_a_colour_cast_is_removed(method):
    small, large = clip()
    cast = large + torch.tensor([0.3, -0.2, 0.1]).view(1, 3, 1, 1)
    fixed = fix_colours(cast, small, method=method)
    wrong = (fixed.mean(dim=(2, 3)) - small.mean(dim=(2, 3))).abs().max()
    assert wrong < 0.01
    assert (cast.mean(dim=(2, 3)) - small.mean(dim=(2, 3))).abs().max() > 0.25


def luma_of(frames):
    return (frames * torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(dim=1)


def test_black_and_white_stays_without_colour():
    small, large = (frames.mean(dim=1, keepdim=True).expand(-1, 3, -1, -1) for frames in clip())
    tinted = large + 0.2 * torch.randn_like(large)
    bounded = bound_chroma(tinted.clone(), small)
    assert (bounded.amax(dim=1) - bounded.amin(dim=1)).max() < 4 / 127.5
    torch.testing.assert_close(luma_of(bounded), luma_of(tinted), atol=1e-4, rtol=0)


@pytest.mark.parametrize("strength", [0.02, 1.0])
def test_colours_that_the_input_has_around_are_left_alone(strength):
    small = strength * clip()[0]
    large = F.interpolate(small, scale_factor=4, mode="nearest")
    torch.testing.assert_close(bound_chroma(large.clone(), small), large, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("levels", "share"), [(3, 1.0), (6, 0.5), (9, 0.0)])
def test_the_more_colour_a_frame_has_the_less_it_is_bounded(levels, share):
    """Two flat halves, as blue as yellow; the output is far bluer."""
    blue = levels / 127.5
    halves = torch.full((1, 1, 16, 32), blue)
    halves[..., 16:] *= -1
    weights = torch.tensor([0.0, -0.344136, 1.772]).view(1, 3, 1, 1)
    bounded = bound_chroma(0.5 * weights.expand(1, 3, 64, 128).clone(), halves * weights)
    left = 0.5 + share * (blue + 1 / 127.5 - 0.5)
    wanted = (left * weights).expand(1, 3, 64, 40)
    torch.testing.assert_close(bounded[..., :40], wanted, atol=1e-3, rtol=0)


def test_detail_is_kept():
    small, large = clip()
    fixed = fix_colours(large, small, method="wavelet")
    detail = [x - F.avg_pool2d(x, 5, stride=1, padding=2) for x in (large, fixed)]
    assert (detail[0] - detail[1]).abs().mean() < 0.02 * detail[0].abs().mean()


def test_none_changes_nothing():
    small, large = clip()
    assert fix_colours(large, small, method="none") is large


@pytest.mark.parametrize("method", ["wavelet", "adain"])
@pytest.mark.parametrize("scale", [2, 4])
def test_one_pixel_works(method, scale):
    out = fix_colours(torch.rand(1, 3, scale, scale), torch.rand(1, 3, 1, 1), method=method)
    assert torch.isfinite(out).all()


def test_frames_are_corrected_one_by_one():
    small, large = clip()
    alone = fix_colours(large[1:], small[1:], method="wavelet")
    assert torch.equal(fix_colours(large, small, method="wavelet")[1:], alone)


@pytest.mark.parametrize("size", [(1, 1), (7, 9), (20, 33)])
def test_full_fidelity_reproduces_the_input_when_reduced(size):
    small = torch.rand(2, 3, *size) * 2 - 1
    large = torch.rand(2, 3, 4 * size[0], 4 * size[1]) * 2 - 1
    reduced = F.avg_pool2d(back_project(large, small, fidelity=1.0), 4)
    torch.testing.assert_close(reduced, small, atol=1e-3, rtol=0)


def test_half_fidelity_goes_half_way_and_none_nowhere():
    small, large = clip()
    whole, half = (back_project(large, small, fidelity=f) for f in (1.0, 0.5))
    torch.testing.assert_close(half - large, (whole - large) / 2)
    assert back_project(large, small, fidelity=0.0) is large


def change_of(frames, low_res):
    return (low_res - F.avg_pool2d(frames, 4)).std(dim=(1, 2, 3))


def test_a_frame_that_was_barely_changed_comes_nearer_to_its_input():
    small = torch.rand(2, 3, 20, 28) * 2 - 1
    large = F.interpolate(small + 0.05 * torch.randn_like(small), scale_factor=4, mode="nearest")
    some, more = (trust_clean(large, small, most=share) for share in (0.2, 0.4))
    assert (change_of(more, small) < change_of(some, small)).all()
    assert (change_of(some, small) < change_of(large, small)).all()
    torch.testing.assert_close(more - large, 2 * (some - large))


def changed(small, wanted):
    """Return frames whose change is as wanted."""
    luma = luma_of(small)[:, None]
    detail = luma - blur(blur(luma, 1, axis=-2), 1, axis=-1)
    apart = torch.randn_like(luma)
    apart *= wanted * detail.std() / apart.std()
    return F.interpolate(small + apart, scale_factor=4, mode="nearest")


@pytest.mark.parametrize(
    ("change", "share", "doubt"),
    [
        (0.3, 0.4, 0),
        (0.37, 0.4, 0),
        (0.48, 0.4, 0.5),
        (0.6, 0.24, 1),
        (0.74, 0.016, 1),
        (0.8, 0, 1),
    ],
)
def test_what_is_finer_than_the_input_is_doubted_the_more_was_changed(change, share, doubt):
    torch.manual_seed(0)
    small = torch.rand(1, 3, 40, 48) * 2 - 1
    plain = changed(small, change)
    checker = (torch.arange(80)[:, None] + torch.arange(96)) % 2 * 0.2 - 0.1
    drawn = F.interpolate(checker.expand(1, 3, -1, -1), scale_factor=2, mode="nearest")
    apart = trust_clean(plain + drawn, small, most=0.4) - trust_clean(plain, small, most=0.4)
    reach = (..., slice(8, -8), slice(8, -8))  # linear enlargement keeps a quarter of a checker
    torch.testing.assert_close(apart[reach], (drawn * (1 - share * doubt / 4))[reach])


def test_a_frame_that_was_mended_stays_as_it_is():
    small = torch.rand(2, 3, 20, 28) * 2 - 1
    large = F.interpolate(torch.rand(2, 3, 20, 28) * 2 - 1, scale_factor=4, mode="nearest")
    assert torch.equal(trust_clean(large, small, most=0.4), large)


def test_trust_is_of_each_frame_alone_and_none_is_none():
    small = torch.rand(2, 3, 20, 28) * 2 - 1
    large = F.interpolate(small, scale_factor=4, mode="nearest")
    large[0] = large[0].flip(-1)
    large[1] += 0.05 * torch.randn_like(large[1])
    both = trust_clean(large, small, most=0.4)
    assert torch.equal(both[0], large[0])
    assert torch.equal(both[1:], trust_clean(large[1:], small[1:], most=0.4))
    assert trust_clean(large, small, most=0.0) is large


@pytest.mark.parametrize("size", [(1, 1), (2, 9)])
def test_trust_of_a_flat_picture_changes_nothing(size):
    small = torch.full((1, 3, *size), 0.25)
    large = torch.full((1, 3, 4 * size[0], 4 * size[1]), 0.25)
    torch.testing.assert_close(trust_clean(large, small, most=0.4), large)


def test_full_fidelity_leaves_no_lattice():
    """The correction's power at 1/4 cycle per pixel must not stand out."""
    small, large = clip()
    change = back_project(large, small, fidelity=1.0) - large
    power = torch.fft.rfft(change.mean(dim=1).diff(dim=-1), dim=-1).abs().square().mean(dim=(0, 1))
    quarter = power.shape[0] // 2
    assert power[quarter] < 4 * power[quarter - 12 : quarter + 12].median() + 1e-6
