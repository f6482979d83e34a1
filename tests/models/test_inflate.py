"""Invariants of inflation (fact sheet Video LDM, 5.4): I1-I8, I13-I15."""

import copy
import pickle
from functools import partial

import pytest
import torch
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.upsampling import Upsample2D
from tiny import randomise_, tiny_clip
from tiny import tiny_unet as any_tiny_unet
from torch.nn import functional as F

from legato.errors import InputError, ModelError
from legato.models.inflate import inflate
from legato.models.micro_conditioning import ClipConditions
from legato.models.temporal_attention import TemporalTransformer, TransformerShape

LEAN = {"ff_in": False, "cross_attention": False, "ff_multiple": 2, "positions": "rope"}
VARIANTS = {
    "video_ldm": ("video_ldm", {}),
    "lean": ("video_ldm", LEAN),
    "per_frame": ("video_ldm", {"mix": "per_frame", "num_frames": 3}),
    "upscale_a_video": ("upscale_a_video", {"norm_stats": "frame"}),
    "animatediff": ("animatediff", {"num_heads": 4}),
}


def tiny_unet(seed=0, **changes):
    """Return one that reads its text row by row.

    A video model reads the text once a clip, an image model once a frame, and on some CPUs the
    rounding of a product depends on the number of rows.
    """
    unet = any_tiny_unet(seed, **changes)
    for path, layer in unet.named_modules():
        if path.endswith(("attn2.to_k", "attn2.to_v")):
            layer.forward = partial(by_rows, layer)
    return unet


def by_rows(layer, x):
    rows = [F.linear(row[None], layer.weight, layer.bias) for row in x.flatten(0, -2)]
    return torch.cat(rows).unflatten(0, x.shape[:-1])


def stir_(model, seed=7):
    """Let the temporal layers act."""
    randomise_(model.temporal, seed)
    return model


@pytest.fixture(params=VARIANTS)
def model(request):
    family, options = VARIANTS[request.param]
    return inflate(tiny_unet(), family, **options).eval()


@pytest.fixture
def clip():
    return tiny_clip()


@torch.no_grad()
def as_images(unet, clip):
    """The image model on the same frames in the same batch."""
    num_frames = clip["sample"].shape[1]
    frames = clip["sample"].flatten(0, 1).contiguous(memory_format=torch.channels_last)
    out = unet(
        frames,
        clip["timestep"].repeat_interleave(num_frames),
        clip["encoder_hidden_states"].repeat_interleave(num_frames, 0),
        class_labels=clip["class_labels"].repeat_interleave(num_frames),
    ).sample
    return out.unflatten(0, (-1, num_frames))


@torch.no_grad()
def test_a_switched_off_model_is_the_image_model_bit_for_bit(model, clip):
    stir_(model)
    with model.disabled():
        assert torch.equal(model(**clip), as_images(model.spatial, clip))


@torch.no_grad()
def test_fresh_layers_are_the_image_model_bit_for_bit(model, clip):
    assert torch.equal(model(**clip), as_images(model.spatial, clip))


@torch.no_grad()
def test_trained_layers_change_the_output(model, clip):
    before = model(**clip)
    assert (stir_(model)(**clip) - before).abs().max() > 0.01


@torch.no_grad()
def test_skipping_every_site_is_the_image_model(model, clip):
    stir_(model).skip = frozenset(model.temporal)
    assert torch.equal(model(**clip), as_images(model.spatial, clip))


@torch.no_grad()
def test_frames_that_are_images_only_are_the_image_models(model, clip):
    """SVD's `image_only_indicator`: alpha = 1 for chosen frames; the others still see them."""
    stir_(model)
    plain, image = model(**clip), as_images(model.spatial, clip)
    chosen = torch.tensor([[True, True, True], [False, True, False]])
    out = model(**clip, conditions=ClipConditions(image_only=chosen))
    assert torch.equal(out[chosen], image[chosen])
    assert (out[1, 0] - image[1, 0]).abs().max() > 1e-3
    assert torch.equal(model(**clip, conditions=ClipConditions(image_only=~chosen & chosen)), plain)


@torch.no_grad()
def test_a_window_bounds_how_far_the_whole_model_sees():
    """Each of the attention layers carries on by one window; norms of tokens see one frame."""
    model = stir_(inflate(tiny_unet(), "video_ldm", conv=False, window=1))
    clip, reach = tiny_clip(frames=9, clips=1), len(model.sites)
    changed = clip | {"sample": clip["sample"].clone()}
    changed["sample"][:, 8] += 1
    moved = (model(**changed) - model(**clip)).abs().amax((0, 2, 3, 4))
    assert reach == 4
    assert not moved[: 8 - reach].any()
    assert moved[8 - reach :].all()


def test_a_training_step_leaves_the_image_model_alone(model, clip):
    before = {key: value.clone() for key, value in model.spatial.state_dict().items()}
    model.spatial.requires_grad_(False)
    stir_(model)
    temporal = {key: value.clone() for key, value in model.temporal.state_dict().items()}
    optimizer = torch.optim.AdamW(model.temporal.parameters(), lr=0.1)
    model(**clip).square().mean().backward()
    assert all(parameter.grad is None for parameter in model.spatial.parameters())
    optimizer.step()
    after = model.spatial.state_dict()
    assert list(after) == list(tiny_unet().state_dict())
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert any(
        not torch.equal(temporal[key], value) for key, value in model.temporal.state_dict().items()
    )


def test_every_temporal_parameter_learns_once_layers_are_not_fresh(model, clip):
    stir_(model)(**clip).square().mean().backward()
    silent = [n for n, p in model.temporal.named_parameters() if p.grad is None or not p.grad.any()]
    assert not silent


def test_fresh_layers_get_a_gradient(model, clip):
    model(**clip).square().mean().backward()
    assert any(p.grad is not None and p.grad.any() for p in model.temporal.parameters())


@torch.no_grad()
def test_temporal_weights_move_to_another_model_of_the_same_topology(model, clip):
    stir_(model)
    other = inflate(tiny_unet(seed=5), model.family, **vars(model.options))
    other.load_temporal_(model.temporal_state(), model.temporal_config())
    with other.disabled():
        assert torch.equal(other(**clip), as_images(other.spatial, clip))
    same = inflate(tiny_unet(), model.family, **vars(model.options))
    same.load_temporal_(model.temporal_state(), model.temporal_config())
    same.spatial.load_state_dict(model.spatial.state_dict())
    torch.testing.assert_close(same(**clip), model(**clip), rtol=0, atol=1e-5)


def test_another_topology_is_refused_with_the_sites_that_differ():
    model = inflate(tiny_unet(), "video_ldm")
    wide = inflate(tiny_unet(block_out_channels=(32, 96)), "video_ldm")
    with pytest.raises(ModelError, match=r"down_blocks\.1\.resnets\.0 64") as error:
        wide.load_temporal_(model.temporal_state(), model.temporal_config())
    assert len(error.value.why.split("; ")) <= 11
    assert error.value.why.endswith("more")


@pytest.mark.parametrize("family", ["video_ldm", "animatediff"])
def test_another_text_is_refused_by_its_width(family):
    model = inflate(tiny_unet(), family)
    other = inflate(tiny_unet(cross_attention_dim=24), family)
    with pytest.raises(ModelError, match=r"made for text width \[16\], the model has \[24\]"):
        other.load_temporal_(model.temporal_state(), model.temporal_config())


def test_other_options_are_refused_with_at_most_ten_keys():
    model = inflate(tiny_unet(), "video_ldm")
    lean = inflate(tiny_unet(), "video_ldm", **LEAN)
    with pytest.raises(ModelError, match=r"ff_in") as error:
        lean.load_temporal_(model.temporal_state(), model.temporal_config())
    assert error.value.why.count(";") <= 9


@pytest.mark.parametrize(
    ("positions", "equivariant"), [("none", True), ("rope", False), ("mlp-sin", False)]
)
@torch.no_grad()
def test_only_attention_without_positions_ignores_the_order_of_frames(positions, equivariant):
    block = TemporalTransformer(32, 2, text_width=None, shape=TransformerShape(positions=positions))
    for parameter in block.parameters():
        parameter.add_(0.3 * torch.randn_like(parameter))
    x, order = torch.randn(4, 6, 32), torch.tensor([2, 0, 3, 1])
    difference = (block(x[order], 4) - block(x, 4)[order]).abs().max()
    assert bool(difference < 1e-4) is equivariant


@torch.no_grad()
def test_clips_of_a_batch_do_not_see_each_other(model, clip):
    stir_(model)
    changed = clip | {"sample": clip["sample"].clone()}
    changed["sample"][1] += 1
    torch.testing.assert_close(model(**changed)[0], model(**clip)[0], rtol=0, atol=1e-5)
    assert (model(**changed)[1] - model(**clip)[1]).abs().max() > 1e-3


@torch.no_grad()
def test_a_window_bounds_how_far_one_attention_layer_sees():
    shape = TransformerShape(window=2)
    block = TemporalTransformer(32, 2, text_width=None, shape=shape)
    for parameter in block.parameters():
        parameter.add_(0.3 * torch.randn_like(parameter))
    x = torch.randn(8, 5, 32)
    changed = x.clone()
    changed[6] += 1
    moved = (block(changed, 8) - block(x, 8)).abs().amax((1, 2))
    assert not moved[:4].any()
    assert moved[4:].all()


@pytest.mark.parametrize("frames", [1, 2, 5])
@torch.no_grad()
def test_any_number_of_frames_runs(frames):
    model = stir_(inflate(tiny_unet(), "video_ldm"))
    clip = tiny_clip(frames=frames, clips=1)
    assert model(**clip).shape == (1, frames, 4, 10, 12)


def test_weights_per_frame_refuse_another_number_of_frames():
    model = inflate(tiny_unet(), "video_ldm", mix="per_frame", num_frames=3)
    with pytest.raises(InputError, match="3 frames"):
        model(**tiny_clip(frames=2))


def test_checkpointed_gradients_equal_plain_ones_with_two_clip_lengths(model):
    lengths = (3,) if model.family == "video_ldm" and model.options.mix == "per_frame" else (3, 2)
    stir_(model).train()

    def gradients(checkpointed):
        model.set_gradient_checkpointing(checkpointed)
        model.zero_grad()
        sum(model(**tiny_clip(frames=n)).square().mean() for n in lengths).backward()
        return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}

    plain, repeated = gradients(False), gradients(True)
    assert plain.keys() == repeated.keys()
    for name, gradient in plain.items():
        assert torch.equal(gradient, repeated[name]), name


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
@torch.no_grad()
def test_a_copy_uses_its_own_weights(model, clip, duplicate):
    before = stir_(model)(**clip)
    twin = duplicate(model)
    torch.testing.assert_close(twin(**clip), before, rtol=0, atol=1e-5)
    for parameter in twin.temporal.parameters():
        parameter.zero_()
    assert torch.equal(model(**clip), before)
    assert (twin(**clip) - before).abs().max() > 0.01


@torch.no_grad()
def test_a_detached_image_model_is_as_before(model):
    plain = inflate(any_tiny_unet(), model.family, **vars(model.options))
    unet = stir_(plain).detach()
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in unet.modules())
    assert all("forward" not in vars(module) for module in unet.modules())


@torch.no_grad()
def test_two_inflations_of_one_image_model_do_not_meet(clip):
    unet = tiny_unet()
    first = stir_(inflate(unet, "video_ldm"))
    before = first(**clip)
    second = stir_(inflate(unet, "upscale_a_video"), seed=8)
    assert (second(**clip) - before).abs().max() > 0.01
    assert torch.equal(first(**clip), before)


@pytest.mark.parametrize("dtype", [torch.bfloat16])
@torch.no_grad()
def test_bfloat16_runs_pure_and_by_autocast(clip, dtype):
    model = stir_(inflate(tiny_unet(), "video_ldm"))
    expected = model(**clip)
    with torch.autocast("cpu", dtype):
        torch.testing.assert_close(model(**clip).float(), expected, rtol=0, atol=0.1)
    half = {k: v.to(dtype) if v.is_floating_point() else v for k, v in clip.items()}
    torch.testing.assert_close(model.to(dtype)(**half).float(), expected, rtol=0, atol=0.1)


@torch.no_grad()
def test_temporal_layers_can_read_another_text(clip):
    model = stir_(inflate(tiny_unet(), "video_ldm"))
    text = clip["encoder_hidden_states"]
    same, other = (model(**clip, conditions=ClipConditions(text=t)) for t in (text, text + 1))
    assert torch.equal(same, model(**clip))
    assert (other - same).abs().max() > 1e-4


@pytest.mark.parametrize(
    ("family", "options", "message"),
    [("video_ldn", {}, "video_ldm"), ("video_ldm", {"postions": "rope"}, "positions")],
)
def test_an_unknown_family_or_option_is_refused(family, options, message):
    with pytest.raises(InputError, match=message):
        inflate(tiny_unet(), family, **options)


def test_a_model_without_sites_is_refused():
    with pytest.raises(ModelError, match="none of the sites"):
        inflate(torch.nn.Conv2d(3, 3, 1), "video_ldm")


@pytest.mark.parametrize("scale", [1.0, 2.0])  # blocks of the usual kind, and others
@torch.no_grad()
def test_spatial_blocks_give_the_same_a_few_frames_at_a_time(model, clip, scale, monkeypatch):
    stir_(model)
    blocks = [block for block in model.spatial.modules() if isinstance(block, ResnetBlock2D)]
    for block in blocks:
        monkeypatch.setattr(block, "output_scale_factor", scale)
    larger = [block for block in model.spatial.modules() if isinstance(block, Upsample2D)]
    assert larger
    whole = model(**clip)
    sizes = set()
    for conv in [block.conv1 for block in blocks] + [block.conv for block in larger]:
        conv.register_forward_pre_hook(lambda conv, args: sizes.add(len(args[0])))
    monkeypatch.setattr("legato.models.few_frames.ELEMENTS_AT_A_TIME", 1)
    torch.testing.assert_close(model(**clip), whole, rtol=1e-5, atol=1e-5)
    assert sizes == {1}
    with torch.enable_grad():
        model(**clip)
    assert sizes == {1, clip["sample"].shape[0] * clip["sample"].shape[1]}


@torch.no_grad()
def test_freeu_acts_in_an_inflated_model_too(clip):
    model, image = inflate(tiny_unet(), "video_ldm"), tiny_unet()
    image.load_state_dict(model.spatial.state_dict())
    plain = model(**clip)
    for unet in (model.spatial, image):
        unet.enable_freeu(s1=0.9, s2=0.2, b1=1.2, b2=1.4)
    found = model(**clip)
    torch.testing.assert_close(found, as_images(image, clip), rtol=1e-5, atol=1e-5)
    assert (found - plain).abs().max() > 1e-3


@pytest.mark.parametrize(("kept_bytes", "times"), [(0, 1), (1 << 40, 0)], ids=["large", "small"])
@torch.no_grad()
def test_memory_goes_back_before_large_maps(model, clip, kept_bytes, times, monkeypatch):
    calls = []
    monkeypatch.setattr("legato.models.few_frames.ELEMENTS_AT_A_TIME", 1)
    monkeypatch.setattr("legato.models.few_frames.KEPT_BYTES", kept_bytes)
    monkeypatch.setattr("legato.models.few_frames.return_freed_memory", lambda: calls.append(1))
    model(**clip)
    larger = [block for block in model.spatial.modules() if isinstance(block, Upsample2D)]
    assert len(calls) == times * len(larger)
    assert larger


@torch.no_grad()
def test_blocks_whose_norms_see_the_clip_give_the_same_in_place(clip, monkeypatch):
    model = inflate(tiny_unet(), "video_ldm", norm_stats="clip")
    stir_(model)
    whole = model(**clip)
    sizes = set()
    for block in model.spatial.modules():
        if isinstance(block, ResnetBlock2D):
            block.conv1.register_forward_pre_hook(lambda conv, args: sizes.add(len(args[0])))
    monkeypatch.setattr("legato.models.few_frames.ELEMENTS_AT_A_TIME", 1)
    torch.testing.assert_close(model(**clip), whole, rtol=1e-5, atol=1e-5)
    assert sizes == {clip["sample"].shape[0] * clip["sample"].shape[1]}
