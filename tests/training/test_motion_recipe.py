"""Low-rank motion: fresh weights do nothing, only they learn, and what they learned is merged."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from clips import pixels_of
from tiny_generator import tiny_generator_folder, tiny_generator_unet
from validations import last_row

from legato.diffusion.noise import NoisePrior
from legato.errors import InputError, ModelError
from legato.models.generator_folder import load_generator
from legato.models.inflate import inflate
from legato.models.lora import add_lora_
from legato.models.low_rank import adapt_, save_low_rank
from legato.pipelines.generate import generate
from legato.pipelines.generate_options import GenerateOptions
from legato.training.generator_stages import DenoisingOptions
from legato.training.motion_recipe import FILE, MotionOptions, denoising_of, train_motion
from legato.video.codecs import CodecOptions
from legato.video.images import encode_image


def moving_stripes(folder, names, frames=6, size=16):
    """Clips whose stripes all move the same way."""
    for name in names:
        clip = folder / str(name)
        clip.mkdir(parents=True)
        for t in range(frames):
            wave = 127.5 + 120 * np.sin((np.arange(size) + 3 * t + 5 * name) * 0.6)
            picture = np.broadcast_to(wave[None, :, None], (size, size, 3)).astype(np.uint8)
            (clip / f"{t}.png").write_bytes(encode_image(picture, None, ".png"))
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("motion")
    moving_stripes(root / "learned", range(4))
    moving_stripes(root / "held_back", (10, 11))
    return root


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("generator") / "tiny"
    return tiny_generator_folder(folder, interpolation="none")


def clip_of(unet):
    with torch.no_grad():
        return unet(
            torch.randn(1, 3, 4, 8, 8, generator=torch.Generator().manual_seed(1)),
            torch.tensor([300]),
            torch.randn(1, 5, 16, generator=torch.Generator().manual_seed(2)),
        )


def test_fresh_weights_change_nothing_and_learned_ones_are_merged(tmp_path):
    unet, plain = tiny_generator_unet(), tiny_generator_unet()
    before = clip_of(unet)
    adapters = adapt_(unet.temporal, 2)
    assert torch.equal(clip_of(unet), before)
    for adapter in adapters.values():
        torch.nn.init.normal_(adapter.up, std=0.5, generator=torch.Generator().manual_seed(3))
    learned = clip_of(unet)
    assert not torch.allclose(learned, before, atol=1e-4)
    add_lora_(plain.temporal, (), save_low_rank(adapters, tmp_path / "m.safetensors"), scale=1.0)
    torch.testing.assert_close(clip_of(plain), learned, atol=5e-3, rtol=5e-3)


def test_layers_without_attention_are_refused():
    unet = inflate(tiny_generator_unet().detach(), "video_ldm", attention=False)
    with pytest.raises(ModelError, match="no attention"):
        adapt_(unet.temporal, 2)


def test_a_clip_that_is_too_short_is_named(data, model, tmp_path):
    out = tmp_path / "runs" / "motion"
    options = MotionOptions(data=data / "learned", model=str(model), out=out, fps=20.0)
    with pytest.raises(InputError, match=r"clip 0 has 6 frames.*--fps"):
        train_motion(options)
    assert not list(tmp_path.iterdir())


def test_clips_are_under_noise_as_the_models_own_were(tmp_path):
    folder = tiny_generator_folder(tmp_path / "mixed", noise_prior="mixed", interpolation="none")
    model = load_generator(str(folder), torch.device("cpu"), torch.float32)
    options = MotionOptions(data=tmp_path, max_context_noise=50)
    assert denoising_of(options, model) == DenoisingOptions(
        prior=NoisePrior(kind="mixed"), max_context_noise=50
    )


def test_noise_on_given_frames_is_refused_for_a_model_that_takes_none(tmp_path):
    folder = tiny_generator_folder(tmp_path / "alone", interpolation="none", context_channels=None)
    model = load_generator(str(folder), torch.device("cpu"), torch.float32)
    assert denoising_of(MotionOptions(data=tmp_path), model) == DenoisingOptions()
    with pytest.raises(InputError, match="max_context_noise=50 with model"):
        denoising_of(MotionOptions(data=tmp_path, max_context_noise=50), model)


@pytest.mark.slow
def test_motion_that_was_learned_beats_the_layers_alone_on_held_back_clips(data, model, tmp_path):
    options = MotionOptions(
        data=data / "learned",
        held_back=data / "held_back",
        model=str(model),
        out=tmp_path / "run",
        fps=2.0,
        steps=80,
        batch_size=4,
        learning_rate=5e-3,
        validate_every=80,
    )
    untrained = replace(options, out=tmp_path / "none", steps=1, learning_rate=1e-9)
    train_motion(untrained)
    found = train_motion(options)
    assert found == tmp_path / "run" / FILE
    after, before = (last_row(tmp_path / name) for name in ("run", "none"))
    assert all(after[name] < 0.99 * before[name] for name in ("alone", "given"))
    made = {}
    for scale in (0.0, 1.0):
        asked = GenerateOptions(
            model=str(model),
            frames=3,
            motion_lora=found,
            motion_lora_scale=scale,
            output=CodecOptions(codec="ffv1"),
        )
        generate("night", tmp_path / f"{scale}.mkv", asked)
        made[scale] = pixels_of(tmp_path / f"{scale}.mkv")
    assert not np.array_equal(made[0.0], made[1.0])
