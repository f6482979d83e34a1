"""Frames to what guides an image model: the join of flow and models."""

import pytest
import torch
from clip_correspondence import still_flow
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from tiny_upscaler import moving_clip

from legato.flow.correspondence import link, with_occlusions
from legato.flow.dis import DisFlow
from legato.pipelines.correspond import clip_of, correspond_clip, tokens_of

FLOW = DisFlow()


def test_every_stride_is_found_by_its_number_of_tokens():
    clip = correspond_clip(moving_clip(3, 32, 48), FLOW, strides=(8, 16))
    assert clip.num_frames == 3
    assert sorted(clip.tokens) == [2 * 3, 4 * 6]
    assert clip.flow is not None
    assert clip.flow.size == (32, 48)


def test_a_still_clip_shows_everything_in_its_first_frame():
    frames = moving_clip(1, 32, 32).expand(3, -1, -1, -1)
    known = correspond_clip(frames, FLOW, strides=(8,)).tokens[16]
    assert known.supply.tolist() == list(range(16))
    assert known.link.all()
    assert torch.equal(known.forward, torch.arange(16).expand(3, 1, 16))


def test_of_frames_that_have_nothing_in_common_every_token_supplies():
    frames = moving_clip(3, 32, 32)
    hidden = clip_of(frames, still_flow(3, 32, 32, occluded=True), strides=(8,))
    known = hidden.tokens[16]
    assert known.unique.all()
    assert torch.equal(known.link[:, 0], torch.eye(3, dtype=torch.bool).expand(16, 3, 3))
    x = torch.randn(1, 3, 2, 8, 8)
    assert hidden.background is not None
    torch.testing.assert_close(hidden.background(x), x)  # nothing to carry


def test_a_cut_inside_a_clip_works():
    clip = torch.cat((moving_clip(2, 32, 32), moving_clip(2, 32, 32, seed=9)))
    known = correspond_clip(clip, FLOW, strides=(8,)).tokens[16]
    assert known.unique.shape == (4, 16)


def test_one_frame_has_tokens_but_neither_flow_nor_background():
    clip = correspond_clip(moving_clip(1, 32, 32), FLOW, strides=(8,))
    assert clip.num_frames == 1
    assert clip.tokens[16].unique.all()
    assert clip.flow is None
    assert clip.background is None


def test_the_background_of_a_still_clip_becomes_that_of_its_first_frame():
    frames = moving_clip(1, 32, 32).expand(3, -1, -1, -1)
    nothing = lambda frames, motion: torch.zeros(3, 1, 16, 16)  # noqa: E731
    clip = correspond_clip(frames, FLOW, strides=(8,), saliency=nothing)
    assert clip.background is not None
    x = torch.randn(2, 3, 4, 8, 8)
    torch.testing.assert_close(clip.background(x), x[:, :1].expand_as(x), atol=1e-4, rtol=0)


def test_without_saliency_no_background_is_carried():
    clip = correspond_clip(moving_clip(2, 32, 32), FLOW, strides=(8,), saliency=None)
    assert clip.background is None


@given(
    frames=st.integers(1, 4),
    rows=st.integers(1, 5),
    cols=st.integers(1, 5),
    seed=st.integers(0, 99),
)
@settings(max_examples=25)
def test_what_attention_is_told_is_a_permutation_for_any_flow(frames, rows, cols, seed):
    generator = torch.Generator().manual_seed(seed)
    size = (frames, 2, 8 * rows, 8 * cols)
    forward, backward = (9 * torch.randn(size, generator=generator) for _ in range(2))
    pictures = torch.rand(frames, 3, *size[2:], generator=generator) * 2 - 1
    clip = clip_of(pictures, with_occlusions(pictures, forward, backward), strides=(8,))
    known = clip.tokens[rows * cols]
    tokens = torch.arange(rows * cols).expand(frames, -1)
    assert torch.equal(known.forward[:, 0].sort(dim=1).values, tokens)
    assert torch.equal(known.inverse[:, 0].gather(1, known.forward[:, 0]), tokens)
    assert known.unique[0].all()


@pytest.mark.parametrize("order", [1, -1])
def test_of_equally_large_grids_the_finer_one_counts(order):
    frames = moving_clip(2, 8, 8)
    links = [link(frames, still_flow(2, 8, 8), stride=stride) for stride in (8, 16)][::order]
    links[order < 0].unique[:] = True
    assert tokens_of(links)[1].unique.all()


def test_agrees_with_the_reference(shared):
    stored = load_file(shared / "parity/fresco/correspondence.safetensors")
    frames = stored["images"].permute(0, 3, 1, 2).float() / 127.5 - 1
    motion = with_occlusions(frames, stored["flow_fwd"], stored["flow_bwd"])
    known = clip_of(frames, motion, strides=(8,)).tokens[stored["perm_8"].shape[-1]]
    assert torch.equal(known.unique, stored["unique_mask_8"])
    assert torch.equal(known.forward, stored["perm_8"])
    assert torch.equal(known.link, stored["link_mask_8"])
