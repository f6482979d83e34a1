"""Context, micro-conditioning and window of temporal layers (fact sheet Video LDM: I8, I9)."""

import pytest
import torch
from tiny import randomise_, tiny_unet, tiny_video_unet

from legato.diffusion.context import context_condition, first_frames
from legato.errors import InputError
from legato.models.inflate import inflate
from legato.models.micro_conditioning import ClipConditions

TOLD = {"sees_frame_rate": True, "sees_stage": True, "sees_noise_level": True}


def clip(num_frames=4):
    generator = torch.Generator().manual_seed(1)
    return {
        "sample": torch.randn(2, num_frames, 4, 8, 8, generator=generator),
        "timestep": torch.tensor([701, 34]),
        "encoder_hidden_states": torch.randn(2, 5, 16, generator=generator),
    }


def unet(**options):
    model = inflate(
        tiny_unet(in_channels=4, num_class_embeds=None), "video_ldm", context_channels=5, **options
    )
    return model.eval()


def given(num_frames=4, count=2):
    latents = torch.randn(2, num_frames, 4, 8, 8, generator=torch.Generator().manual_seed(3))
    return context_condition(latents, first_frames(torch.tensor([count, count]), num_frames))


@torch.no_grad()
def test_fresh_junctions_have_no_effect():
    model = unet()
    plain = model(**clip())
    assert torch.equal(model(**clip(), conditions=ClipConditions(given=given())), plain)


@torch.no_grad()
def test_a_context_of_zeros_is_no_context_bit_for_bit():
    model = unet()
    randomise_(model.temporal)
    nothing = ClipConditions(given=torch.zeros_like(given()))
    assert torch.equal(model(**clip(), conditions=nothing), model(**clip()))
    some = model(**clip(), conditions=ClipConditions(given=given()))
    assert (some - model(**clip())).abs().max() > 1e-3


@torch.no_grad()
def test_context_never_reaches_a_switched_off_model():
    model = unet(**TOLD)
    randomise_(model.temporal)
    said = ClipConditions(given=given(), stage=torch.tensor(1), frame_rate=torch.tensor(7.5))
    with model.disabled():
        assert torch.equal(model(**clip(), conditions=said), model(**clip()))


@torch.no_grad()
def test_with_the_branch_mixed_out_the_context_is_too():
    """The skip path is taken before the junction: alpha = 1 is the image model."""
    model = unet()
    randomise_(model.temporal)
    for name, parameter in model.temporal.named_parameters():
        if name.endswith("mix_factor"):
            parameter.fill_(1e9)
    with model.disabled():
        image = model(**clip())
    assert torch.equal(model(**clip(), conditions=ClipConditions(given=given())), image)


@pytest.mark.parametrize(
    ("name", "values"), [("frame_rate", (2.0, 30.0)), ("stage", (0, 1)), ("noise_level", (5, 300))]
)
@torch.no_grad()
def test_each_micro_condition_is_silent_at_first_and_then_told_apart(name, values):
    model = unet(**TOLD)
    low, high = (ClipConditions(**{name: torch.tensor(value)}) for value in values)
    assert torch.equal(model(**clip(), conditions=low), model(**clip()))
    randomise_(model.temporal)
    outputs = [model(**clip(), conditions=said) for said in (low, high)]
    assert (outputs[0] - outputs[1]).abs().max() > 1e-4


def test_layers_without_a_junction_refuse_a_context():
    model = tiny_video_unet()
    with pytest.raises(InputError, match="context of 5 channels"):
        model._context(2, 4, None, ClipConditions(given=given()))


@pytest.mark.parametrize(
    "options", [{"conv": False, "context_channels": 5}, {"conv": False, "sees_stage": True}]
)
def test_conditions_without_convolutions_are_refused(options):
    with pytest.raises(InputError):
        inflate(tiny_unet(), "video_ldm", **options)


@torch.no_grad()
def test_a_window_keeps_distant_frames_apart():
    """Attention only: frames further apart than (layers x window) cannot reach each other."""
    model = inflate(
        tiny_unet(in_channels=4, num_class_embeds=None), "video_ldm", conv=False, positions="rope"
    ).eval()
    randomise_(model.temporal)
    layers = len(model.sites)
    long = clip(2 * layers + 2)
    changed = {**long, "sample": long["sample"].clone()}
    changed["sample"][:, -1] += 1
    narrow = ClipConditions(window=1)
    first, second = (model(**c, conditions=narrow)[:, :layers] for c in (long, changed))
    assert torch.equal(first, second)
    first, second = (model(**c)[:, :layers] for c in (long, changed))
    assert not torch.equal(first, second)
