"""The released Upscale-A-Video files: every key finds its place, and the numbers agree."""

import hashlib
import json
from collections import Counter

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from pickles import Malicious
from tiny import SCHEDULER, tiny_clip_text

from legato.errors import ModelError
from legato.models.convert.upscale_a_video import (
    AUTOENCODER_CONFIG,
    UNET_CONFIG,
    build_decoder,
    build_unet,
    convert_upscale_a_video,
    place,
    split,
)
from legato.models.decoder import TemporalDecoder, TemporalDecoderOptions
from legato.models.inflate import inflate
from legato.models.load import load_upscaler

FULL = {
    "unet": (build_unet, 691_036_436, 1158),
    "vae_3d": (build_decoder, 55_325_927, 204),
    "vae_video": (build_decoder, 113_776_365, 296),
}
"""Name in the fixture -> builder, parameters, keys of the released file."""
ROTARY = {"keys": 17, "parameters": 16}
"""The released U-Net stores one table of 16 frequencies 17 times; it is nothing learned."""


def full_size(name):
    """A network of the released size, from our configuration alone, without numbers."""
    with torch.device("meta"):
        if name == "unet":
            widths = {"block_out_channels": (256, 512, 512, 1024), "attention_head_dim": 8}
            config = UNET_CONFIG | widths | {"cross_attention_dim": 1024}
            return inflate(UNet2DConditionModel(**config), "upscale_a_video")
        autoencoder = AutoencoderKL(**AUTOENCODER_CONFIG, block_out_channels=(128, 256, 512))
        video = {"conv": "volume", "condition_channels": 128}
        extra = {"conv": "none"} if name == "vae_3d" else video
        return TemporalDecoder(autoencoder, TemporalDecoderOptions(**extra, norm_stats="clip"))


def sizes(named, *groups):
    """Parameters by the first of the groups that is part of their name."""
    counted = Counter()
    for name, parameter in named:
        counted[next((group for group in groups if group in name), "")] += parameter.numel()
    return dict(counted)


@pytest.mark.parametrize("name", FULL)
def test_the_full_size_network_has_the_released_sizes(name):
    model, (_, count, keys) = full_size(name), FULL[name]
    parameters = list(model.parameters())
    rotary = ROTARY if name == "unet" else {"keys": 0, "parameters": 0}
    assert sum(p.numel() for p in parameters) + rotary["parameters"] == count
    assert len(parameters) + rotary["keys"] == keys


def test_the_parts_of_the_full_size_unet_have_the_released_sizes():
    model = full_size("unet")
    assert sum(p.numel() for p in model.spatial.parameters()) == 473_398_020
    kinds = ("attn_temporal", "norm_temporal", "3d_temporal", "3d_spatial", "shift_conv")
    assert sizes(model.temporal.named_parameters(), *kinds) == {
        "": 53_544_960,  # the residual block before each transformer
        "attn_temporal": 35_666_960 - ROTARY["parameters"],
        "norm_temporal": 22_528,
        "3d_temporal": 40_409_600,
        "3d_spatial": 83_663_360,
        "shift_conv": 4_331_008,
    }
    assert Counter(site.kind for site in model.sites) == {
        "attn.pre": 16,
        "tblock.pre_ff": 16,
        "block.post": 9,
    }


def test_the_parts_of_the_full_size_decoder_have_the_released_sizes():
    model = full_size("vae_video")
    outside = 8 * 8 + 8 + 4 * 4 + 4  # 1x1 convolutions around the latents
    encoder = sum(p.numel() for p in model.spatial.encoder.parameters())
    decoder = sum(p.numel() for p in model.spatial.decoder.parameters())
    assert encoder + decoder + outside == 55_325_927
    groups = ("condition_in", "condition_fuse", "mid_block", "up_blocks")
    assert sizes(model.temporal.named_parameters(), *groups) == {
        "condition_in": 1_333_126,
        "condition_fuse": 15_081_216,
        "mid_block": 14_158_848,
        "up_blocks": 27_877_248,
    }


GOLDEN = {
    "unet": "de9eca5b7ed0d2f367a2e806e54fdd7852851f12a8e329b381b7cd5b22fc3ec2",
    "vae_3d": "684466feb45d9909820b8a3c8679e663a6ce54ff915b64ea9dd78d24ddbfd654",
    "vae_video": "a3164085be93d8b1c06b3171af1df0bfc058943905a73967f4401f7f65a27e9b",
}
"""sha256 of every name and shape: a change here breaks every converted folder."""


@pytest.mark.parametrize("name", FULL)
def test_names_and_shapes_of_the_full_size_network_are_pinned(name):
    state = full_size(name).state_dict()
    lines = sorted(f"{key} {tuple(value.shape)}" for key, value in state.items())
    assert hashlib.sha256("\n".join(lines).encode()).hexdigest() == GOLDEN[name]


@pytest.fixture(scope="module")
def fixtures(shared):
    return shared / "parity" / "upscale_a_video"


def keys_of(fixtures, name, size="small"):
    table = json.loads((fixtures / f"keys_{size}.json").read_text())[name]
    return table.get("keys", table)


@pytest.mark.parametrize("name", FULL)
def test_the_full_size_files_map_key_by_key(fixtures, name):
    build, _, count = FULL[name]
    keys = keys_of(fixtures, name, "full")
    state = {key: torch.empty(shape, device="meta") for key, shape in keys.items()}
    nowhere = [key for key in state if place(key) is None]
    assert len(state) == count
    assert all(key.endswith("rotary_emb.freqs") for key in nowhere)
    assert len(nowhere) == (ROTARY["keys"] if name == "unet" else 0)
    spatial, temporal = split(state)
    assert len(spatial) + len(temporal) == count - len(nowhere)  # no two keys in one place
    model, ours = build(state), full_size(name)
    for part, given in (("spatial", spatial), ("temporal", temporal)):
        wanted = getattr(ours, part).state_dict()
        assert {k: v.shape for k, v in given.items()} == {k: v.shape for k, v in wanted.items()}
    assert model.temporal_config() == ours.temporal_config()


@pytest.mark.parametrize("name", ["unet", "vae_video"])
def test_a_missing_key_is_named(fixtures, name):
    build, _, _ = FULL[name]
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
