"""The edit that holds colours and contrast near those of the video's beginning."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from legato.diffusion.anchored_statistics import AnchoredStatistics
from legato.diffusion.denoiser import Step

RNG = torch.Generator().manual_seed(0)
ANCHOR = 2 + 3 * torch.randn(4, 2, 6, 6, generator=RNG)
X0 = torch.randn(2, 5, 2, 6, 6, generator=RNG)
FIRST = Step(index=0, num_steps=1, timestep=999)


def statistics(clip):
    return torch.stack((clip.mean(dim=(0, 2, 3)), clip.std(dim=(0, 2, 3), correction=0)))


@given(steps=st.integers(1, 40), tenths=st.integers(0, 10), weight=st.floats(0, 1))
def test_it_goes_its_weight_of_the_way_in_its_share_of_the_steps(steps, tenths, weight):
    whole = AnchoredStatistics.of(ANCHOR, weight=1.0, share=1.0)(FIRST, X0)
    edit = AnchoredStatistics.of(ANCHOR, weight=weight, share=tenths / 10)
    for index in range(steps):
        made = edit(Step(index=index, num_steps=steps, timestep=1), X0)
        wanted = torch.lerp(X0, whole, weight) if 10 * index < tenths * steps else X0
        torch.testing.assert_close(made, wanted)


def test_with_the_whole_weight_every_clip_gets_the_anchors_statistics():
    made = AnchoredStatistics.of(ANCHOR, weight=1.0, share=1.0)(FIRST, X0)
    for clip in made:
        torch.testing.assert_close(statistics(clip), statistics(ANCHOR))


def test_a_clip_like_the_anchor_stays():
    clip = ANCHOR.flip(0)[None]
    made = AnchoredStatistics.of(ANCHOR, weight=1.0, share=1.0)(FIRST, clip)
    torch.testing.assert_close(made, clip)


def test_flat_latents_stay_finite():
    flat = torch.zeros(1, 3, 2, 4, 4)
    made = AnchoredStatistics.of(ANCHOR, weight=1.0, share=1.0)(FIRST, flat)
    mean = ANCHOR.mean(dim=(0, 2, 3), keepdim=True)
    torch.testing.assert_close(made, mean.expand_as(flat), atol=1e-3, rtol=0)
