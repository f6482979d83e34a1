"""The released Upscale-A-Video files: every key finds its place, and the numbers agree."""

import json

import pytest
import torch
from tiny import SCHEDULER, tiny_clip_text

from legato.errors import ModelError
from legato.models.convert.upscale_a_video import (
    build_decoder,
    build_unet,
    convert_upscale_a_video,
    place,
)
from legato.models.load import load_upscaler

FULL = {
    "unet": (build_unet, 691_036_436),
    "vae_3d": (build_decoder, 55_325_927),
    "vae_video": (build_decoder, 113_776_365),
}


@pytest.fixture(scope="module")
def fixtures(shared):
    return shared / "parity" / "upscale_a_video"


def keys_of(fixtures, name, size="small"):
    table = json.loads((fixtures / f"keys_{size}.json").read_text())[name]
    return table.get("keys", table)


@pytest.mark.parametrize("name", FULL)
def test_the_full_size_files_map_key_by_key(fixtures, name):
    build, count = FULL[name]
    state = {
        key: torch.empty(shape, device="meta")
        for key, shape in keys_of(fixtures, name, "full").items()
    }
    model = build(state)
    parameters = list(model.parameters())
    rotary = 16 if name == "unet" else 0  # one table of frequencies, stored 17 times
    assert sum(p.numel() for p in parameters) + rotary == count
    kept = [key for key in state if place(key) is not None]
    assert len(kept) == len(parameters)
    assert all(key.endswith("rotary_emb.freqs") for key in state.keys() - set(kept))


@pytest.mark.parametrize("name", ["unet", "vae_video"])
def test_a_missing_key_is_named(fixtures, name):
    build, _ = FULL[name]
    keys = keys_of(fixtures, name, "full")
    state = {key: torch.empty(shape, device="meta") for key, shape in keys.items()}
    gone = next(key for key in reversed(state) if "temporal" in key or "3d" in key)
    del state[gone]
    with pytest.raises(ModelError, match=gone.rpartition(".")[2]):
        build(state)


def test_another_network_is_refused():
    with pytest.raises(ModelError, match="lacks"):
        build_unet({"conv_in.weight": torch.zeros(1)})


@pytest.fixture
def released(fixtures, tmp_path):
    """A folder laid out as the authors', with the small networks as pickles."""
    source = tiny_clip_text(tmp_path / "released")
    names = {"unet_small": "unet/unet_video", "vae_video_small": "vae/vae_video"}
    generator = torch.Generator().manual_seed(0)
    for name, file in names.items():
        path = source / f"{file}.bin"
        path.parent.mkdir()
        keys = keys_of(fixtures, name)
        state = {key: 0.1 * torch.randn(shape, generator=generator) for key, shape in keys.items()}
        torch.save(state, path)
    for part in ("scheduler", "low_res_scheduler"):
        (source / part).mkdir()
        (source / part / "scheduler_config.json").write_text(json.dumps(SCHEDULER))
    return source


@pytest.mark.slow
def test_a_converted_folder_loads_and_decodes(released, tmp_path):
    convert_upscale_a_video(released, tmp_path / "model", dtype=torch.float32)
    model = load_upscaler(str(tmp_path / "model"), torch.device("cpu"), torch.float32)
    assert (model.scale, model.unet.family) == (4, "upscale_a_video")
    original = build_unet(torch.load(released / "unet/unet_video.bin", weights_only=True))
    ours, theirs = model.unet.state_dict(), original.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    frames = model.decode(torch.randn(1, 2, 4, 4, 4), torch.rand(1, 2, 3, 4, 4))
    assert frames.shape == (1, 2, 3, 16, 16)
    assert model.encode(torch.rand(1, 2, 3, 16, 16)).shape == (1, 2, 4, 4, 4)


class Malicious:
    def __reduce__(self):
        return (print, ("a pickle ran a program",))


@pytest.mark.parametrize("damage", ["program", "truncated", "not tensors", "missing"])
def test_a_pickle_that_is_not_weights_alone_is_refused(released, tmp_path, damage, capsys):
    path = released / "unet" / "unet_video.bin"
    if damage == "program":
        torch.save({"conv_in.weight": Malicious()}, path)
    elif damage == "truncated":
        path.write_bytes(path.read_bytes()[:1000])
    elif damage == "not tensors":
        torch.save([1, 2], path)
    else:
        path.unlink()
    with pytest.raises(ModelError, match=r"unet_video\.bin"):
        convert_upscale_a_video(released, tmp_path / "model")
    assert "ran a program" not in capsys.readouterr().out
    assert not (tmp_path / "model").exists()
