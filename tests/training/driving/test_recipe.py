"""The driving recipe learns on held-back renders, exports what it learned and repeats itself."""

import copy
import csv
from dataclasses import replace

import numpy as np
import pytest
import torch
from clips import pixels_of
from diffusers import AutoencoderKL, UNet2DConditionModel
from hypothesis import given, settings
from hypothesis import strategies as st
from validations import last_row

from legato.apps.arguments import parse
from legato.apps.train import RECIPES
from legato.diffusion.context import ContextOptions
from legato.diffusion.noise import NoisePrior
from legato.errors import InputError
from legato.models.box_layout import BoxLayout
from legato.models.folder import ModelFolder
from legato.models.inflate import MICRO
from legato.models.micro_conditioning import ClipConditions
from legato.models.parts import load_words
from legato.models.spec import find_folder
from legato.models.text import WordEncoder
from legato.pipelines.generate import generate
from legato.pipelines.generate_options import GenerateOptions
from legato.training.driving import recipe as recipes
from legato.training.driving.clips import (
    HELD_BACK_FROM,
    KEY_FRAMES,
    MOVES,
    BatchOptions,
    ClipOptions,
    PackedClips,
    clip_rate,
    frames_between,
    moments,
    moving_moment,
    pack_clips,
    save_array,
)
from legato.training.driving.export import MANIFEST, export_driving, load_driving
from legato.training.driving.labels import GROUPS, VOCABULARY
from legato.training.driving.model import (
    AUTOENCODER,
    UNET,
    DrivingModel,
    DrivingSystem,
    Told,
    build_driving,
)
from legato.training.driving.options import ALL, DrivingOptions, DrivingRecipe
from legato.training.driving.render import World
from legato.training.driving.stages import AutoencoderOptions, AutoencoderTask, ImageTask
from legato.training.generator_stages import (
    DecoderOptions,
    DecoderTask,
    DenoisingOptions,
    DenoisingTask,
    VideoLdm,
)
from legato.training.losses import PixelLoss
from legato.training.trainer import TrainerOptions

SIZE = (32, 64)
STEPS = TrainerOptions(steps=50, learning_rate=4e-3, validate_every=50, log_every=10)
RECIPE = DrivingRecipe(
    clips=ClipOptions(clips=24, size=SIZE),
    held_back=ClipOptions(clips=6, size=SIZE, first_seed=HELD_BACK_FROM),
    trainers={
        **dict.fromkeys(ALL, STEPS),
        **dict.fromkeys(("interpolation", "decoder"), replace(STEPS, learning_rate=1e-3)),
    },
    batch_sizes={**dict.fromkeys(ALL, 2), "autoencoder": 4, "image": 8, "interpolation": 4},
    autoencoder=AutoencoderOptions(deceive_from=20),
    decoder=DecoderOptions(adversarial_start=10**6),
)


def tiny_model():  # of 64x128 pixels
    torch.manual_seed(0)
    vae = AutoencoderKL(**{**AUTOENCODER, "block_out_channels": (16, 16, 32)})
    small = {
        "block_out_channels": (32, 32),
        "attention_head_dim": (1, 1),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
        "cross_attention_dim": 16,
    }
    unet = UNet2DConditionModel(**{**UNET, **small})
    return DrivingModel(unet, vae, WordEncoder(16, VOCABULARY), BoxLayout(32))


@pytest.fixture(scope="module")
def rendered(tmp_path_factory):
    root = tmp_path_factory.mktemp("driving")
    pack_clips(root / recipes.CLIPS, RECIPE.clips)
    pack_clips(root / recipes.HELD_BACK, RECIPE.held_back)
    return root


@pytest.fixture
def packed(rendered):
    """Clips with random latents beside them."""
    clips = PackedClips(rendered / recipes.CLIPS)
    noise = np.random.default_rng(0).normal(size=(24, 14, 4, 8, 16)).astype(np.float16)
    np.save(clips.folder / "latents.npy", noise)
    yield clips
    (clips.folder / "latents.npy").unlink()


def test_packed_clips_carry_their_words_and_boxes(rendered):
    packed = PackedClips(rendered / recipes.CLIPS)
    assert packed.frames.shape == (24, 14, *SIZE, 3)
    words = [VOCABULARY[t - 1] for t in packed.words[0] if t]
    assert len(words) == 4
    boxes = packed.boxes[packed.boxes[..., 0] >= 0]
    assert len(boxes) > 0
    assert (boxes[:, 2] > boxes[:, 0]).all()


def test_rendering_is_not_repeated(rendered):
    before = (rendered / recipes.CLIPS / "frames.npy").stat().st_mtime_ns
    pack_clips(rendered / recipes.CLIPS, RECIPE.clips)
    assert (rendered / recipes.CLIPS / "frames.npy").stat().st_mtime_ns == before


def test_latents_of_an_encoder_that_has_learned_since_are_made_anew(packed):
    model, path = tiny_model(), packed.folder / "latents.npy"
    recipes.encode_clips(model, packed)  # instead of the noise that lies there
    first, written = packed.latents[-1].copy(), path.stat().st_mtime_ns
    recipes.encode_clips(model, packed)
    assert path.stat().st_mtime_ns == written
    with torch.no_grad():
        model.vae.quant_conv.bias += 10
    recipes.encode_clips(model, packed)
    assert np.abs(packed.latents[-1] - first).max() > 0.5


@given(key=st.integers(0, KEY_FRAMES - 2), quarter=st.integers(0, 3))
def test_frames_between_are_evenly_spaced_and_end_on_their_neighbours(key, quarter):
    times = np.array(moments(key, quarter))
    for stage, apart in ((0, 1 / 4), (1, 1 / 16)):
        five = times[frames_between(np.array([key, quarter]), stage)]
        np.testing.assert_allclose(np.diff(five), apart)
    assert times[frames_between(np.array([key, quarter]), 0)][0] == key


@given(seed=st.integers(0, 200), is_forward=st.booleans())
@settings(max_examples=15)
def test_a_moving_moment_lasts_as_long_as_a_clip(seed, is_forward):
    world, options = World(seed), ClipOptions()
    begin = moving_moment(world, np.random.default_rng(seed), options, is_forward=is_forward)
    if begin is not None:
        times = begin + np.arange(KEY_FRAMES) / options.key_frame_rate
        speeds = np.array([world.road.own.speed(time) for time in times])
        assert ((speeds if is_forward else -speeds) > MOVES).all()


@pytest.mark.parametrize("kind", ["crops", "moving", "pictures", "key_frames", "between"])
def test_a_batch_depends_on_its_number_only(packed, kind):
    arguments = (
        {"batch_size": 2, "size": 16, "seed": 1}
        if kind in ("crops", "moving")
        else {"options": BatchOptions(batch_size=2)}
    )
    make = getattr(packed, kind)
    row = make(0, **arguments)
    fourth = [next(row) for _ in range(4)][3]
    again = next(make(3, **arguments))
    assert fourth.keys() == again.keys()
    assert all(torch.equal(fourth[name], again[name]) for name in again)


def test_words_and_layouts_are_dropped_as_often_as_asked(packed):
    options = BatchOptions(batch_size=600, word_dropout=0.2, layout_dropout=0.5)
    batch = next(packed.pictures(0, options))
    assert (batch["layout"][:, 2].amax(dim=(1, 2)) == 0).float().mean().item() == pytest.approx(
        0.5, abs=0.08
    )
    kept = (batch["words"] > 0).float().sum(dim=1)
    assert (kept == 0).float().mean().item() == pytest.approx(0.2, abs=0.06)
    assert kept.max() == 4


def test_the_models_fit_their_budget():
    with torch.device("meta"):
        model = build_driving()
    counts = {
        name: sum(p.numel() for p in part.parameters()) for name, part in model.named_children()
    }
    assert 5e6 < counts["unet"] < 7e6
    assert 1e6 < counts["vae"] < 3e6
    assert 2 * sum(counts.values()) < 16e6  # bytes in half precision


def test_the_command_line_knows_the_recipe():
    _, module, options, function = RECIPES["driving"]
    assert module == recipes.__name__
    assert hasattr(recipes, function)
    chosen = getattr(recipes, options)(steps=7, clips=9).recipe()
    assert {trainer.steps for trainer in chosen.trainers.values()} == {7}
    assert chosen.clips.clips == 9


def test_samples_follow_the_noise_and_the_guidance():
    model = tiny_model().eval()
    noise = torch.randn(1, 4, 8, 16)
    words = model.words.tokens(["night"])[None]
    layout = torch.zeros(1, 3, 8, 16)
    plain, again, strong = (
        model.sample(noise, words, layout, num_inference_steps=3, guidance_scale=g)
        for g in (1.0, 1.0, 4.0)
    )
    assert torch.equal(plain, again)
    assert not torch.allclose(plain, strong)


@pytest.mark.slow
def test_every_stage_beats_an_untrained_copy_on_unseen_renders(rendered, tmp_path, monkeypatch):
    monkeypatch.setattr(recipes, "CROP", 32)
    system, options = DrivingSystem(image=tiny_model()), DrivingOptions(out=rendered)
    untrained = copy.deepcopy(system.image)
    log: list[str] = []

    def run(name):
        assert recipes.run_stage(system, name, RECIPE, None, options, log.append)
        return last_row(rendered / name)

    run("autoencoder")
    held_back = PackedClips(rendered / recipes.HELD_BACK)
    whole = recipes.pictures(held_back)
    with torch.no_grad():
        psnr = [
            AutoencoderTask(m, None, whole, RECIPE.autoencoder).validate()[0]["psnr"]
            for m in (system.image, untrained)
        ]
    assert psnr[0] > psnr[1] + 2
    untrained.vae = copy.deepcopy(system.image.vae)
    run("image")
    batch = recipes.held_back_pictures(held_back)
    assert batch["latents"].std().item() == pytest.approx(1, abs=0.05)
    with torch.no_grad():
        v = [ImageTask(m, batch).validate()[0]["v"] for m in (system.image, untrained)]
    assert v[0] < 0.85 * v[1]
    assert (rendered / "image" / "grid_000050.png").exists()
    system.begin_key_frames_()
    fresh = copy.deepcopy(system)
    learned = run("key_frames")["given"]
    short = replace(RECIPE, trainers=dict.fromkeys(ALL, replace(STEPS, steps=1)))
    elsewhere = DrivingOptions(out=tmp_path)
    for part in (recipes.CLIPS, recipes.HELD_BACK):
        (tmp_path / part).symlink_to(rendered / part)
    recipes.run_stage(fresh, "key_frames", short, None, elsewhere, log.append)
    assert learned < 0.97 * last_row(tmp_path / "key_frames")["given"]
    between = run("interpolation")
    assert between["corrected"] < 0.985 * between["blend"]
    decoder = copy.deepcopy(system.begin_decoder_())
    loss = PixelLoss(RECIPE.pixels, None)
    before = DecoderTask(decoder, loss, recipes.moving(held_back), RECIPE.decoder).validate()[0]
    assert run("decoder")["l1"] < before["l1"]

    folder = export_driving(system, tmp_path / "model")
    loaded = load_driving(str(folder))
    assert all((loaded.key_frames, loaded.interpolation, loaded.decoder))
    arguments = (
        batch["latents"][:2],
        torch.tensor([3, 900]),
        batch["words"][:2],
        batch["layout"][:2],
    )
    with torch.no_grad():
        torch.testing.assert_close(
            loaded.image.predict(*arguments),
            system.image.predict(*arguments),
            atol=0.02,
            rtol=0.02,
        )
        clip = batch["latents"][None, :2]
        decoded = [s.autoencoder.decode(clip) for s in (loaded, system)]
    torch.testing.assert_close(*decoded, atol=0.02, rtol=0.02)
    report = generate(
        "night",
        tmp_path / "night.mkv",
        GenerateOptions(model=str(folder), frames=6, num_inference_steps=2),
    )
    assert report.frames == 6


def test_a_checkpoint_holds_what_the_stage_trains_alone(tmp_path):
    """So that a stage may be trained beside another, or the image model once more."""
    system = DrivingSystem(image=tiny_model())
    ldm = VideoLdm(
        system.begin_key_frames_(), system.autoencoder, system.image.words, system.image.schedule
    )
    task = DenoisingTask(ldm, [], DenoisingOptions())
    trained = {n for n, p in task.module.named_parameters() if p.requires_grad}
    assert trained == set(dict(task.module.named_parameters()))


def test_the_bundled_model_has_the_defaults_of_its_export():
    bundled = ModelFolder(find_folder("driving")).manifest
    assert bundled is not None
    assert bundled.generating == MANIFEST.generating


def test_the_bundled_model_refuses_two_labels_of_one_group():
    words = load_words(ModelFolder(find_folder("driving")))
    assert words.to_config() == build_driving().words.to_config()
    for one, other in ((group[0], group[-1]) for group in GROUPS):
        with pytest.raises(InputError, match=f"'{one}' and '{other}'"):
            words.encode(f"{one}, {other}")
    words.encode(" ".join(group[0] for group in GROUPS))


def test_batches_grow_together_for_a_gpu():
    sizes, larger = (DrivingOptions(batch_scale=k).recipe().batch_sizes for k in (1, 12))
    assert sizes == DrivingRecipe().batch_sizes
    assert larger == {name: 12 * size for name, size in sizes.items()}


def test_without_flags_key_frames_are_taught_as_before():
    recipe = DrivingOptions().recipe()
    assert recipe == DrivingRecipe()
    assert recipe.denoising == DenoisingOptions()
    assert recipe.clips.rate_factors == (1.0, 1.0)
    layers = DrivingSystem(image=tiny_model()).begin_key_frames_()
    assert not layers.options.is_told


def test_flags_reach_what_teaches_key_frames():
    flags = ["--noise-prior", "mixed", "--noise-strength", "2", "--given-shares", "0.5", "0.25"]
    flags += ["0.25", "--max-context-noise", "200", "--image-share", "0.3", "--trains-spatial"]
    flags += ["--sees-frame-rate", "--sees-noise-level"]
    recipe = parse(DrivingOptions, flags, name="train driving").recipe()
    assert recipe.denoising == DenoisingOptions(
        context=ContextOptions(none=0.5, one=0.25, two=0.25),
        prior=NoisePrior(kind="mixed", strength=2.0),
        max_context_noise=200,
        image_share=0.3,
        trains_spatial=True,
    )
    assert recipe.told == Told(sees_frame_rate=True, sees_noise_level=True)
    assert recipe.clips.rate_factors == recipe.held_back.rate_factors == (0.5, 2.0)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"noise_strength": 2.0}, "only with --noise-prior"),
        ({"noise_prior": "mixed", "noise_strength": 11.0}, "strength is not from 0 to 10"),
        ({"sees_noise_level": True}, "only with --max-context-noise"),
        ({"max_context_noise": 1000}, "max_context_noise=1000"),
        ({"image_share": 0.3}, "trains_spatial"),
        *(({"size": rows}, f"size={rows}.*use 64 or 128") for rows in (0, 48, 100, 528, -64)),
        ({"decoder_adversarial_start": 9}, "only with --decoder-adversarial-weight"),
        ({"decoder_adversarial_weight": -1.0}, "decoder_adversarial_weight=-1"),
        ({"decoder_adversarial_weight": 0.5, "steps": 100}, "counts from step 250 on"),
        ({"given_shares": (0.5, 0.5, 0.5)}, "together they are 1"),
    ],
)
def test_what_teaches_nothing_is_refused_in_one_line(options, said):
    with pytest.raises(InputError, match=said) as found:
        DrivingOptions(**options)
    assert "\n" not in str(found.value)


def test_layers_that_are_told_more_than_before_begin_as_they_were():
    system = DrivingSystem(image=tiny_model())
    before = system.begin_key_frames_()
    for parameter in before.temporal.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    clip = torch.randn(1, 3, 4, 8, 16), torch.tensor([300]), torch.randn(1, 4, 16)
    told = ClipConditions(frame_rate=torch.tensor([3.0]), noise_level=torch.tensor([40]))
    with torch.no_grad():
        made = before(*clip, conditions=told)
        now = system.begin_key_frames_(Told(sees_frame_rate=True, sees_noise_level=True))
        assert torch.equal(now(*clip, conditions=told), made)
        assert now.options.sees_frame_rate
        torch.nn.init.normal_(now.temporal[MICRO].frame_rate.linear_2.weight)
        assert not torch.allclose(now(*clip, conditions=told), made)
    assert system.begin_key_frames_(Told(sees_frame_rate=True)) is now


def test_rates_differ_where_layers_see_them_and_batches_tell_them(tmp_path):
    options = ClipOptions(clips=6, size=(16, 32), rate_factors=(0.5, 2.0))
    clips = PackedClips(pack_clips(tmp_path, options))
    assert len(set(clips.rates.tolist())) == 6
    assert clips.rates.min() >= 3.75 / 2
    assert clips.rates.max() <= 3.75 * 2
    rng = np.random.default_rng((0, 99))
    begin = float(rng.uniform(0, options.latest_seconds))
    second = World(0).frame(begin + 1 / clip_rate(options, 0), (16, 32))[0]
    assert np.array_equal(clips.frames[0, 1], second)
    np.save(tmp_path / "latents.npy", np.zeros((6, 14, 4, 4, 8), np.float16))
    batch = next(clips.key_frames(0, BatchOptions(batch_size=4)))
    assert set(batch["frame_rate"].tolist()) <= set(clips.rates.tolist())
    between = next(clips.between(0, BatchOptions(batch_size=4)))
    usual = between["frame_rate"] / 4.0 ** (between["stage"] + 1)
    assert set(usual.tolist()) <= set(clips.rates.tolist())
    (tmp_path / "rates.npy").unlink()
    assert PackedClips(tmp_path).rates.tolist() == [3.75] * 6


@pytest.fixture
def few(monkeypatch):
    """The command on tiny networks and few clips."""
    monkeypatch.setattr(recipes, "build_driving", tiny_model)
    whole = DrivingOptions.recipe

    def recipe(self):
        found = whole(self)
        fast = {"learning_rate": 1e-2, "warm_up": 1, "ema_decay": 0.5}
        return replace(
            found,
            held_back=replace(found.held_back, clips=2),
            batch_sizes=dict.fromkeys(ALL, 2),
            trainers={name: replace(t, **fast) for name, t in found.trainers.items()},
        )

    monkeypatch.setattr(DrivingOptions, "recipe", recipe)


@pytest.mark.slow
def test_what_layers_were_taught_is_exported_and_used(few, tmp_path):
    options = DrivingOptions(
        out=tmp_path / "run",
        stages=("autoencoder", "image", "key_frames", "interpolation"),
        clips=3,
        steps=5,
        noise_prior="mixed",
        max_context_noise=300,
        image_share=0.5,
        trains_spatial=True,
        sees_frame_rate=True,
        sees_noise_level=True,
    )
    folder = recipes.train_driving(options)
    manifest = ModelFolder(folder).manifest
    assert manifest.generating == replace(MANIFEST.generating, noise_prior="mixed")
    system = load_driving(str(folder))
    assert system.prior == NoisePrior(kind="mixed")
    assert system.key_frames.options.sees_frame_rate
    assert system.key_frames.options.sees_noise_level
    assert system.interpolation.options.sees_frame_rate
    weights = system.key_frames.temporal[MICRO]
    assert weights.frame_rate.linear_2.weight.abs().max() > 0
    assert weights.noise_level.linear_2.weight.abs().max() > 0
    asked = GenerateOptions(model=str(folder), frames=5, num_inference_steps=2, start="image")
    pictures = {}
    for name, change in {
        "plain": {},
        "fps": {"fps": 60.0},
        "noise": {"context_noise": 250},
    }.items():
        made = generate("", tmp_path / f"{name}.mkv", replace(asked, **change))
        assert not [n for n in made.notices if "model" in n]
        pictures[name] = pixels_of(tmp_path / f"{name}.mkv")
    assert not np.array_equal(pictures["plain"], pictures["fps"])
    assert not np.array_equal(pictures["plain"], pictures["noise"])
    with pytest.raises(InputError, match="give --sees-frame-rate too") as found:
        recipes.train_driving(DrivingOptions(out=tmp_path / "more", warm_start=str(folder)))
    assert "\n" not in str(found.value)
    assert not (tmp_path / "more").exists()
    with pytest.raises(InputError, match="--noise-prior independent, was mixed"):
        recipes.train_driving(replace(options, noise_prior="independent"))


def test_a_size_is_that_of_every_clip():
    for rows in (64, 128):
        recipe = DrivingOptions(size=rows).recipe()
        assert recipe.clips.size == recipe.held_back.size == (rows, 2 * rows)


@pytest.mark.slow
def test_a_model_of_128x256_pixels_is_trained_exported_and_used(few, tmp_path):
    options = DrivingOptions(out=tmp_path / "run", size=128, clips=2, steps=2)
    folder = recipes.train_driving(options)
    assert PackedClips(tmp_path / "run" / recipes.CLIPS).frames.shape[2:4] == (128, 256)
    manifest = ModelFolder(folder).manifest
    assert (manifest.generating.height, manifest.generating.width) == (128, 256)
    shapes = [ModelFolder(folder).config(part) for part in ("unet", "interpolation/unet", "vae")]
    assert [shape["sample_size"] for shape in shapes] == [[32, 64], [32, 64], 256]
    boxes = tmp_path / "boxes.txt"
    boxes.write_text("0.45 0.48 0.55 0.62 back\n")
    asked = GenerateOptions(model=str(folder), frames=6, num_inference_steps=2, boxes=boxes)
    generate("night", tmp_path / "out.mkv", asked)
    assert pixels_of(tmp_path / "out.mkv").shape == (6, 128, 256, 3)
    with pytest.raises(InputError, match="--size 64, was 128"):
        recipes.train_driving(replace(options, size=64))


def test_a_model_of_another_size_goes_on_at_this_one(few, tmp_path, monkeypatch):
    monkeypatch.setattr(recipes, "run_stage", lambda *_: True)
    monkeypatch.setattr(recipes, "pack_clips", lambda *_: None)
    small = export_driving(DrivingSystem(image=tiny_model()), tmp_path / "small")
    said: list[str] = []
    options = DrivingOptions(out=tmp_path / "run", size=128, warm_start=str(small))
    folder = recipes.train_driving(options, log=said.append)
    assert any("made for 64x128 pixels and goes on at 128x256" in line for line in said)
    assert load_driving(str(folder)).size == (128, 256)
    assert load_driving(str(small)).size == (64, 128)


@pytest.mark.slow
def test_the_decoder_meets_a_discriminator_of_clips_if_asked(few, rendered, tmp_path, monkeypatch):
    monkeypatch.setattr(recipes, "CROP", 32)
    for part in (recipes.CLIPS, recipes.HELD_BACK):
        (tmp_path / part).symlink_to(rendered / part)
    recipe = DrivingOptions().recipe()
    assert recipe.decoder.adversarial_weight == 0
    flags = ["--decoder-adversarial-weight", "0.5", "--decoder-adversarial-start", "1"]
    flags += ["--steps", "4", "--out", str(tmp_path)]
    options = parse(DrivingOptions, flags, name="train driving")
    system, weights = DrivingSystem(image=tiny_model()), {}
    for name in ("with", "without"):
        chosen = options if name == "with" else DrivingOptions(out=tmp_path, steps=4)
        own, recipe = copy.deepcopy(system), chosen.recipe()
        trainer = replace(recipe.trainers["decoder"], log_every=1)
        recipe = replace(recipe, trainers={**recipe.trainers, "decoder": trainer})
        assert recipes.run_stage(own, "decoder", recipe, None, chosen, lambda line: None)
        with (tmp_path / "decoder" / "log.csv").open() as file:
            assert ("opinion" in next(csv.reader(file))) is (name == "with")
        weights[name] = own.decoder.temporal["decoder/conv_out"].conv.weight
        (tmp_path / "decoder").rename(tmp_path / name)
    assert not torch.equal(*weights.values())


def test_batches_do_not_shrink_to_nothing():
    with pytest.raises(InputError, match="batch_scale=0"):
        DrivingOptions(batch_scale=0)


def test_an_array_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "latents.npy"
    array = np.arange(6, dtype=np.float16).reshape(2, 3)
    save_array(path, array.T)
    assert np.array_equal(np.load(path), array.T)
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        with pytest.raises(InputError, match=r"latents\.npy: it cannot be written"):
            save_array(path, np.zeros(100_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert np.array_equal(np.load(path), array.T)
    assert list(tmp_path.iterdir()) == [path]
