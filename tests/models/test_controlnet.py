"""A ControlNet joins as diffusers' own pipelines join it, and leaves no trace."""

import pytest
import torch
from diffusers.models import modeling_utils
from tiny_image_model import tiny_controlnet, tiny_words_image_model

from legato.errors import ModelError
from legato.models.controlnet import load_controlnet
from legato.models.image_model import load_image_model

CPU, FLOAT = torch.device("cpu"), torch.float32


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    root = tiny_words_image_model(tmp_path_factory.mktemp("image") / "m")
    return load_image_model(str(root), CPU, FLOAT)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tiny_controlnet(tmp_path_factory.mktemp("control") / "c")


@pytest.fixture
def call(model):
    """A call of two halves of two frames."""
    sample, text = torch.randn(2, 2, 4, 8, 8), model.encode_prompt("day").repeat(2, 1, 1)

    def run():
        with torch.no_grad():
            return model.unet(sample, torch.tensor([300, 300]), text)

    run.sample, run.text = sample, text
    return run


def load(root, model, scale=1.0):
    return load_controlnet(root, model, scale=scale, device=CPU, dtype=FLOAT)


def test_residuals_are_those_of_diffusers(call, model, root):
    controlnet, maps = load(root, model, scale=0.7), torch.rand(2, 3, 32, 32)
    with controlnet.given(maps):
        ours = call()
    inputs = (call.sample.flatten(0, 1), 300, call.text.repeat_interleave(2, dim=0))
    with torch.no_grad():
        down, middle = controlnet.network(
            *inputs, maps.repeat(2, 1, 1, 1), conditioning_scale=0.7, return_dict=False
        )
        theirs = model.unet.spatial(
            *inputs, down_block_additional_residuals=down, mid_block_additional_residual=middle
        ).sample
    assert torch.allclose(ours.flatten(0, 1), theirs, atol=1e-5)


def test_maps_matter_and_nothing_stays_behind(call, model, root):
    controlnet, plain = load(root, model), call()
    with controlnet.given(torch.zeros(2, 3, 32, 32)):
        dark = call()
    with controlnet.given(torch.ones(2, 3, 32, 32)):
        bright = call()
    assert not torch.equal(dark, plain)
    assert not torch.equal(dark, bright)
    assert torch.equal(call(), plain)


def test_at_scale_0_it_does_nothing(call, model, root):
    plain = call()
    with load(root, model, scale=0.0).given(torch.ones(2, 3, 32, 32)):
        assert torch.equal(call(), plain)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"cross_attention_dim": 32}, "cross_attention_dim is 32"),
        ({"conditioning_embedding_out_channels": (8, 8, 8, 8)}, "pixels per latent cell is 8"),
        ({"conditioning_channels": 1}, "channels of maps is 1"),
        ({"controlnet_conditioning_channel_order": "grb"}, "order of a map's channels is grb"),
        ({"class_embed_type": "timestep"}, "class_embed_type is timestep"),
        ({"num_class_embeds": 10}, "num_class_embeds is 10"),
        ({"addition_embed_type": "text"}, "addition_embed_type is text"),
    ],
)
def test_one_for_another_kind_of_model_is_refused(model, tmp_path, changes, said):
    with pytest.raises(ModelError, match=said):
        load(tiny_controlnet(tmp_path / "c", **changes), model)


def test_loading_says_nothing(root, model, monkeypatch):
    monkeypatch.setattr(modeling_utils.logger, "warning", pytest.fail)
    load(root, model)


def test_a_missing_one_is_refused(model, tmp_path):
    with pytest.raises(ModelError, match="does not exist"):
        load(tmp_path / "nowhere", model)
