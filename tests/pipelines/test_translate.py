"""Translated videos: exact, repeatable, resumable, and each option tells."""

from dataclasses import replace
from functools import cache
from itertools import combinations
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from clips import pixels_of, times_of
from safetensors.torch import load_file, save_file
from test_resume import StopAfter
from tiny_depth import tiny_depth
from tiny_image_model import (
    tiny_controlnet,
    tiny_diffusers_image_model,
    tiny_words_image_model,
    tiny_xl_image_model,
)

from legato.errors import InputError, Interrupted, ModelError, ResourceError
from legato.models.image_model import load_image_model
from legato.pipelines import prepare_translation
from legato.pipelines.hints import outlines
from legato.pipelines.keyframe_sampler import KeyframeSampler
from legato.pipelines.keyframes import KeyframeOptions
from legato.pipelines.prepare_translation import load_model, make_sampler
from legato.pipelines.run_options import RunOptions
from legato.pipelines.translate import translate
from legato.pipelines.translate_options import TranslateOptions
from legato.pipelines.workfolder import WorkFolder
from legato.video.codecs import CodecOptions
from legato.video.conservation import verify
from legato.video.probe import probe

CPU, FLOAT = torch.device("cpu"), torch.float32
RUN = RunOptions(dtype="float32", device="cpu")
LORA = "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
DENSE = KeyframeOptions(min_interval=1, max_interval=2)


@pytest.fixture(scope="module", autouse=True)
def _loaded_once():
    """Let the videos of this file share loaded models; those that an option changes load anew."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prepare_translation, "load_image_model", cache(load_image_model))
        yield


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    return str(tiny_words_image_model(tmp_path_factory.mktemp("image") / "words"))


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    """A ControlNet and LoRA weights."""
    folder = tmp_path_factory.mktemp("files")
    tiny_controlnet(folder / "control")
    draw = torch.Generator().manual_seed(0)
    pair = {
        f"{LORA}.lora_A.weight": torch.randn(2, 64, generator=draw),
        f"{LORA}.lora_B.weight": torch.randn(64, 2, generator=draw),
    }
    save_file(pair, folder / "lora.safetensors")
    return {"controlnet": folder / "control", "lora": folder / "lora.safetensors"}


@pytest.fixture(scope="module")
def sample(model):
    """Translate a batch of three frames in a few passes, and return its latents."""
    generator = torch.Generator().manual_seed(2)
    picture = torch.rand(3, 40, 48, generator=generator) * 2 - 1
    picture = torch.from_numpy(cv2.blur(picture.permute(1, 2, 0).numpy(), (7, 7)))
    picture = 3 * picture.permute(2, 0, 1)
    frames = torch.stack([picture[:, 4:36, k : k + 40] for k in range(3)]).clamp(-1, 1)

    @cache
    def run(prompt="night", **changes):
        values = {
            "model": model,
            "num_inference_steps": 3,
            "consistency": "none",
            "guidance_scale": 3.0,
        }
        options = TranslateOptions(**(values | changes))
        fresh = options.freeu or options.lora is not None
        with pytest.MonkeyPatch.context() as patch:
            if fresh:
                patch.setattr(prepare_translation, "load_image_model", load_image_model)
            loaded = load_model(options, CPU, FLOAT)
        sampler = make_sampler(loaded, options, CPU, FLOAT)
        maps = outlines(frames) if options.controlnet else None
        quiet = {"anchors": None, "on_pass": lambda _: None}
        return sampler(frames, (0, 7, 9), prompt, maps=maps, **quiet)[0]

    return run


CHANGES = [
    {"strength": 1.0},
    {"start_from": "inversion", "solver": "ddim"},
    {"solver": "ddim"},
    {"solver": "unipc", "num_inference_steps": 4},
    {"num_inference_steps": 4},
    {"guidance_scale": 5.0},
    {"negative_prompt": "crowded"},
    {"seed": 1},
    {"consistency": "first-frame"},
    {"consistency": "first-and-previous"},
    {"consistency": "all-frames"},
    {"consistency": "trajectories"},
    {"consistency": "nearest-tokens"},
    {"consistency": "shared-noise"},
    {"consistency": "fresco"},
    {"consistency": "interleaved"},
    {"consistency": "shape-aware"},
    {"consistency": "pixel-aware"},
    {"consistency": "color-aware"},
    {"controlnet": "controlnet"},
    {"lora": "lora"},
    {"freeu": True},
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: str(change))
def test_each_option_changes_the_latents(sample, files, change):
    chosen = {name: files.get(value, value) for name, value in change.items()}
    base = {"start_from": {"solver": "ddim"}, "solver": {}}.get(next(iter(change)), {})
    if change.get("solver") == "unipc":
        base = {"solver": "ddim", "num_inference_steps": 4}
    assert not torch.allclose(sample(**(base | chosen)), sample(**base), atol=1e-4)


@pytest.mark.parametrize(
    ("base", "change"),
    [
        ({"consistency": "fresco"}, {"preset": "paper"}),
        ({"controlnet": "controlnet"}, {"control_scale": 0.5}),
        ({"lora": "lora"}, {"lora_scale": 0.5}),
    ],
    ids=lambda change: str(change),
)
def test_what_belongs_to_an_option_changes_the_latents(sample, files, base, change):
    base = {name: files.get(value, value) for name, value in base.items()}
    assert not torch.allclose(sample(**base, **change), sample(**base), atol=1e-4)


def test_the_prompt_changes_the_latents(sample):
    assert not torch.allclose(sample("day, crowded"), sample(), atol=1e-4)


def test_an_inversion_stays_nearer_to_the_input_than_noise(sample):
    chosen = {"num_inference_steps": 8, "solver": "ddim", "guidance_scale": 1.0}
    near, noised = sample(strength=0.2, **chosen), sample(**chosen)
    inverted = sample(start_from="inversion", **chosen)
    assert (inverted - near).norm() < (noised - near).norm()


def test_a_frame_of_a_batch_without_consistency_is_the_frame_alone(model):
    options = TranslateOptions(model=model, num_inference_steps=3, consistency="none")
    sampler = make_sampler(load_model(options, CPU, FLOAT), options, CPU, FLOAT)
    frames = torch.rand(2, 3, 32, 32) * 2 - 1
    quiet = {"anchors": None, "on_pass": lambda _: None}
    both, _ = sampler(frames, [3, 8], "night", **quiet)
    alone, _ = sampler(frames[1:], [8], "night", **quiet)
    assert torch.allclose(both[1:], alone, atol=1e-4)


def test_guidance_is_the_models_own_unless_chosen(model, tmp_path):
    own = tiny_words_image_model(tmp_path / "own", translation_guidance=2.5)
    plain = tiny_diffusers_image_model(tmp_path / "sd")
    for name, chosen, expected in ((own, None, 2.5), (own, 4.0, 4.0), (plain, None, 7.5)):
        options = TranslateOptions(model=str(name), guidance_scale=chosen)
        loaded = load_model(options, CPU, FLOAT)
        assert make_sampler(loaded, options, CPU, FLOAT).options.guidance_scale == expected


def test_a_model_without_guidance_takes_no_negative_prompt(tmp_path):
    root = tiny_words_image_model(tmp_path / "m", translation_guidance=1.0)
    options = TranslateOptions(model=str(root), negative_prompt="crowded")
    with pytest.raises(InputError, match="guidance scale above 1"):
        make_sampler(load_model(options, CPU, FLOAT), options, CPU, FLOAT)


@pytest.fixture
def make(model, tmp_path):
    """Translate a clip, and return its pixels."""

    def run(source, name="out.mkv", *, stop=lambda: False, watch=lambda _: None, **changes):
        values = {
            "model": model,
            "prompt": "night",
            "num_inference_steps": 2,
            "guidance_scale": 1.0,
            "consistency": "none",
            "batch_size": 3,
            "keyframes": DENSE,
            "output": CodecOptions(codec="ffv1"),
            "segment": 3,
        }
        options = TranslateOptions(**(values | changes))
        report = translate(source, tmp_path / name, options, run=RUN, stop=stop, on_event=watch)
        assert report.differences == []
        return pixels_of(tmp_path / name)

    return run


def test_frames_times_size_and_sound_stay(make, clip, tmp_path):
    source = clip(frames=7, size=(40, 30), cut=4)
    made = make(source)
    assert made.shape == pixels_of(source).shape
    assert times_of(tmp_path / "out.mkv") == times_of(source)
    assert verify(source, tmp_path / "out.mkv").kept
    assert [stream.type for stream in probe(tmp_path / "out.mkv").streams] == ["video", "audio"]


def test_the_same_call_gives_the_same_video_whatever_the_segments(make, clip):
    source = clip(frames=5)
    assert np.array_equal(make(source), make(source, "again.mkv", segment=100))


@pytest.mark.parametrize(
    "change",
    [
        {"colorize": True},
        {"resolution": 48},
        {"batch_size": 4, "consistency": "all-frames"},
        {"keyframes": KeyframeOptions(min_interval=3, max_interval=6)},
        {"start": "0.1"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_each_option_of_the_job_changes_the_pictures(make, clip, change):
    source = clip(frames=5)
    base = {key: value for key, value in change.items() if key == "consistency"}
    plain, made = make(source, **base), make(source, "changed.mkv", **change)
    assert made.shape != plain.shape or not np.array_equal(made, plain)


def test_a_prompt_counts_from_its_time_on_only(make, clip):
    source = clip(frames=4)
    every = KeyframeOptions(min_interval=1, max_interval=1)
    chosen = {"keyframes": every, "num_inference_steps": 4, "guidance_scale": 20.0}
    plain = make(source, **chosen)
    changed = make(source, "changed.mkv", prompt_at=("0.05=crowded",), **chosen)
    same = [np.array_equal(a, b) for a, b in zip(plain, changed, strict=True)]
    assert same == [True, True, False, False]


def test_a_prompt_that_comes_too_late_is_told(make, clip):
    told = []
    make(clip(frames=4), prompt_at=("0.05=day", "7=crowded"), watch=told.append)
    late = [event.message for event in told if "is not used" in event.message]
    assert len(late) == 1
    assert "the prompt at 7 s" in late[0]


def test_a_prompt_between_two_key_frames_is_told(make, clip):
    told, ends = [], KeyframeOptions(min_interval=8, max_interval=8)
    at = ("0.1=day", "0.2=crowded")
    make(clip(frames=9), keyframes=ends, prompt_at=at, watch=told.append)
    (unused,) = (event.message for event in told if "is not used" in event.message)
    assert "the prompt at 0.1 s" in unused
    assert "the next one at 0.2 s" in unused


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"consistency": "features", "strength": 0.25}, "features acts at none of the last 5 of 2"),
        ({"consistency": "temporal-guided,cross-frame", "strength": 0.35}, "temporal-guided acts"),
        ({"preset": "paper", "strength": 0.25}, "preset=paper.*at which features act"),
    ],
    ids=str,
)
def test_a_named_part_that_acts_at_no_step_is_refused(model, changes, said):
    def sampler(**changes):
        options = TranslateOptions(model=model, num_inference_steps=20, **changes)
        return make_sampler(load_model(options, CPU, FLOAT), options, CPU, FLOAT)

    with pytest.raises(InputError, match=said) as error:
        sampler(**changes)
    assert "\n" not in str(error.value)
    sampler(**changes | {"strength": 0.4})


def test_parts_of_fresco_that_act_at_no_step_are_told(make, clip):
    told = []
    few = {"num_inference_steps": 4, "strength": 0.25}
    make(clip(frames=2), consistency="fresco", watch=told.append, **few)
    idle = [event.message.split()[0] for event in told if "at none of" in event.message]
    assert idle == ["temporal-guided", "features"]


def test_a_seed_counts_after_an_inversion_where_the_noised_input_is_read(sample):
    inverted = {"start_from": "inversion", "solver": "ddim"}
    reads = inverted | {"consistency": "nearest-tokens"}
    assert not torch.equal(sample(**reads), sample(**reads, seed=1))
    with pytest.raises(InputError, match=r"seed=1: .*nearest-tokens in --consistency"):
        TranslateOptions(**inverted, consistency="first-frame", seed=1)


def test_each_kind_of_hint_changes_the_pictures(make, clip, files, tmp_path):
    source = clip(frames=3)
    chosen = {"controlnet": files["controlnet"], "num_inference_steps": 3}
    given = make(source, "given.mkv", hint=source, **chosen)
    depth = make(source, "depth.mkv", hint_model=str(tiny_depth(tmp_path / "dpt")), **chosen)
    drawn = make(source, **chosen)
    assert not any(np.array_equal(a, b) for a, b in combinations((given, depth, drawn), 2))


def test_hints_that_do_not_fit_leave_nothing_behind(make, clip, files, tmp_path):
    hint = clip(frames=2, name="edges.mkv")
    with pytest.raises(InputError, match="3 are translated"):
        make(clip(frames=3), controlnet=files["controlnet"], hint=hint)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["edges.mkv", "in.mkv"]


def test_colours_alone_keep_the_lightness(make, clip):
    source = clip(frames=3)
    made, before = make(source, colorize=True), pixels_of(source)
    light = [
        cv2.cvtColor(np.concatenate(each), cv2.COLOR_RGB2Lab)[..., 0].astype(int)
        for each in (made, before)
    ]
    assert np.abs(light[0] - light[1]).max() <= 2


@pytest.mark.parametrize(
    "consistency", ["all-frames", pytest.param("fresco", marks=pytest.mark.slow)]
)
def test_a_job_stopped_behind_every_part_gives_the_same_frames(make, clip, consistency, tmp_path):
    source = clip(frames=5)
    whole = make(source, "whole.mkv", consistency=consistency)
    for _ in range(3):
        with pytest.raises(Interrupted):
            make(source, stop=StopAfter(1), consistency=consistency)
        assert not (tmp_path / "out.mkv").exists()
    assert np.array_equal(make(source, consistency=consistency), whole)
    assert not WorkFolder(tmp_path / "out.mkv").path.exists()


def test_other_options_are_refused_and_named(make, clip, monkeypatch):
    source = clip(frames=4)
    with pytest.raises(Interrupted):
        make(source, stop=StopAfter(1))
    with pytest.raises(InputError, match=r"--seed 5, was 0.*--restart"):
        make(source, seed=5)
    monkeypatch.setitem(globals(), "RUN", replace(RUN, dtype="bfloat16"))
    with pytest.raises(InputError, match=r"--dtype bfloat16, was float32"):
        make(source)


@pytest.mark.parametrize("what", ["controlnet", "hint model", "model"])
def test_other_weights_in_the_same_folder_are_refused(make, clip, tmp_path, what):
    folders = {
        "model": tiny_diffusers_image_model(tmp_path / "model"),
        "controlnet": tiny_controlnet(tmp_path / "controlnet"),
        "hint model": tiny_depth(tmp_path / "hint model"),
    }
    chosen = {name.replace(" ", "_"): str(folder) for name, folder in folders.items()}
    chosen["controlnet"] = folders["controlnet"]
    source = clip(frames=4)
    with pytest.raises(Interrupted):
        make(source, stop=StopAfter(1), **chosen)
    weights = next(path for path in sorted(folders[what].rglob("*.safetensors")))
    save_file({name: 2 * tensor for name, tensor in load_file(weights).items()}, weights)
    with pytest.raises(InputError, match=f"what --{what.replace(' ', '-')} names has changed"):
        make(source, **chosen)


def test_another_lora_or_hint_under_the_same_name_is_refused(make, clip, files, tmp_path):
    lora, hint = tmp_path / "lora.safetensors", clip(frames=4, name="hint.mkv", sound=False)
    lora.write_bytes(files["lora"].read_bytes())
    chosen = {"lora": lora, "controlnet": files["controlnet"], "hint": hint}
    source = clip(frames=4)
    with pytest.raises(Interrupted):
        make(source, stop=StopAfter(1), **chosen)
    before = hint.read_bytes()
    clip(frames=4, name="hint.mkv", cut=2, sound=False)
    with pytest.raises(InputError, match="what --hint names has changed"):
        make(source, **chosen)
    hint.write_bytes(before)
    save_file({name: 2 * tensor for name, tensor in load_file(lora).items()}, lora)
    with pytest.raises(InputError, match="what --lora names has changed"):
        make(source, **chosen)


def test_batches_hold_on_to_the_frames_before(make, clip, monkeypatch):
    seen = []
    real = KeyframeSampler.__call__

    def watch(self, frames, ticks, prompt, *, anchors, **others):
        latents, recorder = real(self, frames, ticks, prompt, anchors=anchors, **others)
        seen.append((ticks, latents, anchors))
        return latents, recorder

    monkeypatch.setattr(KeyframeSampler, "__call__", watch)
    make(clip(frames=6), consistency="all-frames", num_inference_steps=4)
    (_, first, none), (ticks, second, anchors) = seen[:2]
    assert none is None
    assert ticks[:2] == [seen[0][0][0], seen[0][0][-1]]
    assert torch.equal(second[:2], first[[0, -1]])
    assert sorted(anchors.latents) == [0, 1, 2]


@pytest.mark.parametrize("consistency", ["fresco", "trajectories"])
def test_a_video_of_one_frame(make, clip, consistency):
    assert len(make(clip(frames=1, sound=False), consistency=consistency)) == 1


def test_a_static_clip_and_frames_that_share_nothing(make, tmp_path, clip):
    from clips import texture, write_clip

    still = np.repeat(texture(1), 3, axis=0)
    strange = np.random.default_rng(0).integers(0, 256, still.shape, dtype=np.uint8)
    for name, frames in (("still.mkv", still), ("strange.mkv", strange)):
        write_clip(tmp_path / name, frames, sound=False)
        made = make(tmp_path / name, f"made_{name}", consistency="fresco")
        assert len(made) == 3


def test_a_picture_and_a_folder_of_pictures(model, tmp_path):
    (tmp_path / "in").mkdir()
    for k in range(3):
        picture = np.full((24, 32, 3), 60 * k + 40, np.uint8)
        cv2.imwrite(str(tmp_path / "in" / f"{k}.png"), picture)
    options = TranslateOptions(model=model, prompt="day", num_inference_steps=2)
    translate(tmp_path / "in", tmp_path / "made", options, run=RUN)
    assert len(list((tmp_path / "made").glob("*.png"))) == 3
    translate(tmp_path / "in" / "0.png", tmp_path / "one.png", options, run=RUN)
    assert cv2.imread(str(tmp_path / "one.png")).shape == (24, 32, 3)


def test_16_bits_in_are_16_bits_out_between_key_frames_too(model, tmp_path):
    (tmp_path / "in").mkdir()
    for k in range(3):
        ramp = np.linspace(20_000 + 500 * k, 40_000, 32).astype(np.uint16)
        picture = np.broadcast_to(ramp[:, None], (24, 32, 3)).copy()
        cv2.imwrite(str(tmp_path / "in" / f"{k}.png"), picture)
    apart = KeyframeOptions(min_interval=2, max_interval=4)
    options = TranslateOptions(model=model, prompt="day", num_inference_steps=2, keyframes=apart)
    report = translate(tmp_path / "in", tmp_path / "made", options, run=RUN)
    assert report.key_frames == 2
    for path in sorted((tmp_path / "made").glob("*.png")):
        levels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        assert levels.dtype == np.uint16
        assert (levels % 257 != 0).mean() > 0.9  # not stretched from 8 bits


@pytest.mark.parametrize("layout", [tiny_diffusers_image_model, tiny_xl_image_model])
def test_the_layouts_of_diffusers_work_to_the_end(make, clip, tmp_path, layout):
    chosen = {"model": str(layout(tmp_path / "sd")), "consistency": "fresco", "guidance_scale": 3.0}
    source = clip(frames=2)
    made = make(source, prompt="a painting", **chosen)
    other = make(source, "other.mkv", prompt="a red boat", **chosen)
    assert len(made) == 2
    assert (made != other).any()


def test_progress_is_told_in_frames(make, clip):
    events = []
    make(clip(frames=5), watch=events.append)
    for stage in ("survey", "keyframes", "interpolate"):
        done = [event.done for event in events if event.stage == stage]
        assert done == sorted(done) or stage == "survey"
        assert done[-1] == [e.total for e in events if e.stage == stage][-1]


@pytest.mark.parametrize("part", ["unet", "vae"])
def test_pictures_that_are_no_numbers_are_not_written(make, clip, tmp_path, part):
    model = tiny_diffusers_image_model(tmp_path / "model")
    weights = model / part / "diffusion_pytorch_model.safetensors"
    broken = {
        name: tensor * (torch.nan if name.startswith(("conv_out", "decoder.conv_out")) else 1)
        for name, tensor in load_file(weights).items()
    }
    save_file(broken, weights)
    with pytest.raises(ResourceError, match="NaN or infinity: its weights are damaged"):
        make(clip(frames=2), model=str(model))
    assert not (tmp_path / "out.mkv").exists()


def test_memory_that_runs_out_names_the_dials(make, clip, monkeypatch):
    def fail(self, *_, **__):
        raise MemoryError

    monkeypatch.setattr(KeyframeSampler, "__call__", fail)
    with pytest.raises(ResourceError, match="--batch-size"):
        make(clip(frames=2))


@pytest.mark.parametrize(
    ("changes", "kind", "said"),
    [
        ({"prompt": "sunrise"}, InputError, "day, night"),
        ({"prompt_at": ("1=sunrise",)}, InputError, "day, night"),
        ({"controlnet": "nowhere"}, ModelError, "nowhere"),
        ({"lora": "nowhere"}, InputError, "no such file"),
        ({"controlnet": "control", "hint": "nowhere"}, InputError, "nowhere"),
        ({"controlnet": "control", "hint_model": "nowhere"}, ModelError, "nowhere"),
        ({"model": "nowhere"}, ModelError, "neither a known name nor a folder"),
        ({"model": None}, InputError, "--model"),
        ({"solver": "unipc"}, InputError, "solver='unipc'.*the same as ddim"),
        ({"prompt": "", "guidance_scale": 5.0}, InputError, "guidance_scale=5.*are the same"),
        (
            {"prompt": "day", "negative_prompt": "day ", "guidance_scale": 5.0},
            InputError,
            "guidance_scale=5.*are the same",
        ),
    ],
)
def test_what_is_missing_is_said_before_any_work(make, clip, files, tmp_path, changes, kind, said):
    places = {"control": files["controlnet"], "nowhere": tmp_path / "nowhere"}
    paths = {"controlnet", "lora", "hint", "hint_model"} & set(changes)
    changes = changes | {name: places[changes[name]] for name in paths}
    if "hint_model" in paths:
        changes["hint_model"] = str(changes["hint_model"])
    source = clip(frames=2)
    with pytest.raises(kind, match=said):
        make(source, **changes)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.mkv"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"strength": 0.0}, "strength=0"),
        ({"batch_size": 2}, "batch_size=2"),
        ({"start_from": "inversion"}, "use solver ddim"),
        ({"negative_prompt": "x", "guidance_scale": 1.0}, "guidance scale above 1"),
        ({"control_scale": 0.5}, "only with --controlnet"),
        ({"lora_scale": 0.5}, "only with --lora"),
        ({"hint": Path("edges.mp4")}, "only with --controlnet"),
        ({"hint_model": "dpt"}, "only with --controlnet"),
        ({"controlnet": Path("c"), "hint": Path("e.mp4"), "hint_model": "dpt"}, "give one"),
        ({"preset": "paper", "consistency": "all-frames"}, "features"),
        (
            {"start_from": "inversion", "solver": "ddim", "consistency": "shared-noise"},
            "shared-noise counts only with --start-from noise",
        ),
        ({"consistency": "propagation"}, "'propagation' is not one of them"),
        ({"consistency": "magic"}, "'magic' is not one of them"),
        ({"prompt_at": ("3",)}, "TIME=PROMPT"),
        ({"prompt_at": ("3=a", "2=b")}, "rising times"),
        ({"prompt_at": ("x=a",)}, "not a time"),
        ({"start": "3", "end": "2"}, "ends before it begins"),
    ],
)
def test_options_that_cannot_be(changes, said):
    with pytest.raises(InputError, match=said):
        TranslateOptions(**changes)


def test_options_are_frozen_values():
    options = TranslateOptions(prompt_at=("1=a",))
    assert replace(options) == options
    assert options.prompts() == [(0, ""), (1, "a")]
