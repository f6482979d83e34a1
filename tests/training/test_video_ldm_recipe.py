"""An image model that becomes a Video LDM by captioned clips: what learns, what stays, resume."""

import csv
import hashlib
import re

import cv2
import numpy as np
import pytest
import torch
from clips import pixels_of, write_clip
from tiny import NARROW, randomise_
from tiny_image_model import U_NET, tiny_diffusers_image_model, tiny_words_image_model

from legato.errors import DecodeError, InputError
from legato.models.folder import ModelFolder
from legato.models.generator_folder import load_generator
from legato.models.image_model import load_image_model
from legato.models.inspection import inspect_model
from legato.models.trainable_text import TrainableText
from legato.pipelines.generate import generate
from legato.pipelines.generate_options import GenerateOptions
from legato.training.batches import PASSED_OVER
from legato.training.captioned_clips import CaptionedClips
from legato.training.clip_samples import ClipSampleOptions, ClipSamples
from legato.training.generator_stages import DenoisingOptions, DenoisingTask
from legato.training.generator_system import GeneratorSystem
from legato.training.shard_sources import ShardOptions, make_shards
from legato.training.video_ldm_recipe import TrainVideoLdmOptions, train_video_ldm, video_ldm

CPU = torch.device("cpu")
FRAMES, SIZE = 33, 16
"""Three key frames with two passes between them."""
TINY = {
    "frames": 3,
    "width": SIZE,
    "height": SIZE,
    "fps": 32.0,
    "key_frame_rate": 2.0,
    "num_workers": 0,
    "decoder_crop": 16,
    "adversarial_start": 1,
}


def moving_shapes(folder, seeds):
    """Lossless clips of a disc that moves evenly over the dark, white by day and red by night."""
    folder.mkdir(parents=True)
    for seed in seeds:
        rng = np.random.default_rng(seed)
        at, speed = rng.uniform(0, SIZE, 2), rng.uniform(-0.4, 0.4, 2)
        word, colour = (("night", (220, 40, 40)), ("day", (220, 220, 220)))[seed % 2]
        clip = np.full((FRAMES, SIZE, SIZE, 3), 40, np.uint8)
        for k, frame in enumerate(clip):
            x, y = ((at + k * speed) % SIZE).astype(int).tolist()
            cv2.circle(frame, (x, y), 3, colour, -1)
        write_clip(folder / f"{seed}.mkv", clip, sound=False)
        (folder / f"{seed}.txt").write_text(f"{word}\n")
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("shapes")
    moving_shapes(root / "learned", range(6))
    moving_shapes(root / "held_back", range(100, 102))
    return root


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("image") / "tiny"
    return tiny_words_image_model(folder, u_net=U_NET | NARROW, translation_guidance=2.0)


def options_for(data, model, out, **changes):
    values = {
        "data": (data / "learned",),
        "held_back": (data / "held_back",) if (data / "held_back").exists() else (),
        "model": str(model),
        "out": out,
        "steps": 4,
        "batch_size": 2,
        "clips_at_once": 2,
        "validate_every": 2,
    }
    return TrainVideoLdmOptions(**values | TINY | changes)


def files_of(folder):
    """Names and hashes of all files."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def last_row(folder):
    with (folder / "validation.csv").open() as file:
        return {name: float(value) for name, value in list(csv.DictReader(file))[-1].items()}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


@pytest.fixture(scope="module")
def trained(data, model, tmp_path_factory):
    """The folder of an uninterrupted run."""
    return train_video_ldm(options_for(data, model, tmp_path_factory.mktemp("whole") / "run"))


def brightening(folder, *, size=32, caption="night"):
    """A clip whose frame k has the grey 7 k."""
    folder.mkdir(parents=True)
    greys = 7 * np.arange(FRAMES, dtype=np.uint8)
    clip = np.broadcast_to(greys[:, None, None, None], (FRAMES, size, size, 3))
    write_clip(folder / "a.mkv", np.ascontiguousarray(clip), sound=False)
    if caption:
        (folder / "a.txt").write_text(caption)
    return folder


def kind(stage, **changes):
    known = {"size": (SIZE, SIZE), "crop": 8, "frames": 3, "key_frame_rate": 2.0}
    return ClipSampleOptions(stage=stage, **known | changes)


@pytest.mark.parametrize("source", ["videos", "shards"])
@pytest.mark.parametrize(
    ("stage", "steps"),
    [("key_frames", {None: 16}), ("interpolation", {0: 4, 1: 1}), ("decoder", {None: 1})],
)
def test_every_stage_sees_frames_at_its_rates(source, stage, steps, tmp_path):
    root = brightening(tmp_path / "videos")
    if source == "shards":
        cut = ShardOptions(data=(root,), out=tmp_path / "shards", frames=FRAMES, size=32)
        root = make_shards(cut)
    samples = ClipSamples(CaptionedClips((root,), prompt="day", fps=32.0), kind(stage))
    seen = set()
    for number in range(12):
        sample = samples[number]
        done = sample.get("stage")
        greys = sample["frames"].float().mean(dim=(1, 2, 3)) / 7
        gaps = torch.full((len(greys) - 1,), float(steps[done]))
        torch.testing.assert_close(greys.diff(), gaps, atol=0.3, rtol=0)
        assert sample["frame_rate"] == 32 / steps[done]
        assert sample["words"] in ("day, night", "")
        side = 8 if stage == "decoder" else SIZE
        assert sample["frames"].shape == (5 if stage == "interpolation" else 3, 3, side, side)
        assert torch.equal(sample["frames"], samples[number]["frames"])
        seen.add(done)
    assert seen == set(steps)


@pytest.mark.parametrize(
    ("changes", "clips", "said"),
    [
        ({}, {"caption": ""}, r"a\.mkv has no caption: .*a\.txt beside it, or a --prompt"),
        ({}, {"caption": "lorry"}, r"a\.mkv: prompt word 'lorry'"),
        ({"frames": 4}, {}, r"a\.mkv has 33 frames: .*key_frames span 49; .*fewer --frames"),
        ({"fps": 20.0}, {}, r"a\.mkv has 20 frames per second: .*make 32; .*--key-frame-rate"),
        ({"width": 30}, {}, "width=30"),
        ({"decoder_crop": 6}, {}, "decoder_crop=6: .*multiple of 4"),
        ({"clips_at_once": 3}, {}, "batch_size=2"),
    ],
)
def test_what_cannot_be_learned_is_refused_before_the_run(changes, clips, said, model, tmp_path):
    brightening(tmp_path / "data" / "learned", **clips)
    with pytest.raises(InputError) as refused:
        train_video_ldm(options_for(tmp_path / "data", model, tmp_path / "run", **changes))
    message = str(refused.value)
    assert re.search(said, message)
    assert not (tmp_path / "run").exists()


def test_clips_that_tell_no_rate_need_one(tmp_path):
    clip = brightening(tmp_path / "videos")
    cut = ShardOptions(data=(clip,), out=tmp_path / "shards", frames=FRAMES, size=32)
    frames = tmp_path / "folders" / "b"
    frames.mkdir(parents=True)
    cv2.imwrite(str(frames / "0.png"), np.zeros((8, 8, 3), np.uint8))
    for root in (make_shards(cut), frames.parent):
        with pytest.raises(InputError, match=r"frames per second.*--fps"):
            CaptionedClips((root,))
    assert CaptionedClips((clip,)).rate(0) == pytest.approx(30000 / 1001)


def test_a_clip_that_is_damaged_is_passed_over(data):
    samples = ClipSamples(CaptionedClips((data / "learned",), fps=32.0), kind("key_frames"))
    whole = samples.clips.pictures

    def broken(number, *where):
        if number == 1:
            raise DecodeError("clip 1", why="it is damaged", fix="copy it again")
        return whole(number, *where)

    samples.clips.pictures = broken
    told = {samples[number][PASSED_OVER].partition(":")[0] for number in range(20)}
    assert told == {"", "passed over a clip"}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"interpolations": 0}, "interpolations=0"),
        ({"stages": ("key_frames",), "adversarial_start": 3}, "adversarial_start=3.*decoder"),
    ],
)
def test_options_of_a_stage_that_is_left_out_are_refused(changes, said, tmp_path):
    with pytest.raises(InputError, match=said):
        TrainVideoLdmOptions(data=(tmp_path,), model="tiny", **changes)


def test_recipes_of_the_stages():
    recipes = video_ldm()
    assert tuple(recipes) == TrainVideoLdmOptions.stages
    assert (recipes["key_frames"].trainer.steps, recipes["key_frames"].batch_size) == (60_000, 36)


@pytest.mark.parametrize("own", [False, True])
def test_frames_between_go_on_from_key_frames_and_checkpointing_changes_nothing(own, model):
    """Both stages share the image model, whose checkpoints must belong to the one that learns."""
    gradients = []
    for checkpointing in (False, True):
        image = load_image_model(str(model), CPU, torch.float32)
        system = GeneratorSystem(image=image, text=TrainableText(image.text))
        torch.manual_seed(0)
        key_frames = randomise_(system.begin_key_frames_())
        key_frames.set_gradient_checkpointing(checkpointing)
        between = system.begin_interpolation_(own_image_model=own)
        between.set_gradient_checkpointing(checkpointing)
        assert (between.spatial is key_frames.spatial) is not own
        assert same(between.spatial.state_dict(), key_frames.spatial.state_dict())
        begun, learned = (n.temporal.state_dict() for n in (between, key_frames))
        assert same({key: begun[key] for key in learned}, learned)
        assert {key for key in begun if key not in learned} == {"micro.stage.weight"}
        options = DenoisingOptions(stage="interpolation", trains_spatial=own)
        task = DenoisingTask(system.with_text(between), [], options)
        batch = {
            "latents": torch.randn(2, 5, 4, 4, 4, generator=torch.Generator().manual_seed(1)),
            "words": ["night", ""],
            "frame_rate": torch.tensor([8.0, 32.0]),
            "stage": torch.tensor([0, 1]),
        }
        task.loss(batch, torch.Generator().manual_seed(2))[0].backward()
        gradients.append({n: p.grad for n, p in task.module.named_parameters()})
        assert all(p.grad is None for p in key_frames.temporal.parameters())
        assert own or all(p.grad is None for p in between.spatial.parameters())
    assert all(gradient is not None for gradient in gradients[0].values())
    assert same(*gradients)


@pytest.mark.slow
def test_the_folder_is_whole_and_its_image_layers_are_untouched(trained, model, tmp_path):
    facts = inspect_model(trained)
    assert facts.problems == ()
    assert (facts.job, facts.family) == ("generate", "video_ldm")
    assert {"temporal", "interpolation", "temporal_decoder"} <= facts.parts.keys()
    made, base = ModelFolder(trained), ModelFolder(model)
    halved = {name: value.half() for name, value in base.weights("unet").items()}
    assert same(made.weights("unet"), halved)
    vae, before = made.weights("vae"), base.weights("vae")
    assert all(
        torch.equal(vae[name], before[name].half()) is not name.startswith("decoder.conv_out")
        for name in vae
        if name.startswith(("encoder.", "quant_conv.", "decoder.conv_out"))
    )
    generator = load_generator(str(trained), CPU, torch.float32)
    assert generator.predicts
    assert not generator.interpolation_is_own
    assert generator.defaults.guidance_scale == 2.0
    options = GenerateOptions(model=str(trained), num_inference_steps=1)
    generate("night", tmp_path / "out.mkv", options)
    assert pixels_of(tmp_path / "out.mkv").shape == (FRAMES, SIZE, SIZE, 3)


@pytest.mark.slow
def test_a_run_that_broke_off_ends_with_the_same_files_to_the_bit(trained, data, model, tmp_path):
    out, reached = tmp_path / "run", []

    def stops(line):
        reached.append(line)
        if "validation at 2" in line and "stage interpolation" in reached:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_video_ldm(options_for(data, model, out), log=stops)
    assert not (out / "decoder").exists()
    assert files_of(train_video_ldm(options_for(data, model, out))) == files_of(trained)


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["words", "clip"])
def test_trained_parts_beat_untrained_copies_on_held_back_clips(layout, data, model, tmp_path):
    if layout == "clip":
        model = tiny_diffusers_image_model(tmp_path / "clip", **NARROW)
    rows = {}
    for name, steps, rate in (("fresh", 1, 1e-9), ("trained", 40, 6e-3)):
        options = options_for(
            data,
            model,
            tmp_path / name,
            steps=steps,
            learning_rate=rate,
            validate_every=40,
            adversarial_start=10**6,
            batch_size=4,
            clips_at_once=4,
            interpolation_trains_spatial=layout == "clip",
        )
        folder = train_video_ldm(options)
        rows[name] = {stage: last_row(tmp_path / name / stage) for stage in options.stages}
    fresh, trained = rows["fresh"], rows["trained"]
    assert trained["key_frames"]["alone"] < 0.9 * fresh["key_frames"]["alone"]
    assert trained["key_frames"]["given"] < 0.9 * fresh["key_frames"]["given"]
    assert trained["interpolation"]["given"] < 0.9 * fresh["interpolation"]["given"]
    assert trained["decoder"]["l1"] < 0.9 * fresh["decoder"]["l1"]
    made = GenerateOptions(model=str(folder), frames=5, num_inference_steps=1)
    assert generate("night", tmp_path / "out.mkv", made).frames == 5
