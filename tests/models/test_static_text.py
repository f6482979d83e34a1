"""Text is read once: the same numbers as reading it at every step, and never those of another."""

import copy
import pickle

import pytest
import torch
from diffusers.models.attention_processor import AttnProcessor2_0
from tiny import tiny_clip, tiny_unet, tiny_video_unet

from legato.models.inflate import inflate


@pytest.fixture
def model():
    return tiny_video_unet("upscale_a_video")


@pytest.fixture
def clip():
    return dict(tiny_clip())


def assert_same(one, other):
    torch.testing.assert_close(one, other, rtol=0, atol=1e-5)


def counted(model):
    """Count the texts that keys are computed of."""
    calls = []
    for path, module in model.spatial.named_modules():
        if path.endswith("attn2.to_k"):
            module.register_forward_hook(lambda module, args, out: calls.append(args[0].shape))
    return calls


@torch.no_grad()
def plainly(model, clip):
    """The same with every cross-attention as diffusers computes it."""
    twin = copy.deepcopy(model)
    twin.spatial.set_attn_processor(AttnProcessor2_0())
    return twin(**clip)


@torch.no_grad()
def test_the_result_is_that_of_plain_attention(model, clip):
    for _ in range(2):
        assert_same(model(**clip), plainly(model, clip))


@torch.no_grad()
def test_keys_are_computed_once_per_text_and_clip(model, clip):
    calls = counted(model)
    for timestep in (701, 34, 5):
        model(**clip | {"timestep": timestep})
    attentions = sum(path.endswith("attn2") for path, _ in model.spatial.named_modules())
    assert [tuple(shape) for shape in calls] == [(2, 5, 16)] * attentions


@torch.no_grad()
def test_prompt_and_negative_prompt_in_turn_are_both_remembered(model, clip):
    other = clip | {"encoder_hidden_states": clip["encoder_hidden_states"].flip(1)}
    outs = [model(**clip), model(**other)]
    calls = counted(model)
    assert torch.equal(model(**clip), outs[0])
    assert torch.equal(model(**other), outs[1])
    assert not calls


@pytest.mark.parametrize("change", ["another tensor", "in place", "another shape"])
@torch.no_grad()
def test_another_text_is_read_anew(model, clip, change):
    text = clip["encoder_hidden_states"].clone()
    model(**clip | {"encoder_hidden_states": text})
    if change == "in place":
        text[0, 3] += 1
    else:
        text = text + 1 if change == "another tensor" else text[:, :4]
    changed = clip | {"encoder_hidden_states": text}
    assert_same(model(**changed), plainly(model, changed))


@pytest.mark.parametrize("change", ["optimizer", "load", "dtype"])
@torch.no_grad()
def test_other_weights_read_it_anew(model, clip, change):
    model(**clip)
    if change == "optimizer":
        for parameter in model.spatial.parameters():
            parameter.add_(0.01)
    elif change == "load":
        model.spatial.load_state_dict(tiny_unet(seed=9).state_dict())
    else:
        model.to(torch.float64)
        clip = {k: v.double() if v.is_floating_point() else v for k, v in clip.items()}
    assert_same(model(**clip), plainly(model, clip))


@torch.no_grad()
def test_a_text_of_equal_tokens_is_read_without_asking(clip):
    model = tiny_video_unet()
    asked = []
    for path, module in model.spatial.named_modules():
        if path.endswith("attn2.to_q"):
            module.register_forward_hook(lambda *_: asked.append(1))
    same = clip | {"encoder_hidden_states": clip["encoder_hidden_states"][:, :1].repeat(1, 8, 1)}
    out = model(**same)
    assert not asked
    assert_same(out, plainly(model, same))


@torch.no_grad()
def test_attention_to_the_text_alone_is_read_once_too(clip):
    model = inflate(tiny_unet(only_cross_attention=True), "upscale_a_video").eval()
    assert sum(path.endswith("attn1") for path in model._text_memory.attentions) > 0
    assert_same(model(**clip), plainly(model, clip))


def test_training_does_not_see_it(model, clip):
    model(**clip).sum().backward()
    layers = [a.to_k for a in model._text_memory.attentions.values()]
    assert all(layer.weight.grad is not None for layer in layers)


@torch.no_grad()
def test_copies_and_pickles_read_for_themselves(model, clip):
    out = model(**clip)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(twin(**clip), out)
        text = clip["encoder_hidden_states"] + 1
        assert not torch.equal(twin(**clip | {"encoder_hidden_states": text}), out)
        assert torch.equal(model(**clip), out)


def test_taken_off_the_image_model_has_its_own_attention(model):
    processors = model.detach().attn_processors.values()
    assert {type(processor) for processor in processors} == {AttnProcessor2_0}
