"""Stages of a generating model: what learns, what stays, and that it is learned."""

import copy

import pytest
import torch
from tiny import NARROW, TEXT_WIDTH, randomise_, tiny_autoencoder_kl, tiny_unet
from tiny_generator import LABELS

from legato.diffusion.schedule import Schedule
from legato.errors import InputError
from legato.models.decoder import TemporalDecoder, TemporalDecoderOptions
from legato.models.inflate import inflate
from legato.models.text import WordEncoder
from legato.training.generator_stages import (
    DecoderOptions,
    DecoderTask,
    DenoisingOptions,
    DenoisingTask,
    VideoLdm,
)
from legato.training.losses import PixelLoss, PixelLossWeights
from legato.training.trainer import TrainerOptions, train

SCHEDULE = Schedule(prediction_type="v_prediction")


def system(**options):
    unet = inflate(
        tiny_unet(
            **NARROW,
            in_channels=4,
            num_class_embeds=None,
            down_block_types=("DownBlock2D",) * 2,
            up_block_types=("UpBlock2D",) * 2,
            mid_block_type=None,
        ),
        "video_ldm",
        **({"context_channels": 5} | options),
    )
    decoder = TemporalDecoder(tiny_autoencoder_kl(), TemporalDecoderOptions())
    return VideoLdm(unet, decoder, WordEncoder(TEXT_WIDTH, LABELS), SCHEDULE)


def moving_latents(seed, clips=8, num_frames=5, size=8):
    """A soft blob per clip that moves evenly, one direction each, as four channels."""
    generator = torch.Generator().manual_seed(seed)
    place, speed = (torch.rand(2, clips, 1, 2, generator=generator)).unbind()
    at = place * size + (speed - 0.5) * 3 * torch.arange(num_frames)[None, :, None]
    axis = torch.arange(size)
    far = [(axis - a[..., None] + size / 2) % size - size / 2 for a in at.unbind(-1)]
    blob = torch.exp(-(far[0][..., :, None] ** 2 + far[1][..., None, :] ** 2) / 3)
    signs = torch.tensor([1.0, -1.0, 0.5, -0.5]).view(1, 1, 4, 1, 1)
    return signs * (4 * blob[:, :, None] - 1)


def batches(first):
    step = first
    while True:
        yield batch(step)
        step += 1


def batch(seed, **kind):
    return {"latents": moving_latents(seed, **kind), "words": torch.zeros(8, 2, dtype=torch.long)}


def figures(task):
    with torch.no_grad():
        return task.validate()[0]


@pytest.mark.slow
def test_temporal_layers_that_learned_beat_fresh_ones_on_held_back_clips(tmp_path):
    fresh = system()
    held_back = [batch(10**6)]
    options = TrainerOptions(steps=80, learning_rate=6e-3, validate_every=10**6, log_every=10**6)
    (tmp_path / "image").mkdir()
    (tmp_path / "time").mkdir()
    fresh.unet.enabled = False  # the image model learns single frames first
    everything = DenoisingOptions(trains_spatial=True)
    train(DenoisingTask(fresh, held_back, everything), batches, options, folder=tmp_path / "image")
    fresh.unet.enabled = True
    learned = copy.deepcopy(fresh)
    task = DenoisingTask(learned, held_back, DenoisingOptions())
    train(task, batches, options, folder=tmp_path / "time")
    before, after = (
        figures(DenoisingTask(s, held_back, DenoisingOptions())) for s in (fresh, learned)
    )
    assert after["alone"] < 0.98 * before["alone"]
    assert after["given"] < 0.9 * before["given"]
    for mine, theirs in zip(
        learned.unet.spatial.parameters(), fresh.unet.spatial.parameters(), strict=True
    ):
        assert torch.equal(mine, theirs)


@pytest.mark.parametrize("stage", ["key_frames", "interpolation"])
@pytest.mark.parametrize("trains_spatial", [False, True])
def test_a_stage_trains_what_it_says(stage, trains_spatial):
    ldm = system(sees_stage=True, sees_noise_level=True)
    options = DenoisingOptions(stage=stage, trains_spatial=trains_spatial, max_context_noise=100)
    task = DenoisingTask(ldm, [], options)
    randomise_(ldm.unet.temporal)
    told = batch(1) | {"stage": torch.ones(8, dtype=torch.long)}
    loss, said = task.loss(told, torch.Generator().manual_seed(0))
    loss.backward()
    assert loss.isfinite()
    assert said["given"] == (2.0 if stage == "interpolation" else said["given"])
    silent = [n for n, p in ldm.unet.temporal.named_parameters() if p.grad is None]
    assert not [name for name in silent if "frame_rate" not in name]
    assert any(p.grad is not None for p in ldm.unet.spatial.parameters()) is trains_spatial
    assert all(p.grad is None for p in ldm.autoencoder.parameters())


def test_the_decoder_starts_as_the_image_decoder_and_the_encoder_stays():
    """Fact sheet Video LDM, I16."""
    ldm = system()
    frames = torch.randint(0, 256, (1, 4, 3, 16, 16), dtype=torch.uint8)
    latents = ldm.latents({"frames": frames})
    image = ldm.autoencoder.spatial
    with torch.no_grad():
        flat = (latents[0] / image.config.scaling_factor).contiguous(
            memory_format=torch.channels_last
        )
        assert torch.equal(ldm.autoencoder.decode(latents)[0], image.decode(flat).sample)
    task = DecoderTask(ldm.autoencoder, PixelLoss(PixelLossWeights(), None), [], DecoderOptions())
    optimizer = torch.optim.AdamW([p for p in task.module.parameters() if p.requires_grad], lr=1e-2)
    loss, _ = task.loss({"frames": frames}, torch.Generator().manual_seed(0))
    loss.backward()
    optimizer.step()
    assert torch.equal(ldm.latents({"frames": frames}), latents)
    assert not torch.equal(ldm.autoencoder.decode(latents)[0], image.decode(flat).sample)
    assert int(task.module.steps) == 1


@pytest.mark.parametrize("trains_spatial", [True, False])
def test_the_discriminator_counts_from_its_start_on_and_only_through_clips(trains_spatial):
    ldm = system()
    options = DecoderOptions(adversarial_start=1, trains_spatial=trains_spatial)
    task = DecoderTask(ldm.autoencoder, PixelLoss(PixelLossWeights(), None), [], options)
    frames = {"frames": torch.randint(0, 256, (1, 4, 3, 32, 32), dtype=torch.uint8)}
    losses = [task.loss(frames, torch.Generator().manual_seed(0))[0] for _ in range(2)]
    assert losses[0] != losses[1]
    losses[1].backward()
    assert all(p.grad is not None for p in task.discriminator.parameters())
    decoder = ldm.autoencoder.spatial.decoder
    assert any(p.grad is not None for p in decoder.parameters()) is trains_spatial


def test_the_decoder_learns_from_latents_under_noise_of_every_frames_own(monkeypatch):
    ldm = system()
    frames = {
        "frames": torch.randint(0, 256, (1, 3, 3, 16, 16), dtype=torch.uint8).expand(
            8, -1, -1, -1, -1
        )
    }
    exact, seen = ldm.latents(frames), []
    decode = ldm.autoencoder.decode
    monkeypatch.setattr(ldm.autoencoder, "decode", lambda z: (seen.append(z), decode(z))[1])
    options = DecoderOptions(latent_noise=0.5, adversarial_weight=0.0)
    task = DecoderTask(ldm.autoencoder, PixelLoss(PixelLossWeights(), None), [frames], options)
    task.loss(frames, torch.Generator().manual_seed(0))
    noise = seen.pop() - exact
    deviations = noise.std(dim=(1, 2, 3, 4))
    assert 0 < deviations.min() < 0.25 < deviations.max() < 0.6  # one for each clip, from 0 to most
    assert not torch.allclose(noise[:, 0], noise[:, 1])
    task.validate()
    assert torch.equal(seen[0], seen[1])  # with the layers and without
    assert (seen[0] - exact).std() == pytest.approx(0.25, rel=0.1)


def test_validation_of_the_decoder_tells_flicker_and_error():
    ldm = system()
    frames = {"frames": torch.randint(0, 256, (1, 4, 3, 16, 16), dtype=torch.uint8)}
    task = DecoderTask(
        ldm.autoencoder, PixelLoss(PixelLossWeights(), None), [frames], DecoderOptions()
    )
    said, grid = task.validate()
    assert said["flicker"] == said["flicker_frame_by_frame"] > 0  # fresh layers add nothing
    assert grid.shape == (3, 16, 32)


def test_clips_that_are_images_teach_the_image_model_alone():
    ldm = system()
    randomise_(ldm.unet.temporal)
    options = DenoisingOptions(trains_spatial=True, image_share=0.999)
    task = DenoisingTask(ldm, [], options)
    loss, said = task.loss(batch(1), torch.Generator().manual_seed(0))
    loss.backward()
    assert said["given"] == 0
    moved = [p.grad.abs().max() for p in ldm.unet.temporal.parameters() if p.grad is not None]
    assert not any(moved)
    assert all(p.grad is not None for p in ldm.unet.spatial.parameters())
    with ldm.unet.disabled(), torch.no_grad():
        alone, _ = task.loss(batch(1), torch.Generator().manual_seed(0))
    torch.testing.assert_close(alone, loss.detach())


@pytest.mark.parametrize(
    ("values", "said"), [({"image_share": 1.0}, "some must"), ({"image_share": 0.3}, "frozen")]
)
def test_single_images_are_for_an_image_model_that_learns(values, said):
    with pytest.raises(InputError, match=said):
        DenoisingOptions(**values)
