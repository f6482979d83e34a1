"""The edit that holds colours and contrast near those of the video's beginning."""

import torch
from einops import einsum, rearrange
from hypothesis import given
from hypothesis import strategies as st

from legato.diffusion.anchored_statistics import AnchoredStatistics
from legato.diffusion.denoiser import Step

RNG = torch.Generator().manual_seed(0)
MIXED = torch.tensor([[3.0, 1.0], [-2.0, 0.5]])
ANCHOR = 2 + einsum(MIXED, torch.randn(4, 2, 6, 6, generator=RNG), "d c, t c h w -> t d h w")
X0 = torch.randn(2, 5, 2, 6, 6, generator=RNG)
FIRST = Step(index=0, num_steps=1, timestep=999)


def moments(clip):
    channels = rearrange(clip, "t c h w -> c (t h w)")
    return torch.cat((channels.mean(dim=1, keepdim=True), torch.cov(channels, correction=0)), dim=1)


def anchored(x0, weight=1.0):
    return AnchoredStatistics.of(ANCHOR, weight=weight)(FIRST, x0)


@given(weight=st.floats(0, 1))
def test_it_goes_its_weight_of_the_way(weight):
    torch.testing.assert_close(anchored(X0, weight), torch.lerp(X0, anchored(X0), weight))


def test_with_the_whole_weight_every_clip_gets_the_anchors_mean_and_covariance():
    for clip in anchored(X0):
        torch.testing.assert_close(moments(clip), moments(ANCHOR))


def test_no_other_linear_map_to_those_statistics_moves_latents_less():
    """Any other is this one after a rotation of whitened latents."""
    root = torch.linalg.cholesky(torch.cov(rearrange(X0[0], "t c h w -> c (t h w)"), correction=0))
    mean = X0[0].mean(dim=(0, 2, 3), keepdim=True)
    least = (anchored(X0[:1])[0] - X0[0]).square().mean()
    for angle in torch.linspace(-3, 3, 13):
        turn = torch.tensor([[angle.cos(), -angle.sin()], [angle.sin(), angle.cos()]])
        turned = root @ turn @ torch.linalg.inv(root)
        same = mean + einsum(turned, X0[0] - mean, "d c, t c h w -> t d h w")
        torch.testing.assert_close(moments(same), moments(X0[0]))
        assert (anchored(same[None])[0] - X0[0]).square().mean() >= least - 1e-6


def test_a_clip_like_the_anchor_stays():
    clip = ANCHOR.flip(0)[None]
    torch.testing.assert_close(anchored(clip), clip)


def test_flat_latents_stay_finite():
    flat = torch.zeros(1, 3, 2, 4, 4)
    mean = ANCHOR.mean(dim=(0, 2, 3), keepdim=True)
    torch.testing.assert_close(anchored(flat), mean.expand_as(flat), atol=1e-3, rtol=0)


def test_latents_of_one_channel_get_mean_and_deviation():
    made = AnchoredStatistics.of(ANCHOR[:, :1], weight=1.0)(FIRST, X0[:1, :, :1])[0]
    torch.testing.assert_close(made.mean(), ANCHOR[:, 0].mean())
    torch.testing.assert_close(made.std(correction=0), ANCHOR[:, 0].std(correction=0))
