"""AnimateDiff's motion modules: the numbers of diffusers, from both published layouts."""

import json
import re
from functools import cache

import pytest
import torch
from diffusers import MotionAdapter, UNet2DConditionModel, UNetMotionModel
from diffusers.models.embeddings import SinusoidalPositionalEmbedding
from pickles import Malicious
from safetensors.torch import save_file
from tiny import TEXT_WIDTH, randomise_, tiny_autoencoder_kl, tiny_clip_text, tiny_unet

from legato.apps import cli
from legato.errors import InputError, ModelError
from legato.models.convert import animatediff
from legato.models.convert.animatediff import SD15_CONFIG, build_unet
from legato.models.folder import ModelFolder
from legato.models.inflate import inflate
from legato.models.parts import load_unet
from legato.models.positions import interleaved_sinusoids

CPU = torch.device("cpu")
WEIGHTS = "diffusion_pytorch_model.safetensors"
UNET_FIELDS = (
    "block_out_channels",
    "layers_per_block",
    "down_block_types",
    "up_block_types",
    "cross_attention_dim",
    "attention_head_dim",
)
IMAGE_ONLY = {"in_channels": 4, "num_class_embeds": None, "cross_attention_dim": TEXT_WIDTH}


def tiny_sd(seed=0, **changes):
    """Stable Diffusion's U-Net, tiny: no attention at the lowest level."""
    blocks = {
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
        "use_linear_projection": False,
    }
    return tiny_unet(seed, **(IMAGE_ONLY | blocks | changes))


@cache
def tiny_motion(*, mid_block=True, **changes):
    """Motion modules for `tiny_sd` that act."""
    config = {
        "block_out_channels": (32, 64),
        "motion_layers_per_block": 1,
        "motion_num_attention_heads": 4,
        "motion_norm_num_groups": 32,  # that of the U-Net, which diffusers takes in any case
        "motion_max_seq_length": 24,
        "use_motion_mid_block": mid_block,
    }
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return randomise_(MotionAdapter(**(config | changes))).eval()


def original_names(state):
    """The authors' names of diffusers' names."""
    names = (
        (".norm1.", ".norms.0."),
        (".norm2.", ".norms.1."),
        (".norm3.", ".ff_norm."),
        (".attn1.", ".attention_blocks.0."),
        (".attn2.", ".attention_blocks.1."),
        (".pos_embed.", ".attention_blocks.0.pos_encoder."),
    )
    found = {}
    for key, value in state.items():
        for new, old in names:
            key = key.replace(new, old)
        key = re.sub(r"(motion_modules\.\d+)", r"\1.temporal_transformer", key)
        found[key] = value.clone()
        if "pos_encoder" in key:
            found[key.replace("blocks.0.pos_encoder", "blocks.1.pos_encoder")] = value.clone()
    return found


@torch.no_grad()
def outputs_of(model, theirs):
    """What both give for the same clip."""
    generator = torch.Generator().manual_seed(1)
    draw = lambda *shape: torch.randn(shape, generator=generator)  # noqa: E731
    sample, text = draw(2, 5, 4, 8, 10), draw(2, 6, TEXT_WIDTH)
    time = torch.tensor([701, 34])
    per_frame = text.repeat_interleave(5, 0)  # diffusers' pipeline does so
    expected = theirs(sample.transpose(1, 2), time, per_frame).sample.transpose(1, 2)
    return model(sample, time, text), expected


@pytest.mark.parametrize("width", [4, 32])
def test_positions_are_those_of_diffusers(width):
    expected = SinusoidalPositionalEmbedding(width, 7).pe[0]
    torch.testing.assert_close(interleaved_sinusoids(7, width, CPU), expected)


@pytest.mark.parametrize(
    ("layout", "mid_block"),
    [
        ("folder", True),
        ("pickled folder", False),
        ("ckpt", True),
        ("safetensors", False),
        ("SAFETENSORS", True),
    ],
)
def test_it_gives_what_that_of_diffusers_gives(convert, tmp_path, mid_block, layout):
    heads = {} if "folder" in layout else {"motion_num_attention_heads": 8}  # a file tells none
    motion = tiny_motion(mid_block=mid_block, **heads)
    unet = tiny_sd()
    unet.save_pretrained(tmp_path / "base/unet")
    source = tmp_path / "motion"
    if "folder" in layout:
        motion.save_pretrained(source, safe_serialization=layout == "folder")
    else:
        source = source.with_suffix(f".{layout}")
        state = original_names(motion.state_dict())
        if layout == "ckpt":
            state = {f"module.{key}": value for key, value in state.items()}
            torch.save({"state_dict": state, "global_step": 5}, source)
        else:
            save_file(state, source)
    flags = ("--base", tmp_path / "base", "--dtype", "float32")
    code, said = convert(source, tmp_path / "out", *flags)
    assert (code, "to generate, family animatediff" in said) == (0, True), said
    model = load_unet(ModelFolder(tmp_path / "out")).eval()
    theirs = UNetMotionModel.from_unet2d(unet, motion).eval()
    out, expected = outputs_of(model, theirs)
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-5)
    with model.disabled():
        assert (outputs_of(model, theirs)[0] - expected).abs().max() > 1e-2


def test_the_inner_width_of_a_head_is_a_levels_own(convert, tmp_path):
    """Two blocks in a module, and a level's heads given one by one."""
    changes = {"motion_transformer_layers_per_block": 2, "motion_num_attention_heads": (4, 4)}
    motion = tiny_motion(motion_transformer_layers_per_mid_block=2, **changes)
    model = build_unet(tiny_sd(), motion.config, motion.state_dict()).eval()
    theirs = UNetMotionModel.from_unet2d(tiny_sd(), motion).eval()
    out, expected = outputs_of(model, theirs)
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-5)


@pytest.fixture
def stable_diffusion_is_tiny(monkeypatch):
    """Let `tiny_sd` stand for Stable Diffusion 1.5: the real one has 860 million parameters."""
    config = {key: tiny_sd().config[key] for key in UNET_FIELDS}
    monkeypatch.setattr(animatediff, "SD15_CONFIG", config)


def test_alone_they_are_temporal_layers_for_any_checkpoint(
    convert, tmp_path, capsys, stable_diffusion_is_tiny
):
    tiny_motion().save_pretrained(tmp_path / "motion")
    tiny_sd(seed=5).save_pretrained(tmp_path / "dreambooth/unet")
    layers, image = tmp_path / "layers", tmp_path / "dreambooth"
    assert convert(tmp_path / "motion", layers, "--dtype", "float32")[0] == 0
    assert not (layers / "unet").exists()
    assert cli.main(["models", "inspect", str(layers)]) == 0
    assert "7 attn.post" in capsys.readouterr().out
    with pytest.raises(ModelError, match="temporal layers alone"):
        load_unet(ModelFolder(layers))
    model = load_unet(ModelFolder(layers), image=ModelFolder(image)).eval()
    theirs = UNetMotionModel.from_unet2d(tiny_sd(seed=5), tiny_motion()).eval()
    out, expected = outputs_of(model, theirs)
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-5)


def test_with_a_base_they_are_a_whole_model(convert, tmp_path):
    base, out = tiny_clip_text(tmp_path / "base"), tmp_path / "out"
    tiny_sd().save_pretrained(base / "unet")
    tiny_autoencoder_kl().save_pretrained(base / "vae")
    tiny_motion().save_pretrained(tmp_path / "motion")
    (tmp_path / "motion/README.md").write_text("---\nlicense: apache-2.0\n---\n")
    assert convert(tmp_path / "motion", out, "--base", base)[0] == 0
    manifest = ModelFolder(out).manifest
    assert (manifest.family, manifest.job, manifest.licence) == (
        "animatediff",
        "generate",
        "apache-2.0",
    )
    assert (manifest.prediction_type, manifest.defaults.window) == ("epsilon", 16)
    for part in ("vae", "text_encoder", "tokenizer", "temporal"):
        assert list((out / part).iterdir())
    schedule = json.loads((out / "scheduler/scheduler_config.json").read_text())
    assert schedule["beta_schedule"] == "linear"
    assert cli.main(["models", "inspect", str(out)]) == 0


def another_width(source, base):
    tiny_motion(block_out_channels=(32, 96)).save_pretrained(source)


def another_depth(source, base):
    tiny_sd(layers_per_block=2).save_pretrained(base / "unet")


def another_size(source, base):
    tiny_sd(
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=32,
    ).save_pretrained(base / "unet")


def an_input_layer(source, base):
    tiny_motion(conv_in_channels=9).save_pretrained(source)


def learned_positions(source, base):
    state = tiny_motion().state_dict()
    save_file({k: v + v.dim() / 3 * k.endswith("pe") for k, v in state.items()}, source / WEIGHTS)


def many_heads(source, base):
    tiny_motion(motion_num_attention_heads=(4, 8)).save_pretrained(source)


def no_weights(source, base):
    (source / WEIGHTS).unlink()


BAD = {
    "another width": (another_width, "the U-Net has the widths 32, 64"),
    "another depth": (another_depth, "lacks down_blocks/0/attentions/1.norm.weight"),
    "picture sizes": (another_size, "as that of SDXL does"),
    "an input layer": (an_input_layer, "takes 9 channels, as that of PIA"),
    "learned positions": (learned_positions, "positions of their own"),
    "many heads": (many_heads, "motion_num_attention_heads=[4, 8]"),
    "no weights": (no_weights, f"{WEIGHTS} is missing"),
}


@pytest.mark.parametrize(("damage", "says"), BAD.values(), ids=BAD)
def test_what_does_not_fit_is_one_line(convert, tmp_path, damage, says):
    tiny_motion().save_pretrained(tmp_path / "motion")
    tiny_sd().save_pretrained(tmp_path / "base/unet")
    damage(tmp_path / "motion", tmp_path / "base")
    code, said = convert(tmp_path / "motion", tmp_path / "out", "--base", tmp_path / "base")
    assert (code, said.count("\n"), says in said) == (3, 1, True), said
    assert not (tmp_path / "out").exists()


def test_stable_diffusion_2_is_refused_although_its_widths_are_the_same():
    with torch.device("meta"):
        unet = UNet2DConditionModel(**SD15_CONFIG | {"cross_attention_dim": 1024})
    with pytest.raises(ModelError, match="1024 wide, as that of Stable Diffusion 2"):
        animatediff.require_fit(unet, animatediff.STABLE_DIFFUSION)


def test_without_a_base_they_must_be_for_stable_diffusion(convert, tmp_path):
    tiny_motion().save_pretrained(tmp_path / "motion")
    code, said = convert(tmp_path / "motion", tmp_path / "out")
    assert (code, "with --base" in said, "320, 640, 1280, 1280" in said) == (3, True, True)


@pytest.mark.parametrize(
    ("content", "says"),
    [({"conv": torch.zeros(1)}, "no motion modules"), ({"a": Malicious()}, "as weights alone")],
)
def test_another_file_is_one_line(convert, tmp_path, content, says):
    torch.save(content, tmp_path / "mm.ckpt")
    code, said = convert(tmp_path / "mm.ckpt", tmp_path / "out")
    assert (code, said.count("\n"), says in said) == (3, 1, True), said
    assert "ran a program" not in said


@pytest.mark.parametrize(("mid_block", "sites"), [(False, 20), (True, 21)])
def test_sizes_are_those_of_the_published_modules(mid_block, sites):
    with torch.device("meta"):
        model = inflate(UNet2DConditionModel(**SD15_CONFIG), "animatediff", mid_block=mid_block)
        theirs = MotionAdapter(use_motion_mid_block=mid_block)
    count, expected = (
        sum(parameter.numel() for parameter in module.parameters())
        for module in (model.temporal, theirs)
    )
    assert (len(model.sites), count) == (sites, expected)
    assert count == {False: 417_137_600, True: 453_209_280}[mid_block]


@torch.no_grad()
def test_more_frames_than_positions_are_refused():
    model = inflate(tiny_sd(), "animatediff", num_heads=4, max_frames=4)
    with pytest.raises(InputError, match="positions for 4 frames"):
        model(torch.zeros(1, 5, 4, 8, 8), 3, torch.zeros(1, 2, TEXT_WIDTH))
