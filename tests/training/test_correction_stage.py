"""Corrections of a blend: exact where nothing is wrong, and learned on what they have not seen."""

import pytest
import torch
from tiny import SCHEDULER, TEXT_WIDTH, tiny_temporal_decoder
from tiny_generator import LABELS, tiny_generator_unet

from legato.diffusion.context import every_fourth, linear_blend
from legato.diffusion.noise import INDEPENDENT
from legato.diffusion.schedule import Schedule
from legato.models.micro_conditioning import ClipConditions
from legato.models.text import WordEncoder
from legato.pipelines.clip_sampler import ClipSampler, Given
from legato.training.correction_stage import CorrectionOptions, CorrectionTask
from legato.training.generator_stages import VideoLdm

ENDS_WITHOUT_SIGNAL = {
    **SCHEDULER,
    "prediction_type": "v_prediction",
    "timestep_spacing": "trailing",
    "rescale_betas_zero_snr": True,
}


def waves(seed, clips=6):
    """Latents that move evenly: between two of them their blend is too weak."""
    draw = torch.Generator().manual_seed(seed)
    phase = 6.28 * torch.rand(clips, 1, 4, 1, 1, generator=draw)
    time = torch.arange(5)[None, :, None, None, None] * 0.6
    place = torch.arange(8) * 0.8
    return {
        "latents": (place + phase + time).sin().expand(-1, -1, -1, 8, -1).contiguous(),
        "words": torch.zeros(clips, 8, dtype=torch.long),
        "stage": torch.zeros(clips, dtype=torch.long),
    }


@pytest.fixture
def system():
    torch.manual_seed(0)
    unet = tiny_generator_unet(sees_stage=True, sees_frame_rate=False)
    words = WordEncoder(TEXT_WIDTH, LABELS)
    schedule = Schedule.from_config(ENDS_WITHOUT_SIGNAL)
    return VideoLdm(unet, tiny_temporal_decoder(), words, schedule)


def silence_(system):
    for parameter in system.unet.spatial.conv_out.parameters():
        torch.nn.init.zeros_(parameter)


def test_a_network_that_says_nothing_leaves_the_blend(system):
    silence_(system)
    batch = waves(0)
    task = CorrectionTask(system, [batch], CorrectionOptions())
    blend = linear_blend(batch["latents"])
    assert torch.equal(task.corrected(batch, batch["latents"]), blend)
    assert torch.equal(blend[:, [0, -1]], batch["latents"][:, [0, -1]])


def test_it_learns_what_sampling_does(system):
    batch = waves(1, clips=2)
    latents = batch["latents"]
    with torch.no_grad():
        learned = CorrectionTask(system, [], CorrectionOptions()).corrected(batch, latents)
        text = system.words(batch["words"][:1])
        sampler = ClipSampler(
            schedule=system.schedule,
            num_inference_steps=1,
            solver="ddim",
            prompt=text,
            negative_prompt=text,
            guidance_scale=1.0,
            prior=INDEPENDENT,
            seed=0,
            device=torch.device("cpu"),
            dtype=torch.float32,
        )
        mask = every_fourth(5)
        unknown = torch.where(mask[:, None, None, None], latents, torch.nan)
        given = Given(
            latents=unknown,
            mask=mask,
            ticks=[range(5), range(5)],
            purpose="interpolation 0",
            start="blend",
        )
        told = ClipConditions(stage=torch.tensor(0), noise_level=torch.tensor(0))
        made = sampler(system.unet, given, told=told)
    torch.testing.assert_close(made, learned, atol=1e-5, rtol=1e-5)
    assert torch.equal(made[:, mask], latents[:, mask])
    assert not torch.allclose(made[:, 1:-1], linear_blend(latents)[:, 1:-1], atol=0.01)


def test_a_learned_correction_is_nearer_than_the_blend_on_unseen_clips(system):
    silence_(system)
    held_back = [waves(100)]
    task = CorrectionTask(system, held_back, CorrectionOptions())
    parameters = [p for p in task.module.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(parameters, lr=5e-4)
    generator = torch.Generator().manual_seed(0)
    for seed in range(40):
        optimizer.zero_grad()
        loss, figures = task.loss(waves(seed), generator)
        loss.backward()
        optimizer.step()
    assert set(figures) == {"latents", "pixels"}
    with torch.no_grad():
        errors, picture = task.validate()
        latents = held_back[0]["latents"]
        off = [
            (clip - latents).abs().mean()
            for clip in (task.corrected(held_back[0], latents), linear_blend(latents))
        ]
    assert off[0] < 0.85 * off[1]
    assert errors["corrected"] < 0.7 * errors["blend"]
    assert picture.shape[0] == 3
