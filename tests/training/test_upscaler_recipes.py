"""The recipe at full size: what is trained, what follows from a sample's number, exact resume."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from shard_clips import small_shards
from tiny import tiny_diffusers_upscaler, tiny_upscaler_folder

from legato.errors import InputError, ModelError
from legato.models.load import load_upscaler
from legato.training import upscaler_recipes, upscaler_stages
from legato.training.shard_batches import ShardBatchOptions, ShardSamples
from legato.training.shards import Shards
from legato.training.trainer import CHECKPOINT, Clock
from legato.training.upscaler_recipes import (
    TrainUpscalerOptions,
    train_upscale_a_video,
    upscale_a_video,
)
from legato.training.upscaler_stages import (
    DecoderStage,
    DecoderStageOptions,
    Draw,
    UnetStage,
    with_temporal_layers,
)

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_diffusers_upscaler(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    root = tmp_path_factory.mktemp("shards")
    return small_shards(root, ["cat", "dog"], size=32, degrade=True)


def options_for(shards, folder, **changes):
    given = {
        "data": (shards,),
        "held_back": shards,
        "model": str(folder),
        "stages": ("unet", "decoder"),
        "steps": 2,
        "batch_size": 2,
        "frames": 2,
        "size": 32,
        "num_workers": 0,
        "latent_steps": 1,
        "adversarial_start": 1,
    }
    return TrainUpscalerOptions(**given | changes)


@pytest.fixture
def batch(shards):
    """Two samples, and each of them alone."""
    options = ShardBatchOptions(batch_size=2, frames=2, size=32, text_dropout=0.0)
    samples = [ShardSamples(Shards((shards,)), options)[n] for n in (4, 5)]

    def collate(chosen):
        return {
            "frames": torch.stack([s["frames"] for s in chosen]),
            "low_res": torch.stack([s["low_res"] for s in chosen]),
            "caption": [s["caption"] for s in chosen],
            "number": torch.tensor([s["number"] for s in chosen]),
        }

    return collate(samples), [collate([s]) for s in samples]


def model_of(folder, *, checkpointing=False):
    torch.manual_seed(0)
    return with_temporal_layers(
        load_upscaler(str(folder), CPU, torch.float32), checkpointing=checkpointing
    )


def same(a, b):
    return all(torch.equal(a[key], b[key]) for key in a)


@pytest.fixture(scope="module")
def run(folder, shards, tmp_path_factory):
    """Train with small changes to the recipe and to the options."""
    small = {
        name: replace(recipe, decoder=DecoderStageOptions(adversary_width=4))
        for name, recipe in upscale_a_video().items()
    }
    held_back = small_shards(tmp_path_factory.mktemp("held"), ["bird"], size=32, clips_per_source=1)

    def train(**changes):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(upscaler_recipes, "upscale_a_video", lambda: small)
            patch.setattr(upscaler_stages, "VALIDATION_STEPS", 1)
            options = options_for(shards, folder, held_back=held_back, **changes)
            return load_upscaler(str(train_upscale_a_video(options)), CPU, torch.float32)

    return train


@pytest.fixture(scope="module")
def trained(run, tmp_path_factory):
    """The model of an uninterrupted run."""
    return run(out=tmp_path_factory.mktemp("whole") / "run")


def test_layers_of_video_ldm_learn_too(run, tmp_path):
    made = run(out=tmp_path / "run", layers="video_ldm", stages=("unet",))
    assert made.unet.family == "video_ldm"
    last = [v for key, v in made.unet.temporal_state().items() if key.endswith("conv2.weight")]
    assert last
    assert all(value.any() for value in last)  # they begin as zeros


def test_layers_of_another_family_are_refused(trained):
    with pytest.raises(InputError, match="family upscale_a_video"):
        with_temporal_layers(trained, layers="video_ldm", checkpointing=False)


def test_an_interrupted_run_ends_with_the_same_files_to_the_bit(run, trained, tmp_path):
    decoder, models = tmp_path / "run" / "decoder" / CHECKPOINT, []
    for max_minutes in (0.0, 0.0):  # stops in the first stage, then behind it
        models.append(run(out=tmp_path / "run", max_minutes=max_minutes))
        assert not decoder.exists()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Clock, "allows", lambda clock, folder: True)
        models.append(run(out=tmp_path / "run", max_minutes=0.0))  # in the second
    assert decoder.exists()
    assert all(model.sha256 != trained.sha256 for model in models)
    assert run(out=tmp_path / "run").sha256 == trained.sha256


def test_the_exported_model_has_trained_layers_on_untouched_image_layers(trained, folder):
    base, fresh = load_upscaler(str(folder), CPU, torch.float16), model_of(folder)
    assert trained.unet.family == "upscale_a_video"
    assert trained.defaults.window == 2
    assert trained.is_temporal
    halved = {k: v.float() for k, v in base.unet.spatial.state_dict().items()}
    assert same(halved, trained.unet.spatial.state_dict())
    assert not same(fresh.unet.temporal.state_dict(), trained.unet.temporal.state_dict())
    mine, theirs = fresh.autoencoder.spatial, trained.autoencoder.spatial
    encoder = {k: v.half().float() for k, v in mine.encoder.state_dict().items()}
    assert same(encoder, theirs.encoder.state_dict())
    assert not same(mine.decoder.state_dict(), theirs.decoder.state_dict())


def test_temporal_layers_that_a_model_has_are_kept(trained):
    layers = trained.unet.temporal
    again = with_temporal_layers(trained, checkpointing=True)
    assert again.unet.temporal is layers
    assert again.autoencoder is trained.autoencoder


@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_clips_loss_and_gradient_do_not_depend_on_those_beside_it(folder, batch, checkpointing):
    together, alone = batch
    stage = UnetStage(model_of(folder, checkpointing=checkpointing), [], None, seed=3)
    generator = torch.Generator()
    layer = stage.unet.temporal["mid_block"].shift_conv.weight
    loss = stage.loss(together, generator)[0]
    (expected,) = torch.autograd.grad(loss, layer)
    parts = [stage.loss(one, generator)[0] for one in alone]
    (given,) = torch.autograd.grad(sum(parts) / 2, layer)
    torch.testing.assert_close(sum(parts) / 2, loss)
    torch.testing.assert_close(given, expected, rtol=1e-4, atol=1e-7)
    assert parts[0] != parts[1]


def test_only_temporal_layers_of_the_unet_learn(folder, batch):
    stage = UnetStage(model_of(folder, checkpointing=True), [], None, seed=0)
    stage.loss(batch[0], torch.Generator())[0].backward()
    assert all(p.grad is None for p in stage.unet.spatial.parameters())
    assert all(p.grad is None for p in stage.decoder.parameters())
    zero = [n for n, p in stage.unet.temporal.named_parameters() if p.grad is None]
    assert not zero


def test_decoder_and_adversary_learn_from_one_pass_and_only_after_its_start(folder, batch):
    def gradients(start, weight):
        stage = DecoderStage(
            model_of(folder),
            [],
            None,
            0,
            batch_size=2,
            options=DecoderStageOptions(
                latent_steps=1,
                adversarial_start=start,
                adversarial_weight=weight,
                adversary_width=4,
            ),
        )
        loss, figures = stage.loss(batch[0], torch.Generator().manual_seed(0))
        loss.backward()
        assert all(p.grad is None for p in stage.unet.parameters())
        assert all(p.grad is None for p in stage.decoder.spatial.encoder.parameters())
        last = stage.decoder.spatial.decoder.conv_out.weight.grad.clone()
        return last, [p.grad for p in stage.adversary.parameters()], figures

    before, idle, _ = gradients(3, 0.5)  # samples 4 and 5 belong to step 2
    assert all(g is None for g in idle)
    unweighted, awake, figures = gradients(2, 0.0)
    torch.testing.assert_close(unweighted, before)  # recognising is the adversary's own affair
    assert awake[0].abs().sum() > 0
    weighted, same_as_before, _ = gradients(2, 0.5)
    assert figures["weight"] > 0
    assert (weighted - before).abs().max() > 0
    for a, b in zip(awake, same_as_before, strict=True):
        torch.testing.assert_close(a, b)  # and being recognised the decoder's


def test_draws_depend_on_the_seed_and_on_the_sample_alone():
    draw = lambda numbers, seed: Draw.of(  # noqa: E731
        torch.tensor(numbers), (2, 4, 3, 3), seed=seed, num_timesteps=1000
    )
    both, alone, other = draw([7, 8], 0), draw([8], 0), draw([8], 1)
    assert torch.equal(both.noise[1:], alone.noise)
    assert not torch.equal(alone.noise, other.noise)


def test_the_papers_numbers():
    recipes = upscale_a_video()
    assert {name: r.trainer.steps for name, r in recipes.items()} == {
        "unet": 70_000,
        "refine": 10_000,
        "decoder": 20_000,
    }
    for name in ("unet", "refine"):
        assert recipes[name].trainer.learning_rate == 1e-4
        batch = recipes[name].batch
        assert (batch.batch_size, batch.frames, batch.size) == (384, 8, 320)


def test_options_change_the_recipe_and_nothing_else():
    plain = options_for(Path("a"), "model", steps=None, batch_size=None, frames=8, size=320).recipe(
        "unet"
    )
    assert plain.trainer == replace(upscale_a_video()["unet"].trainer, validate_every=500)
    assert plain.batch == upscale_a_video()["unet"].batch
    changed = options_for(Path("a"), "model", learning_rate=3e-4, batch_size=4).recipe("decoder")
    assert changed.trainer.learning_rate == 3e-4
    assert changed.batch == ShardBatchOptions(batch_size=4, frames=2, size=32, seed=2)


def test_refining_takes_its_own_clips_where_there_are_any():
    plain = options_for(Path("a"), "model")
    assert plain.sets("refine") == (Path("a"),)
    chosen = replace(plain, refine_data=(Path("b"),))
    assert [chosen.sets(name) for name in ("unet", "refine", "decoder")] == [
        (Path("a"),),
        (Path("b"),),
        (Path("a"),),
    ]


def test_crops_too_small_for_lpips_are_refused():
    with pytest.raises(InputError, match="LPIPS needs"):
        options_for(Path("a"), "model", lpips_weights=Path("b"))


@pytest.mark.parametrize("change", [{"latent_steps": 0}, {"adversarial_start": -1}])
def test_options_of_the_decoders_stage_are_looked_at_first(change):
    with pytest.raises(InputError, match="out of range"):
        options_for(Path("a"), "model", **change)


def test_shards_of_a_later_stage_are_opened_before_the_first_learns(folder, shards, tmp_path):
    (tmp_path / "sharp").mkdir()
    options = options_for(
        shards,
        folder,
        refine_data=(tmp_path / "sharp",),
        stages=("unet", "refine"),
        out=tmp_path / "run",
    )
    with pytest.raises(InputError, match=r"no clips in .*sharp"):
        train_upscale_a_video(options)
    assert not options.out.exists()


def test_the_embedded_kind_of_model_is_refused(shards, tmp_path):
    model = tiny_upscaler_folder(tmp_path / "embedded")
    with pytest.raises(ModelError, match="recipe of its own"):
        train_upscale_a_video(options_for(shards, model))
