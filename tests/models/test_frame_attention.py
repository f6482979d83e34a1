"""The processor: where it is put, that off it is the image model, that on it keeps halves apart."""

import pytest
import torch
from clip_correspondence import random_tokens
from diffusers.models.attention_processor import Attention
from tiny_unets import COLS, FAMILIES, ROWS, run, spatial

from legato.errors import ModelError
from legato.models.attention_sites import choose_self_attentions, find_self_attentions
from legato.models.cross_frame_attention import first_frame
from legato.models.frame_attention import ClipState, install, within_frames
from legato.models.guided_attention import GuidedAttention
from legato.models.reference import captured

FRAMES = 3


@pytest.fixture(params=FAMILIES)
def family(request):
    return FAMILIES[request.param]


@pytest.fixture
def model(family):
    return family.build()


def tokens_by_count(strides, frames=FRAMES):
    counts = [(ROWS // stride) * (COLS // stride) for stride in strides]
    return {count: random_tokens(frames, count) for count in counts}


def alone(tokens, state):
    """Every frame by itself, as the image model does."""
    return within_frames(tokens.query, tokens.key, tokens.value)


def test_the_guided_sites_of_a_family_are_the_decoders(family, model):
    sites = choose_self_attentions(spatial(model), cell=1, strides=family.strides)
    assert {site.stride for site in sites} == set(family.strides)
    assert all(site.path.startswith("up_blocks.") for site in sites)


def test_strides_count_the_pixels_of_a_latent_cell(family, model):
    coarse = find_self_attentions(spatial(model), cell=8)
    fine = find_self_attentions(spatial(model), cell=1)
    assert [site.stride for site in coarse] == [8 * site.stride for site in fine]


def test_the_text_reading_levels_of_the_x4_upscaler_are_no_self_attentions():
    sites = find_self_attentions(FAMILIES["x4"].build(), cell=1)
    assert {site.stride for site in sites} == {4}
    assert {site.part for site in sites} == {"down", "mid", "up"}


def test_a_stride_that_the_model_lacks_is_refused_with_those_it_has():
    with pytest.raises(ModelError, match=r"no self-attention of stride 64.*are: 8, 16"):
        choose_self_attentions(FAMILIES["sd1"].build(), cell=8, strides=(64,))


def test_with_no_frames_named_this_is_the_image_model_bit_for_bit(family, model):
    plain = run(family, model)
    install(spatial(model), find_self_attentions(spatial(model), cell=1), first_frame, ClipState())
    assert torch.equal(run(family, model), plain)


def test_every_frame_by_itself_is_the_image_model(family, model):
    plain = run(family, model)
    sites = find_self_attentions(spatial(model), cell=1)
    install(spatial(model), sites, alone, ClipState(num_frames=FRAMES))
    torch.testing.assert_close(run(family, model), plain, rtol=1e-4, atol=1e-5)


def processors(unet):
    attentions = {name: m for name, m in unet.named_modules() if isinstance(m, Attention)}
    return {name: module.processor for name, module in attentions.items()}


def test_undoing_gives_back_the_very_processors(family, model):
    unet = spatial(model)
    before = processors(unet)
    sites = choose_self_attentions(unet, cell=1, strides=family.strides)
    undo = install(unet, sites, GuidedAttention(), ClipState())
    changed = {name for name, one in processors(unet).items() if one is not before[name]}
    assert changed == {site.path for site in sites}
    undo()
    assert all(one is before[name] for name, one in processors(unet).items())


def guided(family, model, parts=("cross", "spatial", "temporal")):
    """The model with guided attention from a reference pass of the same input."""
    unet = spatial(model)
    sites = choose_self_attentions(unet, cell=1, strides=family.strides)
    with captured(unet, sites) as reference:
        run(family, model)
    known = tokens_by_count(family.strides)
    state = ClipState(num_frames=FRAMES, correspondences=known, reference=reference)
    install(unet, sites, GuidedAttention(parts=parts), state)
    return state


@pytest.mark.parametrize("part", ["spatial", "cross", "temporal"])
@pytest.mark.parametrize("family", ["sd2", "unconditional"])  # on tokens, on feature maps
def test_each_part_acts(family, part):
    family = FAMILIES[family]
    model = family.build()
    plain = run(family, model)
    guided(family, model, (part,))
    out = run(family, model)
    assert out.isfinite().all()
    assert (out - plain).abs().max() > 1e-5


@pytest.mark.parametrize("changed", [0, 1])
def test_halves_never_mix(changed):
    family = FAMILIES["embedded"]
    model = family.build()
    state = guided(family, model)
    before = run(family, model).unflatten(0, (2, FRAMES))
    other = slice(changed * FRAMES, (changed + 1) * FRAMES)
    for x in state.reference.hidden.values():
        x[other] += torch.randn_like(x[other])
    after = run(family, model).unflatten(0, (2, FRAMES))
    assert torch.equal(before[1 - changed], after[1 - changed])
    assert not torch.equal(before[changed], after[changed])


def test_two_calls_use_the_same_reference_in_any_order():
    family = FAMILIES["sd1"]
    model = family.build()
    guided(family, model)
    torch.testing.assert_close(run(family, model), run(family, model), rtol=0, atol=0)
