"""Videos of a picture: what diffusers' pipeline makes of the same noise, and on from there."""

import json
import shutil
from dataclasses import replace
from functools import cache, partial

import cv2
import numpy as np
import pytest
import torch
from clips import pixels_of
from PIL import Image
from tiny_svd import FRAMES, SEEN, SIDE, tiny_pipeline, tiny_svd_folder
from torch.nn import functional as F

from legato.diffusion.noise import frame_noise
from legato.errors import InputError, Interrupted, ModelError
from legato.models.convert.stable_video_diffusion import convert_stable_video_diffusion
from legato.models.generator_folder import load_generator
from legato.models.image_model import load_image_model
from legato.models.inspection import inspect_model
from legato.models.load import load_upscaler
from legato.pipelines import prepare_generation
from legato.pipelines.generate import generate
from legato.pipelines.generate_options import GenerateOptions
from legato.pipelines.generation_forecast import plan_generation
from legato.pipelines.generation_settings import UNREAD_WITH_PICTURE, resolve
from legato.pipelines.picture_generation import PICTURE_NOISE, PictureGeneration
from legato.pipelines.run_options import RunOptions
from legato.video.codecs import CodecOptions

CPU = torch.device("cpu")
RUN = RunOptions(dtype="float32", device="cpu")
STEPS = 4


@pytest.fixture(scope="module", autouse=True)
def _loaded_once():
    """Let the videos of this file share loaded models."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prepare_generation, "load_generator", cache(load_generator))
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("svd")
    source = tiny_svd_folder(root / "published")
    convert_stable_video_diffusion(source, root / "ours", dtype=torch.float32)
    return root / "ours"


@pytest.fixture(scope="module")
def picture(tmp_path_factory):
    path = tmp_path_factory.mktemp("picture") / "a.png"
    rng = np.random.default_rng(3)
    small = rng.integers(0, 256, (5, 5, 3), dtype=np.uint8)
    cv2.imwrite(str(path), cv2.resize(small, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC))
    return path


@pytest.fixture
def options(folder, picture):
    return GenerateOptions(
        model=str(folder),
        first_frame=picture,
        width=SIDE,
        height=SIDE,
        solver="ddim",
        num_inference_steps=STEPS,
        output=CodecOptions(codec="ffv1"),
    )


def made(options, target, **changes):
    generate("", target, replace(options, **changes), run=RUN)
    return pixels_of(target)


@torch.no_grad()
def published(picture, monkeypatch, *, seed=0, **told):
    """Return what diffusers makes of the same picture, also reduced alike, and the same noise."""
    ticks = range(FRAMES)
    noise = frame_noise((4, SIDE // 2, SIDE // 2), seed=seed, purpose="key frames", ticks=ticks)
    on_picture = frame_noise((3, SIDE, SIDE), seed=seed, purpose="picture", ticks=[0])
    module = "diffusers.pipelines.stable_video_diffusion.pipeline_stable_video_diffusion"
    monkeypatch.setattr(f"{module}.randn_tensor", lambda *_, **__: on_picture)
    reduce = partial(F.interpolate, mode="bicubic", antialias=True)
    monkeypatch.setattr(f"{module}._resize_with_antialiasing", reduce)
    pipeline = tiny_pipeline()
    pipeline.set_progress_bar_config(disable=True)
    return pipeline(
        Image.open(picture),
        height=SIDE,
        width=SIDE,
        num_frames=FRAMES,
        num_inference_steps=STEPS,
        noise_aug_strength=PICTURE_NOISE,
        latents=noise[None],
        output_type="np",
        **told,
    ).frames[0]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, {}),
        ({"guidance_scale": 1.0, "fps": 12.0}, {"max_guidance_scale": 1.0, "fps": 12}),
        ({"motion_bucket": 20, "seed": 5}, {"motion_bucket_id": 20, "seed": 5}),
    ],
)
def test_it_gives_what_diffusers_gives(options, picture, tmp_path, monkeypatch, changes, told):
    ours = made(options, tmp_path / "a.mkv", **changes)
    theirs = published(picture, monkeypatch, **told)
    assert ours.shape == theirs.shape
    assert np.abs(ours / 255 - theirs).max() < 0.51 / 255 + 1e-3
    assert np.ptp(theirs, axis=0).max() > 0.05  # frames differ


@torch.no_grad()
def test_the_decoder_and_the_encoders_are_those_of_diffusers(folder):
    ours, theirs = load_generator(str(folder), CPU, torch.float32), tiny_pipeline()
    latents, picture = torch.randn(1, FRAMES, 4, 16, 16), torch.rand(3, SEEN, SEEN) * 2 - 1
    scaled = latents[0] / theirs.vae.config.scaling_factor
    expected = theirs.vae.decode(scaled, num_frames=FRAMES).sample
    torch.testing.assert_close(ours.decode(latents)[0], expected, rtol=0, atol=1e-5)
    assert (expected - theirs.vae.decode(scaled[:1], num_frames=1).sample).abs().max() > 1e-2
    means = theirs.vae.encode(picture[None]).latent_dist.mode()
    found = ours.encode(picture[None, None])[0] / ours.latent_factor
    torch.testing.assert_close(found, means, rtol=0, atol=1e-4)
    embedded = theirs._encode_image((picture[None] + 1) / 2, CPU, 1, False)
    torch.testing.assert_close(ours.picture(picture), embedded, rtol=0, atol=1e-5)


def test_every_number_that_is_told_changes_the_video(options, tmp_path):
    usual = made(options, tmp_path / "a.mkv")
    for k, changes in enumerate(
        ({"motion_bucket": 255}, {"fps": 30.0}, {"guidance_scale": 6.0}, {"seed": 1})
    ):
        other = made(options, tmp_path / f"{k}.mkv", **changes)
        assert np.abs(other.astype(int) - usual).max() > 2, changes


def test_longer_videos_begin_as_shorter_ones_and_go_on_from_the_last_frame(
    options, tmp_path, monkeypatch
):
    shown, picture_of = [], PictureGeneration._picture

    def picture(self, call):
        shown.append(picture_of(self, call))
        return shown[-1]

    monkeypatch.setattr(PictureGeneration, "_picture", picture)
    short = made(options, tmp_path / "short.mkv", frames=11)
    assert len(shown) == 5
    long = made(options, tmp_path / "long.mkv", frames=13)
    assert (len(short), len(long)) == (11, 13)
    assert np.array_equal(long[:8], short[:8])  # the decoder's first window
    lasts = torch.stack(shown[1:5]).permute(0, 2, 3, 1).numpy()
    apart = [np.abs((lasts + 1) * 127.5 - long[k : k + 8 : 2]).mean() for k in (1, 2, 3)]
    assert min(apart[0], apart[2]) > 1.5 * apart[1]  # decoded without the frames that follow
    held = made(options, tmp_path / "held.mkv", frames=11, anchoring=1.0)
    assert not np.array_equal(held, short)


def test_an_interrupted_video_goes_on_to_the_same_frames(options, tmp_path, monkeypatch):
    whole = made(options, tmp_path / "whole.mkv", frames=6)
    clips, make = [], PictureGeneration.make_key_frames

    def counted(self, part, progress):
        clips.append(part)
        make(self, part, progress)

    monkeypatch.setattr(PictureGeneration, "make_key_frames", counted)
    with pytest.raises(Interrupted):
        generate(
            "",
            tmp_path / "cut.mkv",
            replace(options, frames=6),
            run=RUN,
            stop=lambda: len(clips) == 2,
        )
    assert np.array_equal(made(options, tmp_path / "cut.mkv", frames=6), whole)
    assert clips == [0, 1, 2]  # frames 0 to 2, 3 and 4, 5 and one more


def test_the_plan_counts_its_clips(options, tmp_path):
    plan = plan_generation("", tmp_path / "a.mkv", replace(options, frames=6), run=RUN)
    assert (plan.frames, plan.key_frames, plan.calls) == (6, 6, 3)
    assert plan.frame_rate == "7"
    assert plan.seconds > 0
    assert not (tmp_path / "a.mkv").exists()


OTHERS = {
    "start": "image",
    "last_frame": "a.png",
    "boxes": "a.txt",
    "negative_prompt": "x",
    "interpolations": 0,
    "interpolation_steps": 1,
    "context_guidance": 1.5,
    "context_frames": 1,
    "context_noise": 5,
    "temporal_guidance": 2.0,
    "temporal_share": 0.5,
    "motion_guidance": 0.5,
    "motion_share": 0.25,
    "speed": 3.0,
    "spatial": "x",
    "motion_lora": "x.safetensors",
}


def test_what_it_does_not_read_is_refused(options, folder):
    model = load_generator(str(folder), CPU, torch.float32)
    needed = {"reconstruction_guidance", "motion_lora_scale"}  # those come with another
    assert OTHERS.keys() | needed == set(UNREAD_WITH_PICTURE)
    for name, value in OTHERS.items():
        changes = {name: value}
        if name in ("last_frame", "boxes", "motion_lora"):
            changes[name] = options.first_frame.with_name(value)
        if name == "boxes":
            chosen = replace(options, first_frame=None, **changes)
        else:
            chosen = replace(options, **changes)
        with pytest.raises(InputError, match=f"{name}=.*nothing in it reads this; leave it out"):
            resolve(chosen, model, "")
    with pytest.raises(InputError, match="there is none; name one with --first-frame"):
        resolve(replace(options, first_frame=None), model, "")


def test_a_prompt_is_refused(options, tmp_path):
    with pytest.raises(InputError, match="this model knows no words; leave the prompt out"):
        generate("a cat", tmp_path / "a.mkv", options, run=RUN)
    assert not (tmp_path / "a.mkv").exists()


def test_a_motion_bucket_is_refused_by_models_of_words(tmp_path):
    options = GenerateOptions(motion_bucket=20)
    with pytest.raises(InputError, match="motion_bucket=20 with model 'driving'"):
        generate("", tmp_path / "a.mkv", options, run=RUN)


def test_other_jobs_say_what_it_is_for(folder):
    for load in (load_upscaler, load_image_model):
        with pytest.raises(ModelError, match="it makes a video of a picture; use it with legato"):
            load(str(folder), CPU, torch.float32)


def test_inspection_finds_all_of_it(folder):
    facts = inspect_model(folder)
    assert facts.problems == ()
    assert (facts.job, facts.family, facts.scale) == ("generate", "video_ldm", 2)
    assert {"unet", "temporal", "vae", "temporal_decoder", "image_encoder"} <= facts.parts.keys()


def test_damaged_parts_are_told(folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "copy")
    (copy / "legato.json").write_text(
        json.dumps(json.loads((copy / "legato.json").read_text()) | {"sha256": {}})
    )
    with pytest.raises(ModelError, match=r"legato.json does not list it"):
        load_generator(str(copy), CPU, torch.float32)
    path = copy / "legato.json"
    path.write_text((folder / "legato.json").read_text())
    (copy / "image_encoder/model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"image_encoder/model.safetensors is missing"):
        load_generator(str(copy), CPU, torch.float32)
