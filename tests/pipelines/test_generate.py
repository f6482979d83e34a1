"""Generated videos: exact, repeatable, resumable, and each option tells."""

import json
import os
import sys
from dataclasses import replace
from fractions import Fraction
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from clips import pixels_of, times_of
from tiny import tiny_upscaler_folder
from tiny_generator import tiny_generator_folder

from legato.errors import InputError, Interrupted, ModelError, ResourceError
from legato.models import spec
from legato.models.generator_folder import load_generator
from legato.pipelines import generation_limits, output, prepare_generation
from legato.pipelines.box_file import read_boxes
from legato.pipelines.clip_sampler import ClipSampler
from legato.pipelines.generate import generate
from legato.pipelines.generate_options import GenerateOptions
from legato.pipelines.generation import finite
from legato.pipelines.generation_forecast import _Clock
from legato.pipelines.generation_settings import resolve, untold
from legato.pipelines.given_frame import read_given_frame
from legato.pipelines.latent_track import LatentTrack
from legato.pipelines.report import GenerationReport
from legato.pipelines.run_options import RunOptions
from legato.pipelines.workfolder import WorkFolder
from legato.video.codecs import CodecOptions

RUN = RunOptions(dtype="float32", device="cpu")
LOSSLESS = CodecOptions(codec="ffv1")


@pytest.fixture(scope="module", autouse=True)
def _loaded_once():
    """Let the videos of this file share loaded models."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prepare_generation, "load_generator", cache(load_generator))
        yield


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    return str(tiny_generator_folder(tmp_path_factory.mktemp("generator") / "tiny"))


@pytest.fixture(scope="session")
def key_frame_model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("generator") / "tiny"
    return str(tiny_generator_folder(folder, interpolation="none"))


@pytest.fixture(scope="session")
def first_frame(tmp_path_factory):
    path = tmp_path_factory.mktemp("image") / "first.png"
    picture = np.random.default_rng(0).integers(0, 256, (20, 32, 3), dtype=np.uint8)
    cv2.imwrite(str(path), cv2.blur(picture, (5, 5)))
    return path


@pytest.fixture
def make(key_frame_model, tmp_path):
    """Make a video of four key frames in two calls, and return its pixels."""

    def run(prompt="night", name="out.mkv", *, watch=lambda _: None, stop=lambda: False, **changes):
        values = {"model": key_frame_model, "frames": 4, "output": LOSSLESS}
        options = GenerateOptions(**(values | changes))
        report = generate(prompt, tmp_path / name, options, run=RUN, on_event=watch, stop=stop)
        assert report.frames == len(pixels_of(tmp_path / name))
        return pixels_of(tmp_path / name)

    return run


@pytest.fixture(scope="session")
def plain(key_frame_model, tmp_path_factory):
    """What `make` gives without changes."""
    target = tmp_path_factory.mktemp("plain") / "out.mkv"
    options = GenerateOptions(model=key_frame_model, frames=4, output=LOSSLESS)
    generate("night", target, options, run=RUN)
    return pixels_of(target)


def test_the_same_call_gives_the_same_video(make, plain):
    assert np.array_equal(make(), plain)


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"num_inference_steps": 2},
        {"solver": "ddim", "num_inference_steps": 3},
        {"guidance_scale": 3.0},
        {"context_guidance": 2.0},
        {"temporal_guidance": 2.0},
        {"temporal_share": 0.0},
        {"motion_guidance": 1.0},
        {"motion_guidance": 1.0, "speed": 10.0, "frames": 4},
        {"context_frames": 1},
        {"context_noise": 300},
        {"window": 4},
        {"start": "clip"},
        {"fps": 25.0},  # these layers are told the rate
    ],
    ids=lambda change: next(iter(change)),
)
def test_each_option_changes_the_pictures(make, plain, change):
    base = make(name="base.mkv", num_inference_steps=3) if "solver" in change else plain
    assert not np.array_equal(make(**change), base)


@pytest.mark.parametrize(
    "option",
    [
        {"context_guidance": 2.0},
        {"context_noise": 300},
        {"context_frames": 1},
        {"motion_guidance": 0.5},
    ],
    ids=lambda option: next(iter(option)),
)
@pytest.mark.parametrize("length", [{"frames": 1}, {"frames": 2, "start": "clip"}])
def test_what_acts_on_given_frames_is_refused_where_there_are_none(make, option, length):
    with pytest.raises(InputError, match=next(iter(option))):
        make(**option, **length)


@pytest.mark.parametrize(
    "option",
    [
        {"temporal_guidance": 2.0},
        {"temporal_share": 0.5},
        {"window": 5},
        {"motion_lora": Path("motion.safetensors")},
        {"interpolation_steps": 2},
    ],
    ids=lambda option: next(iter(option)),
)
def test_what_acts_on_several_frames_is_refused_for_a_single_one(make, option):
    with pytest.raises(InputError, match=next(iter(option))):
        make(**option, frames=1)


def test_a_size_beyond_memory_is_refused_before_all_work(make, monkeypatch):
    monkeypatch.setattr(generation_limits, "available_memory_bytes", lambda _: 10**9)
    with pytest.raises(ResourceError, match=r"GB of memory needed for 60000x60000"):
        make(width=60_000, height=60_000)
    assert len(make()) == 4


@pytest.mark.parametrize(
    "large", [{"width": 65_536}, {"width": 16_384, "upsampler": "embedded-x4"}]
)
def test_a_size_beyond_the_codec_is_refused_before_all_work(make, large):
    with pytest.raises(InputError, match=r"ffv1 holds 65535x65535 at the most; make them smaller"):
        make(**large)


def test_a_length_beyond_the_disk_is_refused_before_all_work(make, monkeypatch, tmp_path):
    free = SimpleNamespace(free=10**6)
    monkeypatch.setattr(output.shutil, "disk_usage", lambda _: free)
    with pytest.raises(ResourceError, match="of disk space needed"):
        make(frames=1_000_000)
    assert not list(tmp_path.iterdir())
    assert len(make()) == 4


@pytest.mark.parametrize("frames", [1, 4])
def test_guidance_between_equal_texts_is_refused(make, frames):
    with pytest.raises(InputError, match="guidance_scale=5"):
        make("", guidance_scale=5.0, frames=frames)
    with pytest.raises(InputError, match="these are the same"):
        make("day", negative_prompt="day", guidance_scale=5.0, frames=frames)
    make("", negative_prompt="day", guidance_scale=5.0, frames=frames)


@pytest.mark.parametrize(
    "words",
    [
        {"prompt": "day"},
        {"guidance_scale": 5.0},
        {"negative_prompt": "day"},
        {"num_inference_steps": 2},
        {"solver": "ddim"},
        {"seed": 5},
    ],
    ids=lambda words: next(iter(words)),
)
def test_words_are_refused_where_every_frame_is_given(make, model, first_frame, words):
    given = {"first_frame": first_frame, "prompt": ""} | words
    with pytest.raises(InputError, match=next(iter(words))):
        make(frames=1, **given)
    joined = {"frames": 2, "model": model, "interpolations": 0, "last_frame": first_frame}
    with pytest.raises(InputError, match=next(iter(words))):
        make(**joined, **given)


@pytest.mark.parametrize(
    "option",
    [
        {"temporal_guidance": 2.0},
        {"temporal_share": 0.5},
        {"reconstruction_guidance": 9.0},
        {"context_guidance": 2.0},
        {"num_inference_steps": 2},
        {"solver": "ddim"},
        {"seed": 5},
    ],
    ids=lambda option: next(iter(option)),
)
def test_what_makes_key_frames_is_refused_where_two_are_joined(first_frame, tmp_path, option):
    """The frames between correct a blend, so that nothing is drawn."""
    folder = tiny_generator_folder(tmp_path / "tiny", interpolation_start="blend")
    ends = {"first_frame": first_frame, "last_frame": first_frame}
    joined = GenerateOptions(model=str(folder), frames=5, interpolations=1, output=LOSSLESS, **ends)
    with pytest.raises(InputError, match=f"{next(iter(option))}=.*counts only with") as error:
        generate("", tmp_path / "out.mkv", replace(joined, **option), run=RUN)
    assert "\n" not in str(error.value)
    generate("day", tmp_path / "out.mkv", joined, run=RUN)


@pytest.mark.parametrize(
    "option",
    [{"num_inference_steps": 2}, {"solver": "ddim", "num_inference_steps": 3}, {"seed": 5}],
    ids=lambda option: next(iter(option)),
)
def test_frames_between_that_are_drawn_count_as_such(model, first_frame, tmp_path, option):
    ends = {"first_frame": first_frame, "last_frame": first_frame}
    joined = GenerateOptions(model=model, frames=5, interpolations=1, output=LOSSLESS, **ends)
    generate("", tmp_path / "out.mkv", replace(joined, **option), run=RUN)
    fixed = replace(joined, num_inference_steps=2, interpolation_steps=1)
    with pytest.raises(InputError, match="num_inference_steps"):
        generate("", tmp_path / "b.mkv", fixed, run=RUN)


@pytest.mark.parametrize("solver", ["ddim", "dpm++"])
def test_a_solver_is_refused_where_all_are_the_same(make, model, solver):
    for steps in (1, 2):
        with pytest.raises(InputError, match=r"solver=.*counts only with more steps"):
            make(num_inference_steps=steps, solver=solver)
    between = {"model": model, "frames": 5, "interpolations": 1, "interpolation_steps": 3}
    make(num_inference_steps=1, solver=solver, **between)


def test_a_models_noise_prior_changes_the_pictures(make, plain, tmp_path):
    root = tiny_generator_folder(tmp_path / "m", interpolation="none", noise_prior="mixed")
    assert not np.array_equal(make(model=str(root)), plain)


def test_the_prompt_changes_the_pictures(make, plain):
    assert not np.array_equal(make("day, crowded"), plain)


def test_the_negative_prompt_changes_the_pictures(make):
    guided = make(guidance_scale=3.0)
    assert not np.array_equal(make(guidance_scale=3.0, negative_prompt="crowded"), guided)


def test_size_length_and_rate_are_as_asked(make, tmp_path):
    made = make(width=24, height=32, frames=None, seconds=1.5, fps=2.5)
    assert made.shape == (4, 32, 24, 3)
    assert times_of(tmp_path / "out.mkv") == [Fraction(2 * k, 5) for k in range(4)]


def test_a_name_without_suffix_is_a_folder_of_stills(key_frame_model, tmp_path):
    options = GenerateOptions(model=key_frame_model, frames=2)
    generate("", tmp_path / "stills", options, run=RUN)
    assert len(list((tmp_path / "stills").glob("frame_*.png"))) == 2


def interrupted(*_):
    """End a run there, as if it were killed."""
    raise KeyboardInterrupt


def test_a_folder_of_stills_without_its_report_is_finished(make, monkeypatch, tmp_path):
    stills = {"name": "stills", "output": CodecOptions(codec="png")}
    with monkeypatch.context() as patch:
        patch.setattr(GenerationReport, "close", interrupted)
        with pytest.raises(KeyboardInterrupt):
            make(**stills)
    assert len(make(**stills)) == 4
    assert (tmp_path / "stills.legato.json").exists()
    assert not (tmp_path / ".stills.legato").exists()


def test_one_interpolation_makes_four_times_as_many_frames(model, tmp_path):
    options = GenerateOptions(model=model, interpolations=1, output=LOSSLESS)
    report = generate("", tmp_path / "out.mkv", options, run=RUN)
    assert (report.frames, report.key_frames, report.frame_rate) == (9, 3, "8")


def test_a_first_frame_is_fitted_with_a_notice_and_changes_the_future(make, plain, first_frame):
    said = []
    made = make(first_frame=first_frame, watch=lambda event: said.append(event.message))
    assert "first.png: fitted from 32x20 to 16x16" in said
    assert not np.array_equal(made, plain)


def test_a_video_ends_with_the_last_frame_and_is_led_to_it(make, first_frame):
    led = {"first_frame": first_frame, "frames": 3, "num_inference_steps": 3}
    free, ends = make(name="free.mkv", **led), make(name="ends.mkv", last_frame=first_frame, **led)
    assert (
        np.abs(ends[-1].astype(int) - ends[0]).mean()
        < np.abs(free[-1].astype(int) - free[0]).mean()
    )
    stronger = make(name="b.mkv", last_frame=first_frame, reconstruction_guidance=80.0, **led)
    assert not np.array_equal(stronger[1], ends[1])


def test_two_key_frames_are_joined_by_the_frames_between_alone(model, first_frame, tmp_path):
    """A transition of one interval: no key frame is made."""
    options = GenerateOptions(
        model=model,
        frames=5,
        interpolations=1,
        first_frame=first_frame,
        last_frame=first_frame,
        output=LOSSLESS,
    )
    parts = []
    report = generate("", tmp_path / "out.mkv", options, run=RUN, on_event=parts.append)
    assert report.key_frames == 2
    made = pixels_of(tmp_path / "out.mkv")
    assert len(made) == 5
    other = replace(options, first_frame=None)  # made by the image model, joined just so
    generate("", tmp_path / "b.mkv", other, run=RUN)
    assert not np.array_equal(pixels_of(tmp_path / "b.mkv")[0], made[0])


@pytest.mark.parametrize(
    "options",
    [
        {"reconstruction_guidance": 9.0},
        {"motion_lora_scale": 3.0},
        {"interpolation_steps": 2, "interpolations": 0},
        {"temporal_guidance": 2.0, "temporal_share": 0.0},
        {"motion_guidance": 0.5, "motion_share": 0.0},
        {"motion_guidance": 1.5},
        {"speed": 5.0, "motion_share": 0.0},
        {"speed": 5.0, "motion_guidance": 0.0},
        {"speed": 5.0, "last_frame": Path("end.png")},
        {"speed": 1000.0},
        {"anchoring": -0.1},
        {"width": 0},
        {"height": -16},
        {"temporal_share": 1.5},
        {"temporal_guidance": float("nan")},
    ],
    ids=lambda options: next(iter(options)),
)
def test_what_would_count_for_nothing_is_refused(options):
    with pytest.raises(InputError, match=next(iter(options))):
        GenerateOptions(**options)


def test_guidance_by_motion_acts_in_its_share_of_the_steps(make):
    long, short = (
        make(motion_guidance=0.5, motion_share=share, num_inference_steps=3, name=f"{share}.mkv")
        for share in (1.0, 0.3)
    )
    assert not np.array_equal(long, short)


@pytest.mark.parametrize("option", [{"motion_guidance": 0.5}, {"motion_share": 0.5}])
def test_guidance_by_motion_is_refused_where_a_single_frame_shows_none(make, option):
    with pytest.raises(InputError, match="motion"):
        make(**option, context_frames=1)


def test_a_speed_leads_what_follows_a_single_frame_and_its_sign_says_where_to(make):
    free = make(frames=3)
    forwards, backwards = (
        make(frames=3, motion_guidance=1.0, speed=speed, name=f"{speed}.mkv")
        for speed in (9.0, -9.0)
    )
    assert not np.array_equal(forwards, free)
    assert not np.array_equal(forwards, backwards)


def test_a_speed_is_refused_where_no_frame_follows_a_single_one(make):
    with pytest.raises(InputError, match="speed"):
        make(frames=2, start="clip", motion_guidance=1.0, speed=5.0)
    with pytest.raises(InputError, match="not led by motion"):
        make(speed=5.0)


def test_anchoring_changes_later_clips(make):
    free, held = (make(anchoring=weight, name=f"{weight}.mkv") for weight in (0.0, 1.0))
    assert not np.array_equal(free[-1], held[-1])


def test_anchoring_is_refused_where_no_clip_follows(make):
    with pytest.raises(InputError, match="anchoring"):
        make(anchoring=0.5, frames=2)


@pytest.mark.parametrize("off", [{"temporal_share": 0.0}, {"temporal_guidance": 0.0}], ids=str)
@pytest.mark.parametrize(
    "option",
    [
        {"context_guidance": 3.0},
        {"context_noise": 300},
        {"context_frames": 1},
        {"motion_lora": Path("motion.safetensors")},
        {"reconstruction_guidance": 80.0, "frames": 3},
    ],
    ids=lambda option: next(iter(option)),
)
def test_what_acts_through_temporal_layers_is_refused_without_them(make, first_frame, off, option):
    ends = {"last_frame": first_frame} if "frames" in option else {}
    with pytest.raises(InputError, match=f"{next(iter(option))}=.*--temporal-guidance and"):
        make(**off, **option, **ends)


def test_a_share_of_steps_of_temporal_layers_that_are_off_is_refused(make):
    with pytest.raises(InputError, match=r"temporal_share=0.5: it counts only with --temporal-gu"):
        make(temporal_guidance=0.0, temporal_share=0.5)


def test_context_frames_count_without_temporal_layers_where_clips_are_anchored(make):
    held = {"temporal_share": 0.0, "anchoring": 1.0}
    two, one = (make(name=f"{n}.mkv", context_frames=n, **held) for n in (2, 1))
    assert not np.array_equal(two, one)


def test_noise_on_frames_that_are_not_followed_counts_where_layers_are_told_of_it(make, tmp_path):
    with pytest.raises(InputError, match=r"context_noise=300: .*--context-guidance above 0"):
        make(context_guidance=0.0, context_noise=300)
    told = tiny_generator_folder(tmp_path / "m", interpolation="none", sees_noise_level=True)
    chosen = {"model": str(told), "context_guidance": 0.0}
    clean, noised = (make(name=f"{k}.mkv", context_noise=k, **chosen) for k in (0, 300))
    assert not np.array_equal(clean, noised)


@pytest.mark.parametrize("sees", [True, False])
def test_what_layers_are_not_told_is_said(tmp_path, sees):
    told = {"sees_frame_rate": sees, "sees_noise_level": sees}
    folder = tiny_generator_folder(tmp_path / "told", interpolation="none", **told)
    model = load_generator(str(folder), torch.device("cpu"), torch.float32)

    def notices(**changes):
        options = GenerateOptions(frames=4, **changes)
        return untold(options, resolve(options, model, ""), model)

    said = notices(fps=6.0, context_noise=300)
    if sees:
        assert said == []
    else:
        rates, noise = said
        assert "knows no frame rates: at 6 frames per second its motion plays 3 times as" in rates
        assert "not told of the noise on given frames (context_noise=300)" in noise
    assert notices(fps=2.0) == notices() == []
    asked = GenerateOptions(model=str(folder), frames=1, fps=6.0)
    report = generate("", tmp_path / "out.mkv", asked, run=RUN)
    assert [line for line in report.notices if "frame rates" in line] == said[:1]


def test_a_share_of_steps_without_guidance_by_motion_is_refused(make):
    with pytest.raises(InputError, match="not led by motion") as error:
        make(motion_share=0.5)
    assert "\n" not in str(error.value)


def test_models_in_memory_part_by_part_are_for_upscaling(model, tmp_path):
    with pytest.raises(InputError, match="only upscaling models"):
        generate(
            "", tmp_path / "out.mkv", GenerateOptions(model=model), run=RunOptions(offload=True)
        )


@pytest.mark.parametrize(("frames", "fix"), [(4, "ask for 3 frames"), (1, "ask for 2 frames")])
def test_a_last_frame_that_is_out_of_reach_is_refused(make, first_frame, frames, fix):
    with pytest.raises(InputError, match=fix) as error:
        make(last_frame=first_frame, frames=frames)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("changed", ["first.png", "last.png"])
def test_a_run_is_not_continued_with_another_given_frame(model, first_frame, tmp_path, changed):
    ends = {name: tmp_path / f"{name}.png" for name in ("first", "last")}
    for path in ends.values():
        path.write_bytes(first_frame.read_bytes())
    frames = {f"{name}_frame": path for name, path in ends.items()}
    options = GenerateOptions(model=model, frames=5, interpolations=1, output=LOSSLESS, **frames)
    answers = iter([False, True])
    with pytest.raises(Interrupted):
        generate("", tmp_path / "out.mkv", options, run=RUN, stop=lambda: next(answers))
    cv2.imwrite(str(tmp_path / changed), np.zeros((16, 16, 3), np.uint8))
    with pytest.raises(InputError, match=f"what --{changed[:-4]}-frame names has changed"):
        generate("", tmp_path / "out.mkv", options, run=RUN)


def test_a_plan_counts_each_stage_by_its_own_steps(model, tmp_path):
    options = GenerateOptions(model=model, num_inference_steps=5, interpolation_steps=2)
    job = prepare_generation.prepare("", tmp_path / "out.mkv", options, RUN, lambda event: None)
    clock = _Clock(took={"image": 1.0, "call": 1.0, "between": 1.0, "decode": 0.0}, pairs=1)
    seconds = clock.of(job)
    assert seconds["keyframes"] == 5 * (1 + len(job.generation.calls))
    assert seconds["interpolate"] == 2 * (job.settings.timeline.num_key_frames - 1)


def test_key_frames_stand_untouched_at_every_sixteenth_place(model, tmp_path):
    options = GenerateOptions(model=model, frames=33, output=LOSSLESS)
    asked = []

    def stop():
        asked.append(1)
        return len(asked) > 3  # the first frame, a call, the interpolations

    with pytest.raises(Interrupted, match="decode"):
        generate("night", tmp_path / "out.mkv", options, run=RUN, stop=stop)
    folder = WorkFolder(tmp_path / "out.mkv")
    keys = LatentTrack(folder=folder, name="key", bounds=[0, 1, 3]).read(0, 3)
    frames = LatentTrack(folder=folder, name="frame", bounds=[0, 33]).read(0, 33)
    assert torch.equal(frames[::16], keys)
    assert frames.std(dim=0).min() > 0


def test_segments_and_a_longer_video_leave_the_frames_alone(make):
    """The last window of a video is decoded without what a longer one has behind it."""
    short = make(segment=4, frames=9)
    long = make(segment=8, frames=12, name="b.mkv")
    assert np.abs(short[:8].astype(int) - long[:8]).max() <= 1


@pytest.fixture(scope="session")
def whole(model, tmp_path_factory):
    """An uninterrupted run: a first frame, two calls, one part between, three segments."""
    target = tmp_path_factory.mktemp("whole") / "out.mkv"
    options = GenerateOptions(model=model, frames=12, output=LOSSLESS, segment=4, interpolations=1)
    generate("night", target, options, run=RUN)
    return options, pixels_of(target)


def test_steps_of_the_frames_between_are_their_own(whole, tmp_path):
    options, pixels = whole
    more, target = replace(options, interpolation_steps=3), tmp_path / "out.mkv"
    generate("night", target, more, run=RUN)
    assert not np.array_equal(pixels_of(target), pixels)


def test_frames_between_that_begin_from_a_blend_take_one_step(whole, tmp_path):
    options, pixels = whole
    folder = tiny_generator_folder(tmp_path / "tiny", interpolation_start="blend")
    blend = replace(options, model=str(folder), num_inference_steps=2)
    target = tmp_path / "out.mkv"
    generate("night", target, blend, run=RUN)
    made = pixels_of(target)
    assert not np.array_equal(made, pixels)
    generate("night", tmp_path / "b.mkv", replace(blend, interpolation_steps=1), run=RUN)
    assert np.array_equal(pixels_of(tmp_path / "b.mkv"), made)
    with pytest.raises(InputError, match="blend of two key frames in one step"):
        generate("night", tmp_path / "c.mkv", replace(blend, interpolation_steps=2), run=RUN)


def test_fusion_steadies_frames_between_and_does_not_show_how_they_are_cut(whole, tmp_path):
    options, pixels = whole
    folder = tiny_generator_folder(tmp_path / "tiny", decoder_fusion=2)
    steady, once = tmp_path / "steady.mkv", tmp_path / "once.mkv"
    generate("night", steady, replace(options, model=str(folder)), run=RUN)
    generate("night", once, replace(options, model=str(folder), segment=12), run=RUN)
    made = pixels_of(steady)
    assert np.array_equal(pixels_of(once), made)

    def unrest(frames):
        places = frames.astype(float).reshape(-1, 4, 4, 4, 4, 3).mean(axis=(2, 4))
        return np.abs(np.diff(places, axis=0)).mean()

    assert unrest(made) < 0.95 * unrest(pixels)


def test_key_frames_alone_are_not_fused(make, plain, tmp_path):
    folder = tiny_generator_folder(tmp_path / "tiny", interpolation="none", decoder_fusion=2)
    assert np.array_equal(make(model=str(folder)), plain)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems' names are text")
def test_a_run_goes_on_with_a_file_whose_name_is_no_text(make, first_frame, tmp_path):
    image = tmp_path / os.fsdecode(b"caf\xe9.png")
    image.write_bytes(first_frame.read_bytes())
    with pytest.raises(Interrupted):
        make(first_frame=image, stop=iter([False, True]).__next__)
    assert len(make(first_frame=image)) == 4


@pytest.mark.parametrize("parts", [1, 5])
def test_an_interrupted_run_ends_with_the_same_frames(whole, tmp_path, parts):
    options, pixels = whole
    target, asked = tmp_path / "out.mkv", []

    def stop():
        asked.append(1)
        return len(asked) > parts

    with pytest.raises(Interrupted):
        generate("night", target, options, run=RUN, stop=stop)
    report = generate("night", target, options, run=RUN)
    assert report.parts_resumed == parts
    assert np.array_equal(pixels_of(target), pixels)
    assert not (tmp_path / ".out.mkv.legato").exists()


def test_another_video_does_not_continue_an_interrupted_one(make, monkeypatch):
    with pytest.raises(Interrupted):
        make(stop=iter([False, True]).__next__)
    with pytest.raises(InputError, match="--seed 5, was 0"):
        make(seed=5)
    with pytest.raises(InputError, match=": prompt day, was night"):
        make("day")
    monkeypatch.setitem(globals(), "RUN", replace(RUN, dtype="bfloat16"))
    with pytest.raises(InputError, match="--dtype bfloat16, was float32"):
        make()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"frames": 0}, "frames=0"),
        ({"frames": 3, "seconds": 1.0}, "alone fixes the length"),
        ({"seconds": -2.0}, "seconds=-2"),
        ({"width": 30}, "multiples of 8"),
        ({"negative_prompt": "day"}, "does not count"),
        ({"boxes": Path("a.txt"), "start": "clip"}, "--boxes with --start clip"),
        ({"boxes": Path("nowhere.txt")}, "nowhere.txt"),
        ({"first_frame": Path("nowhere.png"), "start": "clip"}, "does not continue an image"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(make, changes, said):
    with pytest.raises(InputError, match=said) as error:
        make(**changes)
    assert "\n" not in str(error.value)


def test_boxes_change_the_first_frame_and_belong_to_the_plan(make, plain, tmp_path):
    path = tmp_path / "boxes.txt"
    path.write_text("# one car\n0.2 0.4 0.6 0.9 back\n\n")
    told = make(name="told.mkv", boxes=path)
    assert not np.array_equal(told[0], plain[0])
    path.write_text("0.2 0.4 0.6 0.9")
    assert not np.array_equal(make(name="other.mkv", boxes=path)[0], told[0])


def test_files_are_found_from_the_home_folder(first_frame, tmp_path, monkeypatch):
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(tmp_path))
    (tmp_path / "first.png").write_bytes(first_frame.read_bytes())
    (tmp_path / "boxes.txt").write_text("0 0 1 1 back\n")
    assert read_given_frame(Path("~/first.png"), (16, 16))[0].shape == (3, 16, 16)
    assert read_boxes(Path("~/boxes.txt")).tolist() == [[0, 0, 1, 1, 1]]
    with pytest.raises(InputError, match="both input and output"):
        output.require_no_input(tmp_path / "first.png", [Path("~/first.png")])


def test_a_mark_of_byte_order_is_no_part_of_a_box(tmp_path):
    path = tmp_path / "boxes.txt"
    path.write_text("0 0 1 1 back\n", encoding="utf-8-sig")
    assert read_boxes(path).tolist() == [[0, 0, 1, 1, 1]]


@pytest.mark.parametrize(
    "line", ["0.1 0.2 0.3", "0.5 0 0.4 1", "0 0 1 2", "0 0 1 nan", "a b c d", "0 0 1 1 front"]
)
def test_a_line_that_is_no_box_is_named(tmp_path, line):
    path = tmp_path / "boxes.txt"
    path.write_text(f"0 0 1 1\n{line}\n")
    with pytest.raises(InputError, match=r"boxes\.txt, line 2") as error:
        read_boxes(path)
    assert "\n" not in str(error.value)


def test_temporal_layers_act_on_another_image_model(make, plain, key_frame_model, tmp_path):
    same = make(name="same.mkv", spatial=key_frame_model)
    assert np.array_equal(same, plain)
    other = tiny_generator_folder(tmp_path / "m", interpolation="none", seed=5)
    moved = make(name="other.mkv", spatial=str(other))
    assert not np.array_equal(moved, plain)
    alone = make(name="alone.mkv", model=str(other))
    assert not np.array_equal(moved, alone)


@pytest.mark.parametrize("interpolation", ["own", "shared"])
def test_frames_between_read_the_prompt_as_their_image_model_does(
    tmp_path, monkeypatch, interpolation
):
    root = tiny_generator_folder(tmp_path / "m", interpolation=interpolation)
    other = tiny_generator_folder(tmp_path / "n", interpolation="none", words_seed=5)
    read, real = {}, ClipSampler.__call__

    def watch(self, network, given, **others):
        read[given.purpose] = self.prompt
        return real(self, network, given, **others)

    monkeypatch.setattr(ClipSampler, "__call__", watch)
    options = GenerateOptions(
        model=str(root), frames=5, interpolations=1, spatial=str(other), output=LOSSLESS
    )
    generate("night", tmp_path / "out.mkv", options, run=RUN)
    own, others = (
        load_generator(str(folder), torch.device("cpu"), torch.float32).encode_prompt("night")
        for folder in (root, other)
    )
    assert torch.equal(read["key frames"], others)
    assert torch.equal(read["interpolation 0"], own if interpolation == "own" else others)


def test_an_image_model_that_makes_nothing_is_refused(first_frame, tmp_path):
    root, other = (
        str(tiny_generator_folder(tmp_path / name, interpolation="own")) for name in "mn"
    )
    one = GenerateOptions(model=root, frames=1, first_frame=first_frame, spatial=other)
    joined = replace(one, frames=5, interpolations=1, last_frame=first_frame)
    for options in (one, joined):
        with pytest.raises(InputError, match=r"spatial=.*counts only with"):
            generate("", tmp_path / "out.mkv", options, run=RUN)
    shares = str(tiny_generator_folder(tmp_path / "s"))
    generate("", tmp_path / "out.mkv", replace(joined, model=shares), run=RUN)


@pytest.mark.parametrize("named", ["spatial", "upsampler"])
def test_other_weights_of_a_model_known_by_name_are_refused(make, tmp_path, monkeypatch, named):
    models = {
        "spatial": tiny_generator_folder(tmp_path / "spatial", interpolation="none"),
        "upsampler": tiny_upscaler_folder(tmp_path / "upsampler"),
    }
    monkeypatch.setattr(spec, "_folder_of", lambda _: models[named])
    chosen = {named: "sd-x4-upscaler"}
    with pytest.raises(Interrupted):
        make(**chosen, stop=iter([False, True]).__next__)
    os.utime(models[named] / "legato.json", (1, 1))
    with pytest.raises(InputError, match=f"what --{named} names has changed"):
        make(**chosen)


def test_an_image_model_of_another_topology_is_refused(make, tmp_path):
    other = tiny_upscaler_folder(tmp_path / "large")
    with pytest.raises(ModelError) as error:
        make(spatial=str(other))
    assert "\n" not in str(error.value)


def test_boxes_need_a_model_that_can_be_told(tmp_path):
    root = str(tiny_generator_folder(tmp_path / "m", interpolation="none", boxes=False))
    path = tmp_path / "boxes.txt"
    path.write_text("0 0 1 1")
    with pytest.raises(ModelError, match="lacks layout/"):
        generate("", tmp_path / "a.mkv", GenerateOptions(model=root, boxes=path), run=RUN)


def test_an_unknown_word_is_refused_with_the_list(make):
    with pytest.raises(InputError, match="day, night, empty, crowded"):
        make("foggy")


def test_a_folder_without_interpolation_makes_key_frames(tmp_path):
    root = str(tiny_generator_folder(tmp_path / "m", interpolation="none"))
    report = generate("", tmp_path / "a.mkv", GenerateOptions(model=root), run=RUN)
    assert (report.frames, report.key_frames) == (3, 3)
    with pytest.raises(ModelError, match="lacks interpolation/"):
        generate("", tmp_path / "b.mkv", GenerateOptions(model=root, interpolations=1), run=RUN)


def test_a_model_that_takes_no_given_frames_makes_one_clip(tmp_path):
    root = tiny_generator_folder(tmp_path / "m", interpolation="none", context_channels=None)
    options = GenerateOptions(model=str(root))
    assert generate("", tmp_path / "a.mkv", options, run=RUN).settings["start"] == "clip"
    with pytest.raises(InputError, match="more than 3 frames"):
        generate("", tmp_path / "b.mkv", replace(options, frames=4), run=RUN)


@pytest.mark.slow
def test_an_upsampler_enlarges_the_video(tmp_path):
    root = str(tiny_generator_folder(tmp_path / "m", upsampler=True))
    options = GenerateOptions(model=root, frames=3, interpolations=0, output=LOSSLESS)
    small = generate("", tmp_path / "s.mkv", replace(options, upsampler="none"), run=RUN)
    large = generate("", tmp_path / "l.mkv", options, run=RUN)
    assert (small.size, large.size) == ((16, 16), (64, 64))
    assert pixels_of(tmp_path / "l.mkv").shape == (3, 64, 64, 3)


@pytest.mark.slow
def test_any_upscaling_model_may_enlarge_the_video(key_frame_model, tmp_path):
    options = GenerateOptions(model=key_frame_model, frames=2, upsampler="embedded-x4")
    assert generate("", tmp_path / "l.mkv", options, run=RUN).size == (64, 64)
    assert pixels_of(tmp_path / "l.mkv").shape == (2, 64, 64, 3)


@pytest.mark.slow
def test_an_enlarged_video_without_its_report_is_finished(key_frame_model, monkeypatch, tmp_path):
    options = GenerateOptions(model=key_frame_model, frames=2, upsampler="embedded-x4")
    target = tmp_path / "l.mkv"
    with monkeypatch.context() as patch:
        patch.setattr(GenerationReport, "close", interrupted)
        with pytest.raises(KeyboardInterrupt):
            generate("", target, options, run=RUN)
    made = target.stat().st_ino
    kept = WorkFolder(target).path / "generated.json"
    kept.write_text(json.dumps(json.loads(kept.read_text()) | {"notices": ["it lost a thing"]}))
    module = sys.modules[generate.__module__]  # the package has the function of that name
    monkeypatch.setattr(module, "upscale", None)  # not called again
    events = []
    report = generate("", target, options, run=RUN, on_event=events.append)
    assert report.size == (64, 64)
    assert "it lost a thing" in report.notices
    assert "it lost a thing" in [event.message for event in events if event.stage == "notice"]
    assert target.stat().st_ino == made
    assert not WorkFolder(target).path.exists()


@pytest.mark.parametrize(
    ("upsampler", "said"), [("driving", "made to generate"), ("nosuch", "nosuch")]
)
def test_a_wrong_upsampler_is_refused_before_all_work(key_frame_model, tmp_path, upsampler, said):
    options = GenerateOptions(model=key_frame_model, frames=2, upsampler=upsampler)
    with pytest.raises(ModelError, match=said):
        generate("", tmp_path / "l.mkv", options, run=RUN)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_bundled_model_follows_its_words(tmp_path):
    means = {}
    for light, frames, key_frames in (("day", 5, 2), ("night", 1, 1)):
        target = tmp_path / f"{light}.mkv"
        options = GenerateOptions(frames=frames, num_inference_steps=6, output=LOSSLESS)
        report = generate(f"{light}, clear, highway", target, options, run=RUN)
        assert (report.frames, report.key_frames) == (frames, key_frames)
        means[light] = pixels_of(target)[0].mean()
    assert means["day"] > means["night"] + 20


def test_memory_that_runs_out_names_the_dials(make, monkeypatch):
    def fail(self, *_, **__):
        raise MemoryError

    monkeypatch.setattr(ClipSampler, "__call__", fail)
    with pytest.raises(ResourceError, match="--width"):
        make()


@pytest.mark.parametrize(
    ("dtype", "said"),
    [
        (torch.bfloat16, "do not fit bfloat16, .*; repeat with --dtype float32, with --restart"),
        (torch.float32, "guided too strongly; use other weights, or less guidance, with --restart"),
    ],
)
def test_what_is_no_number_is_told_with_a_cure_for_the_precision(dtype, said):
    assert finite(torch.zeros(1), dtype) == 0
    with pytest.raises(ResourceError, match=said):
        finite(torch.tensor([0.0, torch.nan]), dtype)
