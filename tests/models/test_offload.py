"""Parts that are not at work leave memory, and come back with the same numbers."""

import pytest
import torch
from tiny import tiny_diffusers_upscaler, tiny_upscaler_folder

from legato.models.load import load_upscaler, offloaded
from legato.models.offload import is_empty

HOW = (torch.device("cpu"), torch.float32)


@pytest.fixture(params=[tiny_upscaler_folder, tiny_diffusers_upscaler], ids=["legato", "diffusers"])
def root(request, tmp_path):
    return str(request.param(tmp_path / "model"))


@torch.no_grad()
def work(model, *, rounds=1):
    """Frames of the U-Net's prediction, and which parts were empty behind each use."""
    draw = torch.Generator().manual_seed(0)
    low_res = torch.rand(1, 2, 3, 8, 8, generator=draw)
    sample = torch.cat((torch.randn(1, 2, 4, 8, 8, generator=draw), low_res), dim=2)
    empty = []
    for _ in range(rounds):
        latents = model.unet(sample, 501, model.encode_prompt("face"), torch.tensor([20]))
        empty.append((is_empty(model.unet), is_empty(model.autoencoder)))
        frames = model.decode(latents, low_res)
        empty.append((is_empty(model.unet), is_empty(model.autoencoder)))
    return frames, empty


def test_one_part_at_a_time_gives_the_same_frames(root):
    model = load_upscaler(root, *HOW)
    expected, empty = work(model)
    assert set(empty) == {(False, False)}
    frames, empty = work(offloaded(model, root, *HOW), rounds=2)
    assert empty == [(False, True), (True, False)] * 2
    assert torch.equal(frames, expected)


def test_what_left_comes_back_in_the_same_precision_and_layout(root):
    how = (HOW[0], torch.bfloat16)
    model = load_upscaler(root, *how)
    before = dict(model.unet.state_dict())
    lean = offloaded(model, root, *how)
    lean.offload.use(lean.autoencoder)
    assert is_empty(model.unet)
    lean.offload.use(lean.unet)
    after = model.unet.state_dict()
    for key, value in before.items():
        assert torch.equal(after[key], value), key
        assert (after[key].dtype, after[key].stride()) == (value.dtype, value.stride())


def test_the_text_encoder_leaves_behind_each_prompt(tmp_path):
    model = load_upscaler(str(tiny_diffusers_upscaler(tmp_path / "model")), *HOW)
    assert model.text._encoder is not None
    first = model.encode_prompt("a cat")
    assert model.text._encoder is None
    other = model.encode_prompt("a dog")
    assert model.text._encoder is None
    assert not torch.equal(first, other)
    assert model.encode_prompt("a cat") is first
