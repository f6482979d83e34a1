"""RAFT: weights of the authors' naming fit torchvision's network; any size, one frame."""

import pytest
import torch
from safetensors.torch import save_file

from legato.errors import ModelError
from legato.flow import raft

ORIGINAL_MODULES = [
    *(
        f"{net}.{layer}"
        for net in ("fnet", "cnet")
        for layer in (
            "conv1",
            "conv2",
            *(f"layer{k}.{j}.conv{i}" for k in (1, 2, 3) for j in (0, 1) for i in (1, 2)),
            "layer2.0.downsample.0",
            "layer3.0.downsample.0",
        )
    ),
    *(f"cnet.layer{k}.{j}.norm{i}" for k in (1, 2, 3) for j in (0, 1) for i in (1, 2)),
    *(f"cnet.{name}" for name in ("norm1", "layer2.0.norm3", "layer2.0.downsample.1")),
    *(f"cnet.{name}" for name in ("layer3.0.norm3", "layer3.0.downsample.1")),
    *(f"update_block.encoder.{n}" for n in ("convc1", "convc2", "convf1", "convf2", "conv")),
    *(f"update_block.gru.conv{g}{t}" for g in "zrq" for t in "12"),
    *(f"update_block.{n}" for n in ("flow_head.conv1", "flow_head.conv2", "mask.0", "mask.2")),
]


def original_state():
    """Names as in raft-things; each tensor holds its place in the list."""
    state = {}
    for index, module in enumerate(ORIGINAL_MODULES):
        kinds = ["weight", "bias"]
        if ".norm" in module or module.endswith("downsample.1"):
            kinds += ["running_mean", "running_var", "num_batches_tracked"]
        for kind in kinds:
            state[f"module.{module}.{kind}"] = torch.tensor(float(index))
    return state


@pytest.fixture(scope="module")
def network():
    try:
        return raft._network()
    except Exception as error:
        pytest.skip(f"torchvision is not installed: {error}")


def test_the_released_file_has_179_entries():
    assert len(original_state()) == 179


def test_every_name_of_the_network_is_found_once(network):
    found = raft.torchvision_keys(original_state())
    assert found.keys() == network.state_dict().keys()
    assert len(found) == 169  # ten are saved twice


def test_second_names_are_dropped_and_the_rest_keep_their_values():
    found = raft.torchvision_keys(original_state())
    index = ORIGINAL_MODULES.index("update_block.gru.convr2")
    assert found["update_block.recurrent_block.convgru2.convr.bias"] == index
    assert found["mask_predictor.conv.weight"] == ORIGINAL_MODULES.index("update_block.mask.2")
    assert not any("norm3" in key for key in found)


def test_a_foreign_name_is_refused():
    with pytest.raises(ModelError, match="no such part"):
        raft.torchvision_keys({"module.fnet.layer1.0.attention.weight": torch.zeros(1)})


def test_a_file_that_is_no_safetensors_is_refused(tmp_path):
    path = tmp_path / "raft.safetensors"
    path.write_bytes(b"nothing")
    with pytest.raises(ModelError, match="cannot be read"):
        raft.load_raft(path, device=torch.device("cpu"))


@pytest.mark.slow
@pytest.mark.parametrize(("frames", "rows", "cols"), [(2, 40, 33), (1, 40, 33), (2, 1, 1)])
def test_small_frames_give_finite_flow(network, frames, rows, cols):
    forward, backward = raft.RaftFlow(network)(torch.rand(frames, 3, rows, cols) * 2 - 1)
    assert forward.shape == backward.shape == (frames - 1, 2, rows, cols)
    assert torch.isfinite(forward).all()
    assert torch.isfinite(backward).all()


@pytest.mark.slow
def test_original_and_torchvision_names_load_the_same_weights(network, tmp_path):
    state = network.state_dict()
    names = {new: old for old, new in raft._renamed(original_state()) if new}
    save_file({names[key]: value for key, value in state.items()}, tmp_path / "original")
    loaded = raft.load_raft(tmp_path / "original", device=torch.device("cpu"))
    for key, value in loaded._network.state_dict().items():
        assert torch.equal(value, state[key]), key
