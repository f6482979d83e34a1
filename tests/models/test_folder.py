"""Model folders: a round trip, and every kind of damage is refused in one line."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import (
    SCHEDULER,
    tiny_clip,
    tiny_clip_text,
    tiny_diffusers_upscaler,
    tiny_embedded_autoencoder,
    tiny_temporal_decoder,
    tiny_unet,
    tiny_upscaler_folder,
    tiny_video_unet,
)

from legato.errors import InputError, ModelError
from legato.models.folder import FolderWriter, ModelFolder, hash_file
from legato.models.load import load_upscaler
from legato.models.manifest import Manifest, UpscalerDefaults
from legato.models.save import UpscalerParts, save_upscaler

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    return tiny_upscaler_folder(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def folder(packed, tmp_path):
    return shutil.copytree(packed, tmp_path / "tiny")


@pytest.fixture(scope="module")
def image_folder(tmp_path_factory):
    return tiny_diffusers_upscaler(tmp_path_factory.mktemp("models") / "image")


def test_a_model_knows_whether_its_frames_depend_on_each_other(packed, image_folder):
    assert load(packed).is_temporal
    assert not load(image_folder).is_temporal


def load(path, dtype=torch.float32):
    return load_upscaler(str(path), CPU, dtype)


def reseal(folder):
    """Make the hashes fit what the files now hold."""
    values = json.loads((folder / "legato.json").read_text())
    paths = [p for p in sorted(folder.rglob("*")) if p.is_file() and p.name != "legato.json"]
    values["sha256"] = {p.relative_to(folder).as_posix(): hash_file(p) for p in paths}
    (folder / "legato.json").write_text(json.dumps(values))


def test_a_model_of_other_defaults_is_another_model(packed, folder):
    edit_json("legato.json", window=5)(folder)
    assert load(folder).sha256 != load(packed).sha256


@torch.no_grad()
def test_a_saved_model_loads_with_the_same_results(packed):
    model = load(packed)
    clip = tiny_clip()
    torch.testing.assert_close(model.unet(**clip), tiny_video_unet()(**clip), rtol=0, atol=1e-5)
    latents, low_res = torch.randn(1, 3, 4, 6, 5), torch.rand(1, 3, 3, 6, 5)
    autoencoder = tiny_embedded_autoencoder()
    torch.testing.assert_close(
        model.decode(latents, low_res), autoencoder.decode(latents, low_res), rtol=0, atol=1e-5
    )
    alone = autoencoder.decode(latents, low_res, temporal=False)
    torch.testing.assert_close(
        model.decode(latents, low_res, temporal=False), alone, rtol=0, atol=1e-5
    )
    assert model.encode_prompt("face").shape == (1, 8, 16)
    assert model.encode(torch.rand(1, 2, 3, 8, 8)).shape == (1, 2, 4, 2, 2)


def test_a_loaded_model_knows_what_it_is(packed):
    model = load(packed)
    assert (model.name, model.licence, model.scale) == ("tiny-x4", "Apache-2.0", 4)
    assert model.defaults == UpscalerDefaults(steps=1, decoder_context=1)
    assert model.schedule["prediction_type"] == "v_prediction"
    assert len(model.sha256) == 64
    assert not model.unet.training
    assert not any(p.requires_grad for p in model.unet.parameters())


def test_half_precision_folders_keep_mixing_weights_whole(tmp_path):
    parts = UpscalerParts(
        unet=tiny_video_unet(),
        autoencoder=tiny_embedded_autoencoder(),
        text=ModelFolder(tiny_clip_text(tmp_path / "text")),
        schedule=SCHEDULER,
        low_res_schedule=SCHEDULER,
    )
    save_upscaler(tmp_path / "m", parts, Manifest(name="m", family="video_ldm", licence="-"))
    state = load_file(tmp_path / "m/temporal/diffusion_pytorch_model.safetensors")
    kinds = {key.endswith("mix_factor"): value.dtype for key, value in state.items()}
    assert kinds == {True: torch.float32, False: torch.float16}
    model = load(tmp_path / "m", torch.bfloat16)
    assert model.unet.dtype == torch.bfloat16
    assert model.encode_prompt("a cat").shape == (1, 7, 16)


@torch.no_grad()
def test_a_temporal_decoder_survives_the_folder(tmp_path):
    decoder = tiny_temporal_decoder(conv="volume", condition_channels=16, norm_stats="clip")
    parts = UpscalerParts(
        unet=tiny_video_unet("upscale_a_video"),
        autoencoder=decoder,
        text=ModelFolder(tiny_clip_text(tmp_path / "text")),
        schedule=SCHEDULER,
        low_res_schedule=SCHEDULER,
    )
    manifest = Manifest(name="m", family="upscale_a_video", licence="-")
    save_upscaler(tmp_path / "m", parts, manifest, dtype=None)
    model = load(tmp_path / "m")
    latents, low_res = torch.randn(1, 3, 4, 6, 5), torch.rand(1, 3, 3, 6, 5)
    torch.testing.assert_close(
        model.decode(latents, low_res), decoder.decode(latents, low_res), rtol=0, atol=1e-5
    )


def test_a_model_without_an_encoder_says_so(folder):
    path = folder / "vae/diffusion_pytorch_model.safetensors"
    state = load_file(path)
    save_file({k: v for k, v in state.items() if not k.startswith("encoder.")}, path)
    reseal(folder)
    assert load(folder).encode is None


@torch.no_grad()
def test_a_plain_folder_of_diffusers_works_frame_by_frame(image_folder):
    model = load(image_folder)
    assert (model.scale, model.unet.family) == (4, "image")
    clip = tiny_clip()
    changed = clip | {"sample": clip["sample"].clone()}
    changed["sample"][:, 2] += 1
    moved = (model.unet(**changed) - model.unet(**clip)).abs().amax((2, 3, 4))
    assert (moved[:, 2] > 1e-3).all()
    assert not (moved[:, :2] > 1e-4).any()
    assert model.decode(torch.randn(1, 2, 4, 4, 4), torch.rand(1, 2, 3, 4, 4)).shape[-1] == 16


def test_old_names_of_an_autoencoders_attention_are_read(image_folder, tmp_path):
    folder = shutil.copytree(image_folder, tmp_path / "old")
    path = folder / "vae/diffusion_pytorch_model.safetensors"
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    state = load_file(path)
    for new, name in old.items():
        state = {
            k.replace(f"attentions.0.{new}", f"attentions.0.{name}"): v for k, v in state.items()
        }
    save_file(state, path)
    expected = load(image_folder).autoencoder.state_dict()
    ours = load(folder).autoencoder.state_dict()
    assert all(torch.equal(ours[key], expected[key]) for key in expected)


def test_a_half_precision_variant_of_diffusers_is_read(image_folder, tmp_path):
    folder = shutil.copytree(image_folder, tmp_path / "fp16")
    for path in list(folder.rglob("*.safetensors")):
        path.rename(path.with_name(f"{path.stem}.fp16.safetensors"))
    model = load(folder)
    assert torch.equal(model.encode_prompt("a"), load(image_folder).encode_prompt("a"))


def test_a_plain_folder_may_predict_noise(image_folder, tmp_path):
    folder = shutil.copytree(image_folder, tmp_path / "eps")
    path = folder / "scheduler/scheduler_config.json"
    path.write_text(json.dumps(SCHEDULER | {"prediction_type": "epsilon"}))
    assert load(folder).schedule["prediction_type"] == "epsilon"


def test_everyone_may_read_a_saved_model(packed):
    assert all(path.stat().st_mode & 0o444 == 0o444 for path in packed.rglob("*"))


def test_the_same_model_saved_twice_has_the_same_hashes(packed, tmp_path):
    again = tiny_upscaler_folder(tmp_path / "again")
    assert load(again).sha256 == load(packed).sha256


def test_saving_replaces_a_model_but_nothing_else(folder, tmp_path):
    tiny_upscaler_folder(folder, name="second")
    assert load(folder).name == "second"
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/a.jpg").write_bytes(b"x")
    with pytest.raises(InputError, match="no model"):
        tiny_upscaler_folder(tmp_path / "photos")
    assert (tmp_path / "photos/a.jpg").exists()


UNET = "unet/diffusion_pytorch_model.safetensors"


def truncate(folder):
    path = folder / UNET
    path.write_bytes(path.read_bytes()[:-100])


def flip_a_bit(folder):
    path = folder / UNET
    content = bytearray(path.read_bytes())
    content[-50] ^= 1
    path.write_bytes(content)


def truncate_and_reseal(folder):
    truncate(folder)
    reseal(folder)


def pickle_under_a_false_name(folder):
    torch.save({"a": torch.zeros(1)}, folder / UNET)
    reseal(folder)


def only_a_pickle(folder):
    (folder / UNET).unlink()
    torch.save({"a": torch.zeros(1)}, folder / "unet/diffusion_pytorch_model.bin")
    reseal(folder)


def another_width(folder):
    path = folder / UNET
    state = load_file(path)
    state["conv_in.weight"] = torch.zeros(32, 9, 3, 3)
    save_file(state, path)
    reseal(folder)


def drop_many_keys(folder):
    path = folder / UNET
    state = load_file(path)
    save_file({k: v for k, v in state.items() if "resnets" not in k}, path)
    reseal(folder)


def edit_json(path_in_folder, **changes):
    def edit(folder):
        path = folder / path_in_folder
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))
        if path_in_folder != "legato.json":
            reseal(folder)

    return edit


def write(name, text):
    def damage(folder):
        (folder / name).write_text(text)
        if name != "legato.json":
            reseal(folder)

    return damage


DAMAGES = {
    "truncated weights": (truncate, "sha256 differs"),
    "a flipped bit": (flip_a_bit, "sha256 differs"),
    "truncated before hashing": (truncate_and_reseal, "not a whole safetensors"),
    "a pickle named safetensors": (pickle_under_a_false_name, "not a whole safetensors"),
    "only a pickle": (only_a_pickle, "legato models convert"),
    "a missing file": (lambda f: (f / UNET).unlink(), "missing"),
    "a missing part": (lambda f: (shutil.rmtree(f / "scheduler"), reseal(f)), "scheduler"),
    "another width": (another_width, r"conv_in\.weight is \(32, 9, 3, 3\), not \(32, 7, 3, 3\)"),
    "many missing keys": (drop_many_keys, r"and \d+ more"),
    "no json": (write("unet/config.json", "{"), "damaged"),
    "a json list": (write("legato.json", "[]"), "no JSON object"),
    "another class": (edit_json("unet/config.json", _class_name="UNet3D"), "UNet3D"),
    "a nonsense value": (edit_json("unet/config.json", block_out_channels=[31, 7]), "config"),
    "a foreign family": (edit_json("temporal/config.json", family="other"), "other"),
    "a newer format": (edit_json("legato.json", format_version=99), "99"),
    "an unknown field": (edit_json("legato.json", colour="red"), "colour"),
    "a number for a name": (edit_json("legato.json", name=3), "name=3"),
    "hashes in a list": (edit_json("legato.json", sha256=[]), r"sha256=\[\]"),
    "a hash that is a number": (edit_json("legato.json", sha256={"a": 1}), "a=1"),
    "settings in words": (edit_json("legato.json", defaults={"steps": "few"}), "steps='few'"),
    "a share above 1": (edit_json("legato.json", defaults={"trust": 1.5}), "trust=1.5"),
    "a share below 0": (
        edit_json("legato.json", defaults={"first_estimate_share": -0.1}),
        "first_estimate_share=-0.1",
    ),
    "another job": (edit_json("legato.json", job="translate"), "translate"),
    "another scale": (edit_json("legato.json", scale=8), "scale is 4"),
    "another prediction": (edit_json("legato.json", prediction_type="epsilon"), "epsilon"),
    "a path that leads out": (edit_json("legato.json", sha256={"../x": "0"}), "missing"),
}


@pytest.mark.parametrize(("damage", "message"), DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_folder_is_refused_in_one_line(folder, damage, message):
    damage(folder)
    with pytest.raises(ModelError, match=message) as error:
        load(folder)
    assert "\n" not in str(error.value)
    assert str(error.value).count(";") <= 12


def test_a_damaged_text_encoder_is_refused(image_folder, tmp_path):
    folder = shutil.copytree(image_folder, tmp_path / "image")
    path = folder / "text_encoder/model.safetensors"
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(ModelError, match="text encoder"):
        load(folder)


def test_a_text_encoder_that_lacks_weights_is_refused(image_folder, tmp_path):
    folder = shutil.copytree(image_folder, tmp_path / "image")
    path = folder / "text_encoder/model.safetensors"
    state = load_file(path)
    save_file({k: v for k, v in state.items() if "layers.1" not in k}, path, {"format": "pt"})
    with pytest.raises(ModelError, match="lacks"):
        load(folder)


def test_a_unet_that_takes_no_small_frames_is_refused(image_folder, tmp_path):
    folder = shutil.copytree(image_folder, tmp_path / "image")
    tiny_unet(in_channels=4).save_pretrained(folder / "unet")
    with pytest.raises(ModelError, match="input channels is 4"):
        load(folder)


@pytest.mark.parametrize("weight_map", [[], ["a"], {"a": 1}, {"a": {}}])
def test_an_index_that_tells_no_files_is_refused(weight_map, tmp_path):
    (tmp_path / "unet").mkdir()
    index = tmp_path / "unet" / "diffusion_pytorch_model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": weight_map}))
    with pytest.raises(ModelError, match=r"index\.json is damaged: its weight_map"):
        ModelFolder(tmp_path).weights("unet")


def test_a_folder_that_cannot_be_made_is_told(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"file/model: it cannot be made \(Not a directory\)"):
        FolderWriter(tmp_path / "file" / "model")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="holds something that is no model"):
        FolderWriter(Path())


def test_a_folder_of_something_else_is_no_damaged_model(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(ModelError, match="nothing in it is a part of a model; name the folder in"):
        ModelFolder(tmp_path)
