"""Temporal layers against independent computations: Conv3d, GroupNorm, diffusers, formulas."""

import copy
import math

import pytest
import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention import TemporalBasicTransformerBlock
from diffusers.models.embeddings import TimestepEmbedding, Timesteps
from diffusers.models.resnet import TemporalResnetBlock
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import randomise_

from legato.models import temporal_conv
from legato.models.inflate import inflate
from legato.models.positions import RelativePositionBias, RotaryPositions, sinusoids
from legato.models.temporal_attention import TemporalTransformer, TimeAttention, TransformerShape
from legato.models.temporal_conv import (
    ClipConv,
    TemporalConv,
    TimeConv,
    TimeMixer,
    VolumeConv,
    as_clip,
    as_frames,
    norm_frames,
    num_groups,
)
from legato.models.temporal_frames import activated, pixels_of_frames

SIZES = st.integers(1, 5)


def frames_of(clip):
    """B C T H W to channels-last BT C H W."""
    frames = clip.transpose(1, 2).flatten(0, 1)
    return frames.contiguous(memory_format=torch.channels_last)


@given(SIZES, SIZES, SIZES, SIZES, SIZES)
@settings(max_examples=30)
def test_clips_and_frames_are_views_of_the_same_numbers(b, t, c, h, w):
    frames = torch.randn(b * t, c, h, w).contiguous(memory_format=torch.channels_last)
    clip = as_clip(frames, t)
    assert torch.equal(clip, frames.view(b, t, c, h * w).permute(0, 2, 1, 3))
    assert clip.data_ptr() == frames.data_ptr()
    assert torch.equal(as_frames(clip, h, w), frames)


@pytest.mark.parametrize("size", [3, 5])
@torch.no_grad()
def test_a_time_conv_is_a_conv3d(size):
    conv = TimeConv(6, 4, size)
    clip = torch.randn(2, 6, 7, 3, 5)
    out = as_frames(conv(as_clip(frames_of(clip), 7)), 3, 5)
    expected = torch.nn.functional.conv3d(clip, conv.weight, conv.bias, padding=(size // 2, 0, 0))
    torch.testing.assert_close(out, frames_of(expected), rtol=0, atol=1e-5)


@pytest.mark.parametrize("learns", [True, False])
@pytest.mark.parametrize("mean", [0.0, 1000.0])
def test_a_norm_of_frames_over_the_clip_is_a_five_dimensional_group_norm(learns, mean, monkeypatch):
    monkeypatch.setattr(temporal_conv, "VALUES_AT_A_TIME", 200)  # two rows, and one that is left
    norm = randomise_(torch.nn.GroupNorm(4, 8))
    clip = mean + torch.randn(2, 8, 3, 5, 4)
    with torch.set_grad_enabled(learns):
        found = norm_frames(norm, frames_of(clip), 3)
    expected = copy.deepcopy(norm).double()(clip.double())
    torch.testing.assert_close(found.double(), frames_of(expected), rtol=0, atol=1e-6 * (1 + mean))
    assert found.is_contiguous(memory_format=torch.channels_last)
    if learns:
        assert torch.equal(found, frames_of(norm(clip)))


@pytest.mark.parametrize("sizes", [(3, 3), (5, 3)])
@pytest.mark.parametrize("time_embedding", [None, 12])
@pytest.mark.parametrize("mixer", [None, TimeMixer(initial=0.3), TimeMixer("per_frame", 3, 0.3)])
def test_frame_by_frame_a_temporal_convolution_gives_the_same(sizes, time_embedding, mixer):
    layer = randomise_(TemporalConv(8, time_embedding, sizes=sizes, mixer=mixer))
    x = frames_of(3 + torch.randn(2, 8, 3, 5, 4))
    temb = None if time_embedding is None else torch.randn(6, time_embedding)
    expected = layer(x, 3, temb).detach()
    with torch.no_grad():
        torch.testing.assert_close(layer(x, 3, temb), expected, rtol=1e-5, atol=1e-5)
        if mixer is None or mixer.mode == "scalar":
            assert layer.adds_in_place_to(x)
            own = x.clone()
            assert layer.add_to_(own, 3, temb) is own
            torch.testing.assert_close(own, x + expected, rtol=1e-5, atol=1e-5)
        else:
            assert not layer.adds_in_place_to(x)


@torch.no_grad()
def test_frames_that_lie_otherwise_in_memory_are_not_written_to():
    """Their pixels are no views: what is added in place would be lost."""
    layer = TemporalConv(8, None)
    assert layer.adds_in_place_to(frames_of(torch.randn(1, 8, 3, 5, 4)))
    assert not layer.adds_in_place_to(torch.randn(3, 8, 5, 4))
    assert not layer.adds_in_place_to(frames_of(torch.randn(1, 8, 3, 5, 4)).bfloat16())


@pytest.mark.parametrize("mean", [0.0, 1000.0])
@torch.no_grad()
def test_activated_frames_are_those_of_a_norm_over_the_clip(mean):
    norm = randomise_(torch.nn.GroupNorm(4, 8))
    clip = mean + torch.randn(1, 8, 3, 5, 4)
    found = torch.stack(list(activated(norm, pixels_of_frames(frames_of(clip)))))
    expected = torch.nn.functional.silu(copy.deepcopy(norm).double()(clip.double()))
    expected = expected[0].permute(1, 2, 3, 0).flatten(1, 2)
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=2e-6 * (1 + mean))


def test_a_norm_behind_frozen_layers_learns():
    conv = randomise_(TemporalConv(32, None))
    frames = torch.randn(6, 32, 4, 4).contiguous(memory_format=torch.channels_last)
    conv(frames, 3).square().sum().backward()
    assert conv.norm1.weight.grad.any()


@torch.no_grad()
def test_the_temporal_resblock_is_the_one_of_stable_video_diffusion():
    theirs = randomise_(TemporalResnetBlock(32, 32, temb_channels=16))
    ours = TemporalConv(32, 16)
    ours.load_state_dict(theirs.state_dict())
    clip, temb = torch.randn(2, 32, 5, 4, 3), torch.randn(2, 5, 16)
    expected = frames_of(theirs(clip, temb))
    out = frames_of(clip) + ours(frames_of(clip), 5, temb.flatten(0, 1))
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-5)


@torch.no_grad()
def test_the_temporal_transformer_is_the_one_of_stable_video_diffusion():
    theirs = randomise_(TemporalBasicTransformerBlock(32, 32, 4, 8, cross_attention_dim=12))
    position = randomise_(TimestepEmbedding(32, 128, out_dim=32))
    ours = TemporalTransformer(32, 4, text_width=12, shape=TransformerShape())
    state = theirs.state_dict() | {
        f"time_pos_embed.{k}": v for k, v in position.state_dict().items()
    }
    ours.load_state_dict(state)
    tokens, text = torch.randn(2 * 5, 6, 32), torch.randn(2, 7, 12)
    embedded = position(Timesteps(32, True, 0)(torch.arange(5))).repeat(2, 1)[:, None]
    per_position = text.repeat_interleave(6, 0)
    expected = theirs(tokens + embedded, 5, per_position)
    torch.testing.assert_close(tokens + ours(tokens, 5, text), expected, rtol=0, atol=1e-5)


@torch.no_grad()
def test_a_volume_conv_is_a_conv3d_of_the_normalised_clip():
    layer = randomise_(VolumeConv(32))
    clip = torch.randn(2, 32, 3, 4, 5)
    expected = layer.conv_3d(torch.nn.functional.silu(layer.norm_3d(clip)))
    torch.testing.assert_close(layer(frames_of(clip), 3), frames_of(expected), rtol=0, atol=1e-5)


@pytest.mark.parametrize("frames", [1, 2, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_clip_conv_and_its_gradient_are_right_in_clips_shorter_than_its_kernel(frames, dtype):
    """oneDNN's gradient is rubbish in bfloat16; small whole numbers make every sum exact."""
    conv = ClipConv(16, 16, (3, 4, 4), (1, 2, 2), 1, bias=False).to(dtype)
    clip = torch.randint(-2, 3, (1, 16, frames, 4, 4)).to(dtype)
    weight = torch.randint(-2, 3, conv.weight.shape).to(dtype)
    conv.weight.data.copy_(weight)
    out = conv(clip)
    out.sum().backward()
    exact = weight.double().requires_grad_()
    expected = torch.nn.functional.conv3d(clip.double(), exact, None, (1, 2, 2), 1)
    expected.sum().backward()
    torch.testing.assert_close(out.double(), expected, rtol=0.005, atol=0)
    assert torch.equal(conv.weight.grad.double(), exact.grad)


@torch.no_grad()
def test_a_convolution_along_time_knows_the_order_of_frames():
    conv = randomise_(TemporalConv(32, None))
    frames = torch.randn(4, 32, 3, 3).contiguous(memory_format=torch.channels_last)
    order = torch.tensor([2, 0, 3, 1])
    shuffled = frames[order].contiguous(memory_format=torch.channels_last)
    assert (conv(shuffled, 4) - conv(frames, 4)[order]).abs().max() > 1e-2


def test_mixing_is_the_convex_combination_of_both_branches():
    mixer = TimeMixer(initial=0.5)
    z, branch = torch.randn(4, 3), torch.randn(4, 3)
    alpha = 1 / (1 + math.exp(-0.5))
    mixed = z + mixer(branch - z, 4)
    torch.testing.assert_close(mixed, alpha * z + (1 - alpha) * branch)


def test_mixing_per_frame_repeats_for_every_clip():
    mixer = TimeMixer("per_frame", num_frames=2)
    mixer.mix_factor.data = torch.tensor([100.0, -100.0])
    mixed = mixer(torch.ones(4, 3, 1, 1), 2)
    torch.testing.assert_close(mixed[:, 0, 0, 0], torch.tensor([0.0, 1.0, 0.0, 1.0]))


def test_sinusoids_put_cosines_first():
    waves = sinusoids(3, 4, torch.device("cpu"))
    expected = [[math.cos(i), math.cos(i / 100), math.sin(i), math.sin(i / 100)] for i in range(3)]
    torch.testing.assert_close(waves, torch.tensor(expected))


@given(st.integers(2, 12), st.sampled_from([2, 6, 32]))
@settings(max_examples=20)
def test_rotation_makes_scores_depend_on_the_distance_of_frames_only(frames, width):
    generator = torch.Generator().manual_seed(frames)
    rotary = RotaryPositions(width)
    q, k = (torch.randn(width + 3, generator=generator) for _ in range(2))
    turned_q, turned_k = (rotary(x.expand(frames, -1)) for x in (q, k))
    scores = turned_q @ turned_k.T
    for distance in range(frames):
        diagonal = scores.diagonal(distance)
        torch.testing.assert_close(diagonal, diagonal[:1].expand_as(diagonal), rtol=0, atol=1e-3)
    assert torch.equal(turned_q[:, width:], q[width:].expand(frames, -1))


def test_rotation_is_by_pairs_of_neighbours():
    turned = RotaryPositions(4)(torch.tensor([[1.0, 0, 1, 0]] * 2))
    angles = (1.0, 0.01)
    expected = [math.cos(angles[0]), math.sin(angles[0]), math.cos(angles[1]), math.sin(angles[1])]
    torch.testing.assert_close(turned[1], torch.tensor(expected))


def test_buckets_follow_the_published_formula():
    def bucket(distance):
        base = 16 if distance < 0 else 0
        size = abs(distance)
        if size < 8:
            return base + size
        return base + min(15, 8 + math.floor(math.log(size / 8) / math.log(32 / 8) * 8))

    distances = torch.arange(-40, 41)
    expected = torch.tensor([bucket(int(d)) for d in distances])
    assert torch.equal(RelativePositionBias(1).buckets(distances), expected)


@torch.no_grad()
def test_the_bias_reaches_the_scores_by_query_and_key():
    attention = TimeAttention(8, 1, relative_bias=True)
    attention.to_q.weight.zero_()
    torch.nn.init.eye_(attention.to_v.weight)
    torch.nn.init.eye_(attention.to_out[0].weight)
    attention.time_rel_pos_bias.relative_attention_bias.weight[1] = 50.0  # key one frame earlier
    x = torch.randn(4, 1, 8)
    torch.testing.assert_close(attention(x, 4)[1:], x[:-1], rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("config", "number"),
    [
        pytest.param(
            {"cross_attention_dim": 768, "attention_head_dim": 8}, 649_687_078, id="sd-1.4"
        ),
        pytest.param(
            {"cross_attention_dim": 1024, "attention_head_dim": (5, 10, 20, 20)},
            656_076_838,
            id="sd-2",
        ),
        pytest.param(
            {
                "cross_attention_dim": 1024,
                "attention_head_dim": 8,
                "block_out_channels": (256, 512, 512, 1024),
                "down_block_types": ("DownBlock2D",) + ("CrossAttnDownBlock2D",) * 3,
                "up_block_types": ("CrossAttnUpBlock2D",) * 3 + ("UpBlock2D",),
                "only_cross_attention": (True, True, True, False),
                "in_channels": 7,
                "num_class_embeds": 1000,
            },
            437_853_990,
            id="x4",
        ),
    ],
)
def test_temporal_parameters_number_as_published(config, number):
    """649 and 656 million: Blattmann et al. 2023, arXiv:2304.08818, appendix."""
    with torch.device("meta"):
        model = inflate(UNet2DConditionModel(**config), "video_ldm")
    count = sum(p.numel() for p in model.temporal.parameters())
    assert count == number
    assert len(model.temporal) == 38


@pytest.mark.parametrize(("channels", "groups"), [(640, 32), (3, 3), (48, 24), (7, 7), (96, 32)])
def test_groups_divide_the_channels(channels, groups):
    assert num_groups(channels) == groups
