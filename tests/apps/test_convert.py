"""`legato models convert`: the numbers of diffusers from foreign folders, one line for bad ones."""

import json
import shutil
from collections import Counter
from functools import cache
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, MotionAdapter, UNet2DConditionModel
from diffusers import UNetSpatioTemporalConditionModel as SpatioTemporal
from pickles import Malicious
from safetensors.torch import load_file, save_file
from tiny import (
    SCHEDULER,
    tiny_autoencoder_kl,
    tiny_clip,
    tiny_clip_text,
    tiny_diffusers_upscaler,
    tiny_unet,
)
from tiny_svd import tiny_unet as tiny_svd_unet
from transformers import CLIPTextModel

from legato.apps import cli
from legato.errors import ModelError
from legato.models.convert.stable_video_diffusion import build_unet
from legato.models.convert.upscale_a_video import place as split_key
from legato.models.folder import ModelFolder, hash_file
from legato.models.generator_folder import load_generator
from legato.models.image_model import load_image_model
from legato.models.load import load_upscaler
from legato.models.parts import load_unet

CPU = torch.device("cpu")
WEIGHTS = "diffusion_pytorch_model"
KEYS = Path(__file__).parents[1] / "data" / "parity" / "keys_small.json"


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    return tiny_diffusers_upscaler(tmp_path_factory.mktemp("published") / "x4")


@pytest.fixture
def source(published, tmp_path):
    return shutil.copytree(published, tmp_path / "x4")


def pickle(path, target):
    """Put a pickle in the place of a safetensors file."""
    torch.save(load_file(path), target)
    path.unlink()


class TestImageUpscaler:
    """Stable Diffusion x4 in diffusers layout, and what was made from it."""

    @torch.no_grad()
    @pytest.mark.parametrize("pickled", [False, True])
    def test_every_network_gives_what_that_of_diffusers_gives(
        self, convert, source, tmp_path, pickled
    ):
        unet = UNet2DConditionModel.from_pretrained(source / "unet")
        vae = AutoencoderKL.from_pretrained(source / "vae")
        text = CLIPTextModel.from_pretrained(source / "text_encoder")
        if pickled:
            for part in ("unet", "vae"):
                folder = source / part
                pickle(folder / f"{WEIGHTS}.safetensors", folder / f"{WEIGHTS}.bin")
            folder = source / "text_encoder"
            pickle(folder / "model.safetensors", folder / "pytorch_model.bin")
        code, said = convert(source, tmp_path / "out", "--dtype", "float32")
        assert (code, "family image" in said) == (0, True)
        assert not list((tmp_path / "out").rglob("*.bin"))
        model = load_upscaler(str(tmp_path / "out"), CPU, torch.float32)
        clip = tiny_clip(frames=1)
        expected = unet(
            clip["sample"][:, 0],
            clip["timestep"],
            clip["encoder_hidden_states"],
            class_labels=clip["class_labels"],
        ).sample
        torch.testing.assert_close(model.unet(**clip)[:, 0], expected, rtol=0, atol=1e-5)
        latents = torch.randn(1, 2, 4, 6, 5)
        expected = vae.decode(latents[0] / vae.config.scaling_factor).sample
        frames = model.decode(latents, torch.zeros(1, 2, 3, 6, 5))[0]
        torch.testing.assert_close(frames, expected, rtol=0, atol=1e-5)
        tokens = model.text.tokenizer("a cat", padding="max_length", return_tensors="pt")
        expected = text(tokens.input_ids)[0]
        torch.testing.assert_close(model.encode_prompt("a cat"), expected, rtol=0, atol=1e-6)

    def test_the_folder_is_an_image_model_with_hashes(self, convert, source, tmp_path):
        (source / "model_index.json").write_text(json.dumps({"max_noise_level": 200}))
        (source / "README.md").write_text("---\nlicense: openrail++\n---\n# A model\n")
        assert convert(source, tmp_path / "out")[0] == 0
        manifest = ModelFolder(tmp_path / "out").manifest
        assert (manifest.name, manifest.family, manifest.scale) == ("out", "image", 4)
        assert manifest.licence == "openrail++"
        assert manifest.defaults.max_noise_level == 200
        assert not load_upscaler(str(tmp_path / "out"), CPU, torch.float32).is_temporal
        assert cli.main(["models", "inspect", str(tmp_path / "out")]) == 0

    def test_without_a_card_the_licence_is_not_guessed(self, convert, source, tmp_path):
        assert "licence unknown" in convert(source, tmp_path / "out")[1]

    @pytest.mark.parametrize("dtype", ["float16", "float32"])
    def test_the_precision_is_the_one_asked_for(self, convert, source, tmp_path, dtype):
        assert convert(source, tmp_path / "out", "--dtype", dtype)[0] == 0
        for path in (tmp_path / "out").rglob("*.safetensors"):
            kinds = {v.dtype for v in load_file(path).values() if v.is_floating_point()}
            assert kinds == {getattr(torch, dtype)}

    @pytest.mark.parametrize("bare", [False, True])
    def test_a_derivatives_unet_takes_the_other_parts_from_the_base(
        self, convert, published, tmp_path, bare
    ):
        derived = tiny_unet(seed=9)
        derived.save_pretrained(tmp_path / "derived" if bare else tmp_path / "derived/unet")
        code, said = convert(tmp_path / "derived", tmp_path / "out")
        assert (code, said.count("\n")) == (3, 1)
        assert "config.json is missing" in said
        flags = ("--base", published, "--dtype", "float32")
        code, said = convert(tmp_path / "derived", tmp_path / "out", *flags)
        assert code == 0, said
        model = load_upscaler(str(tmp_path / "out"), CPU, torch.float32)
        ours, theirs = model.unet.spatial.state_dict(), derived.state_dict()
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
        expected = load_upscaler(str(published), CPU, torch.float32).autoencoder.state_dict()
        ours = model.autoencoder.state_dict()
        assert all(torch.equal(ours[key], expected[key]) for key in expected)

    def test_a_converted_folder_can_be_a_base(self, convert, source, tmp_path):
        assert convert(source, tmp_path / "base")[0] == 0
        tiny_unet(seed=9).save_pretrained(tmp_path / "derived")
        assert convert(tmp_path / "derived", tmp_path / "out", "--base", tmp_path / "base")[0] == 0


SVD_INPUT = {"sample": (2, 3, 8, 16, 16), "text": (2, 1, 16), "ids": (2, 3)}


@cache
def tiny_svd():
    with torch.random.fork_rng():
        torch.manual_seed(6)
        return tiny_svd_unet()


class TestStableVideoDiffusion:
    """One network of diffusers becomes an image U-Net and temporal layers."""

    @torch.no_grad()
    @pytest.mark.parametrize("bare", [False, True])
    def test_it_gives_what_that_of_diffusers_gives(self, convert, tmp_path, bare):
        theirs = tiny_svd()
        theirs.save_pretrained(tmp_path / "svd" if bare else tmp_path / "svd/unet")
        code, said = convert(tmp_path / "svd", tmp_path / "out", "--dtype", "float32")
        assert (code, "family video_ldm" in said) == (0, True)
        assert "temporal layers for other image models (legato models match)" in said
        assert "no command samples with it" in said
        ours = load_unet(ModelFolder(tmp_path / "out")).eval()
        generator = torch.Generator().manual_seed(1)
        sample, text, ids = (
            torch.randn(shape, generator=generator) for shape in SVD_INPUT.values()
        )
        expected = theirs(sample, torch.tensor(1.3), text, ids.abs()).sample
        labels = theirs.add_time_proj(ids.abs().flatten()).reshape(2, -1)
        out = ours(sample, torch.tensor(1.3), text, labels)
        torch.testing.assert_close(out, expected, rtol=0, atol=1e-5)
        with ours.disabled():
            alone = ours(sample, torch.tensor(1.3), text, labels)
        assert (alone - expected).abs().max() > 1e-2

    def test_the_full_size_network_splits_into_the_published_sizes(self):
        """656 million temporal parameters: Blattmann et al. 2023, arXiv:2304.08818, table 7."""
        with torch.device("meta"):
            theirs = SpatioTemporal(num_attention_heads=(5, 10, 20, 20))
        ours = build_unet(theirs.config, theirs.state_dict())
        temporal = sum(parameter.numel() for parameter in ours.temporal.parameters())
        total = sum(parameter.numel() for parameter in theirs.parameters())
        assert temporal == 656_076_838
        assert temporal + sum(p.numel() for p in ours.spatial.parameters()) == total
        kinds = Counter(site.kind for site in ours.sites)
        assert kinds == {"resnet.post": 22, "tblock.post": 16}

    def test_mixing_weights_keep_their_precision_and_the_window_its_length(self, convert, tmp_path):
        tiny_svd().save_pretrained(tmp_path / "svd/unet")
        (tmp_path / "svd/scheduler").mkdir()
        schedule = {"prediction_type": "epsilon"}
        (tmp_path / "svd/scheduler/scheduler_config.json").write_text(json.dumps(schedule))
        assert convert(tmp_path / "svd", tmp_path / "out")[0] == 0
        state = load_file(tmp_path / f"out/temporal/{WEIGHTS}.safetensors")
        kinds = {key.endswith("mix_factor"): value.dtype for key, value in state.items()}
        assert kinds == {True: torch.float32, False: torch.float16}
        manifest = ModelFolder(tmp_path / "out").manifest
        assert (manifest.defaults.window, manifest.prediction_type) == (3, "epsilon")
        assert (manifest.job, manifest.scale) == ("layers", 8)
        assert cli.main(["models", "inspect", str(tmp_path / "out")]) == 0

    @pytest.mark.parametrize("job", ["layers", "generate"])
    def test_sampling_with_it_is_refused_in_one_line_that_says_what_it_is_for(
        self, convert, tmp_path, capsys, job
    ):
        """Also where it was converted as a generating model and an autoencoder was put into it."""
        tiny_svd().save_pretrained(tmp_path / "svd")
        assert convert(tmp_path / "svd", tmp_path / "out")[0] == 0
        if job == "generate":
            tiny_autoencoder_kl().save_pretrained(tmp_path / "out/vae")
            path = tmp_path / "out/legato.json"
            values = json.loads(path.read_text()) | {"job": job, "scale": 4}
            for name in ("config.json", f"{WEIGHTS}.safetensors"):
                values["sha256"][f"vae/{name}"] = hash_file(tmp_path / "out/vae" / name)
            path.write_text(json.dumps(values))
        for verb, load in (
            ("upscale", load_upscaler),
            ("make images", load_image_model),
            ("generate", load_generator),
        ):
            with pytest.raises(ModelError, match=f"out cannot {verb}: .*temporal layers.*match"):
                load(str(tmp_path / "out"), CPU, torch.float32)
        out = str(tmp_path / "out.mp4")
        assert cli.main(["generate", "x", "-o", out, "--model", str(tmp_path / "out")]) == 3
        said = capsys.readouterr().err
        assert said.count("error") == 1
        assert "cannot generate" in said
        assert cli.main(["models", "inspect", str(tmp_path / "out")]) == 0
        said = capsys.readouterr().out
        assert "out: layers, family video_ldm" in said
        assert "no command samples with it" in said

    def test_its_temporal_layers_attach_to_image_models(self, convert, tmp_path, capsys):
        tiny_svd().save_pretrained(tmp_path / "svd")
        assert convert(tmp_path / "svd", tmp_path / "out")[0] == 0
        image = tiny_unet(
            in_channels=4,
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
            num_class_embeds=None,
            attention_head_dim=(2, 4),
        )
        image.save_pretrained(tmp_path / "image/unet")
        folders = [tmp_path / "out", tmp_path / "image"]
        assert cli.main(["models", "match", *map(str, folders)]) == 0
        said = capsys.readouterr().out
        assert "image" in said
        assert "do not fit" not in said
        layers, other = map(ModelFolder, folders)
        assert load_unet(layers, image=other).family == "video_ldm"


@pytest.fixture
def released(tmp_path):
    """Upscale-A-Video's files as its authors lay them out, small, with a pickled text encoder."""
    source = tiny_clip_text(tmp_path / "released")
    text = source / "text_encoder"
    pickle(text / "model.safetensors", text / "pytorch_model.bin")
    tables = {name: table["keys"] for name, table in json.loads(KEYS.read_text()).items()}
    video = tables["vae_video_small"]
    files = {"unet/unet_video": tables["unet_small"], "vae/vae_video": video}
    image = {key: shape for key, shape in video.items() if split_key(key)[0] == "spatial"}
    for name, keys in (files | {"vae/vae_3d": image}).items():
        path = source / f"{name}.bin"
        path.parent.mkdir(exist_ok=True)
        torch.save({key: torch.full(shape, 0.01) for key, shape in keys.items()}, path)
    for part in ("scheduler", "low_res_scheduler"):
        (source / part).mkdir()
        (source / part / "scheduler_config.json").write_text(json.dumps(SCHEDULER))
    return source


@pytest.mark.slow
@pytest.mark.parametrize("decoder", ["vae_video", "vae_3d"])
def test_upscale_a_videos_decoder_is_the_one_asked_for(convert, released, tmp_path, decoder):
    code, said = convert(released, tmp_path / "out", "--decoder", decoder)
    assert code == 0, said
    assert "family upscale_a_video, licence NTU S-Lab 1.0 (non-commercial)" in said
    config = ModelFolder(tmp_path / "out").config("temporal_decoder")["options"]
    assert config["conv"] == {"vae_video": "volume", "vae_3d": "none"}[decoder]
    assert cli.main(["models", "inspect", str(tmp_path / "out")]) == 0
    assert load_upscaler(str(tmp_path / "out"), CPU, torch.float32).encode_prompt("a").shape[0] == 1


def truncated(source):
    path = source / f"unet/{WEIGHTS}.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def wrong_shape(source):
    path = source / f"unet/{WEIGHTS}.safetensors"
    save_file(load_file(path) | {"conv_in.weight": torch.zeros(32, 9, 3, 3)}, path)


def pickle_with_code(source):
    (source / f"unet/{WEIGHTS}.safetensors").unlink()
    torch.save({"conv_in.weight": Malicious()}, source / f"unet/{WEIGHTS}.bin")


def truncated_pickle(source):
    path = source / f"vae/{WEIGHTS}.safetensors"
    pickle(path, path.with_suffix(".bin"))
    content = path.with_suffix(".bin").read_bytes()
    path.with_suffix(".bin").write_bytes(content[: len(content) // 2])


def another_kind(source):
    MotionAdapter(block_out_channels=(32,), motion_norm_num_groups=8).save_pretrained(
        source / "unet"
    )


def another_decoder(source):
    path = source / "vae/config.json"
    path.write_text(json.dumps({"_class_name": "TemporalAutoencoderTiny"}))


def no_upscaler(source):
    tiny_unet(in_channels=4).save_pretrained(source / "unet")


def no_folder(source):
    shutil.rmtree(source)


def a_video(source):
    no_folder(source)
    source.write_bytes(b"video")


def a_model_already(source):
    (source / "legato.json").write_text("{}")


def half_an_x4(source):
    torch.save({}, source / "unet/unet_video.bin")


BAD = {
    "truncated": (truncated, f"unet/{WEIGHTS}.safetensors is damaged"),
    "wrong shape": (wrong_shape, "conv_in.weight is (32, 9, 3, 3), not (32, 7, 3, 3)"),
    "a pickle with code": (pickle_with_code, f"unet/{WEIGHTS}.bin cannot be read as weights alone"),
    "a truncated pickle": (truncated_pickle, f"vae/{WEIGHTS}.bin cannot be read"),
    "another kind": (another_kind, "unet/config.json describes a MotionAdapter"),
    "another decoder": (another_decoder, "vae is a TemporalAutoencoderTiny"),
    "no upscaler": (no_upscaler, "input channels is 4"),
    "no weights": (lambda s: (s / f"vae/{WEIGHTS}.safetensors").unlink(), f"vae/{WEIGHTS}"),
    "no text": (lambda s: shutil.rmtree(s / "text_encoder"), "text_encoder/config.json is missing"),
    "no tokenizer": (lambda s: shutil.rmtree(s / "tokenizer"), "tokenizer is missing"),
    "no U-Net": (lambda s: shutil.rmtree(s / "unet"), "there is no"),
    "no folder": (no_folder, "there is no such folder"),
    "a video": (a_video, "single files are AnimateDiff's motion modules"),
    "a model already": (a_model_already, "is a model folder already"),
    "another's weights": (half_an_x4, "the U-Net is not Upscale-A-Video's"),
}


@pytest.mark.parametrize(("damage", "says"), BAD.values(), ids=BAD)
def test_bad_weights_are_one_line_that_names_the_file(convert, source, tmp_path, damage, says):
    damage(source)
    before = sorted(tmp_path.iterdir())
    code, said = convert(source, tmp_path / "out")
    assert (code, said.count("\n")) == (3, 1)
    assert says in said
    assert "ran a program" not in said
    assert sorted(tmp_path.iterdir()) == before


def test_options_of_another_kind_are_refused(convert, source, tmp_path):
    code, said = convert(source, tmp_path / "out", "--decoder", "vae_3d")
    assert (code, "means nothing for an image upscaler" in said) == (2, True)
    tiny_svd().save_pretrained(tmp_path / "svd")
    code, said = convert(tmp_path / "svd", tmp_path / "out", "--base", source)
    assert (code, "means nothing for Stable Video Diffusion" in said) == (2, True)


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_something_else_is_not_replaced(convert, source, tmp_path, kind):
    mine = tmp_path / "mine" if kind == "file" else tmp_path / "mine" / "photo.jpg"
    mine.parent.mkdir(exist_ok=True)
    mine.write_bytes(b"x")
    code, said = convert(source, tmp_path / "mine")
    assert (code, "is no model" in said) == (2, True)
    assert mine.read_bytes() == b"x"


def raft_file(path):
    """Weights as RAFT's authors save them, in names and nesting, a number in each."""
    names = ("fnet.conv1", "cnet.layer2.0.conv1", "update_block.gru.convz1", "update_block.mask.0")
    state = {f"module.{name}.weight": torch.full((2,), 0.1) for name in names}
    torch.save(state, path)
    return path


class TestRaft:
    """The authors' file becomes one of safetensors, for --raft."""

    def test_it_becomes_one_file_with_the_same_numbers(self, convert, tmp_path):
        target = tmp_path / "raft-things.safetensors"
        code, said = convert(raft_file(tmp_path / "raft-things.pth"), target)
        assert (code, said) == (0, f"{target}: RAFT's weights, for --raft\n")
        state = load_file(target)
        assert "feature_encoder.convnormrelu.0.weight" in state
        assert all(torch.equal(value, torch.full((2,), 0.1)) for value in state.values())
        assert sorted(path.name for path in tmp_path.iterdir()) == [
            "raft-things.pth",
            "raft-things.safetensors",
        ]
        again = tmp_path / "again.safetensors"
        assert convert(target, again)[0] == 0  # in torchvision's names too
        assert load_file(again).keys() == state.keys()

    @pytest.mark.parametrize(
        ("target", "flags", "code", "says"),
        [
            ("raft", (), 2, "name a new .safetensors file"),
            ("raft-things.pth", (), 2, "it is there already"),
            ("raft.safetensors", ("--dtype", "float16"), 2, "dtype=float16: it means nothing"),
            ("raft.safetensors", ("--base", "x"), 2, "base=x: it means nothing"),
        ],
    )
    def test_what_cannot_be_is_one_line(self, convert, tmp_path, target, flags, code, says):
        source = raft_file(tmp_path / "raft-things.pth")
        found, said = convert(source, tmp_path / target, *flags)
        assert (found, said.count("\n"), says in said) == (code, 1, True), said
        assert list(tmp_path.iterdir()) == [source]

    def test_the_small_network_and_files_with_code_are_refused(self, convert, tmp_path):
        source, target = tmp_path / "raft-small.pth", tmp_path / "raft.safetensors"
        torch.save({"module.fnet.conv1.attention.weight": torch.zeros(1)}, source)
        code, said = convert(source, target)
        assert (code, "use the weights of the large RAFT" in said) == (3, True)
        torch.save({"module.fnet.conv1.weight": Malicious()}, source)
        code, said = convert(source, target)
        assert (code, "cannot be read as weights alone" in said) == (3, True)
        assert "ran a program" not in said
        assert list(tmp_path.iterdir()) == [source]
