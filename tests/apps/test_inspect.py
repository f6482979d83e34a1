"""`legato models inspect`: what a model is made of, and every kind of damage in one line."""

import json
import resource
import shutil
import struct
from math import prod

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import (
    NARROW,
    tiny_autoencoder_kl,
    tiny_diffusers_upscaler,
    tiny_temporal_decoder,
    tiny_unet,
    tiny_upscaler_folder,
    tiny_video_unet,
)
from tiny_image_model import tiny_diffusers_image_model, tiny_words_image_model

from legato.apps import cli
from legato.models.folder import hash_file

UNET = "unet/diffusion_pytorch_model.safetensors"


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.fixture
def inspect(capsys):
    """Run the command; return the exit code and what it says as facts."""

    def run(model):
        code = cli.main(["models", "inspect", str(model), "--json"])
        return code, json.loads(capsys.readouterr().out)

    return run


@pytest.fixture
def folder(tiny_model, tmp_path):
    return shutil.copytree(tiny_model, tmp_path / "tiny")


def reseal(folder):
    """Make the hashes fit what the files now hold."""
    values = json.loads((folder / "legato.json").read_text())
    paths = [p for p in folder.rglob("*") if p.is_file() and p.name != "legato.json"]
    values["sha256"] = {p.relative_to(folder).as_posix(): hash_file(p) for p in paths}
    (folder / "legato.json").write_text(json.dumps(values))


def test_the_embedded_model_is_whole_and_has_the_sizes_of_its_card(inspect):
    code, facts = inspect("embedded-x4")
    assert (code, facts["problems"], facts["name"]) == (0, [], "embedded-x4")
    assert {name: part["parameters"] for name, part in facts["parts"].items()} == {
        "unet": 7_437_860,
        "temporal": 2_384_210,
        "vae": 1_117_936,
        "words": 1_856,
    }
    assert facts["parts"]["temporal"]["sites"] == {"resnet.post": 14, "tblock.post": 4}
    assert facts["parts"]["unet"]["precision"] == ["float16"]


def test_every_part_is_counted_as_the_networks_count_themselves(inspect, tiny_model):
    code, facts = inspect(tiny_model)
    model = tiny_video_unet(spatial=tiny_unet(**NARROW))
    assert code == 0
    assert (facts["job"], facts["family"], facts["scale"]) == ("upscale", "video_ldm", 4)
    assert facts["prediction_type"] == "v_prediction"
    assert facts["licence"] == "Apache-2.0"
    assert facts["parts"]["unet"]["parameters"] == count(model.spatial)
    assert facts["parts"]["temporal"]["parameters"] == count(model.temporal)
    assert sum(facts["parts"]["temporal"]["sites"].values()) == len(model.sites)
    assert len(facts["sha256"]) == 64
    assert facts["files"] > 8


def test_a_folder_of_diffusers_is_an_image_model_without_hashes(inspect, tmp_path):
    code, facts = inspect(tiny_diffusers_upscaler(tmp_path / "image"))
    assert (code, facts["problems"]) == (0, [])
    assert (facts["family"], facts["sha256"], facts["files"]) == ("image", None, 0)
    assert facts["parts"]["vae"]["parameters"] == count(tiny_autoencoder_kl())
    assert facts["parts"]["text_encoder"]["parameters"] > 0


@pytest.mark.parametrize("make", [tiny_diffusers_image_model, tiny_words_image_model])
def test_an_image_model_is_no_broken_upscaler(inspect, tmp_path, make):
    folder = make(tmp_path / "image")
    code, facts = inspect(folder)
    assert (code, facts["problems"]) == (0, [])
    assert (facts["job"], facts["family"], facts["scale"]) == ("image", "image", 4)
    assert facts["prediction_type"] in ("epsilon", "v_prediction")
    weights = folder / UNET.replace("unet", "vae")
    state = load_file(weights)
    save_file(state | {"decoder.conv_out.bias": torch.zeros(5)}, weights)
    if (folder / "legato.json").exists():
        reseal(folder)
    code, facts = inspect(folder)
    assert code == 3
    assert "decoder.conv_out.bias is (5,), not (3,)" in facts["problems"][0]


def test_a_temporal_decoder_has_sites_of_its_own(inspect, folder):
    decoder = tiny_temporal_decoder()
    (folder / "temporal_decoder").mkdir()
    (folder / "temporal_decoder/config.json").write_text(json.dumps(decoder.temporal_config()))
    save_file(decoder.temporal_state(), folder / UNET.replace("unet", "temporal_decoder"))
    decoder.spatial.save_pretrained(folder / "vae")
    reseal(folder)
    code, facts = inspect(folder)
    assert (code, facts["problems"]) == (0, [])
    assert facts["parts"]["temporal_decoder"]["sites"]["conv.out"] == 1


def test_without_json_there_is_a_table(capsys, tiny_model):
    assert cli.main(["models", "inspect", tiny_model]) == 0
    said = capsys.readouterr().out
    assert "tiny-x4: upscale x4, family video_ldm, licence Apache-2.0" in said
    assert f"{count(tiny_unet(**NARROW)):,} parameters, float32" in said
    assert "resnet.post" in said
    assert "whole" in said


def test_a_full_size_model_is_read_from_its_headers_alone(inspect, tmp_path):
    """A file of 5 GB that takes no disk: its numbers are a hole that nothing reads."""
    folder = tiny_diffusers_upscaler(tmp_path / "large")
    table, offset = {}, 0
    for key, value in load_file(folder / UNET).items():
        shape = [100_000, *value.shape[1:]] if key == "class_embedding.weight" else value.shape
        size = 4 * prod(shape)
        table[key] = {"dtype": "F32", "shape": list(shape), "data_offsets": [offset, offset + size]}
        offset += size
    table["one_more"] = {
        "dtype": "F32",
        "shape": [10**9],
        "data_offsets": [offset, offset + 4 * 10**9],
    }
    header = json.dumps(table).encode()
    with (folder / UNET).open("wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        file.truncate(8 + len(header) + offset + 4 * 10**9)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    code, facts = inspect(folder)
    grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown_kib < 200_000
    assert facts["parts"]["unet"]["parameters"] > 10**9
    assert code == 3
    assert "has unknown one_more" in facts["problems"][0]
    assert "class_embedding.weight is (100000, 128), not (1000, 128)" in facts["problems"][0]


def truncate(folder):
    content = (folder / UNET).read_bytes()
    (folder / UNET).write_bytes(content[:-100])


def truncate_and_reseal(folder):
    truncate(folder)
    reseal(folder)


def another_width(folder):
    state = load_file(folder / UNET) | {"conv_in.weight": torch.zeros(32, 9, 3, 3)}
    save_file(state, folder / UNET)
    reseal(folder)


def only_a_pickle(folder):
    (folder / UNET).unlink()
    torch.save({"a": torch.zeros(1)}, folder / "unet/diffusion_pytorch_model.bin")
    reseal(folder)


def without(part):
    def damage(folder):
        shutil.rmtree(folder / part)
        reseal(folder)

    return damage


def another_family(folder):
    path = folder / "temporal/config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"family": "other"}))
    reseal(folder)


DAMAGES = {
    "truncated": (truncate, [UNET, "sha256 differs"]),
    "truncated before hashing": (truncate_and_reseal, [UNET, "not a whole safetensors file"]),
    "wrong shape": (another_width, ["conv_in.weight is (32, 9, 3, 3), not (16, 7, 3, 3)"]),
    "a pickle": (only_a_pickle, ["unet/diffusion_pytorch_model.bin", "legato models convert"]),
    "no schedule": (without("scheduler"), ["scheduler_config.json is missing"]),
    "no decoder": (without("vae"), ["vae/config.json is missing"]),
    "no text": (without("words"), ["text_encoder/config.json is missing", "tokenizer"]),
    "wrong family": (another_family, ["temporal/config.json", "family='other'"]),
}


@pytest.mark.parametrize(("damage", "says"), DAMAGES.values(), ids=DAMAGES)
def test_damage_is_named_and_gives_exit_code_3(inspect, folder, damage, says):
    damage(folder)
    code, facts = inspect(folder)
    problems = facts["problems"]
    assert code == 3
    assert all("\n" not in problem for problem in problems)
    assert [word for word in says if word not in " ".join(problems)] == []


def test_several_damages_are_all_named_and_each_once(inspect, folder):
    truncate(folder)
    (folder / "vae/config.json").unlink()
    _, facts = inspect(folder)
    said = " ".join(facts["problems"])
    assert "sha256 differs" in said
    assert "vae/config.json is missing" in said
    assert len(set(facts["problems"])) == len(facts["problems"])


@pytest.mark.parametrize(
    ("model", "says"), [("/nowhere", "neither a known name"), ("sd-x4-upscaler", "is not there")]
)
def test_a_model_that_is_not_there_is_one_line(capsys, monkeypatch, tmp_path, model, says):
    monkeypatch.setattr("legato.models.spec.HOME", tmp_path)
    assert cli.main(["models", "inspect", model]) == 3
    said = capsys.readouterr().err
    assert says in said
    assert said.count("\n") == 1


def test_a_manifest_that_is_no_json_is_one_line(capsys, folder):
    (folder / "legato.json").write_text("{")
    assert cli.main(["models", "inspect", str(folder)]) == 3
    assert "legato.json is damaged" in capsys.readouterr().err


def test_a_saved_folder_stays_whole(inspect, tmp_path):
    assert inspect(tiny_upscaler_folder(tmp_path / "again"))[0] == 0
