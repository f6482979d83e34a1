"""The denoising loop: exact answers for networks whose answers are known."""

from dataclasses import replace

import pytest
import torch
from tiny import TEXT_WIDTH, tiny_video_unet

from legato.diffusion.anchors import Anchors, Recorder
from legato.diffusion.denoiser import Conditions, Denoiser, Step, denoise
from legato.diffusion.latent_propagation import LatentPropagation
from legato.diffusion.schedule import Schedule
from legato.pipelines.tiles import plan_tiles
from legato.pipelines.windows import Grid, plan_segment_windows

SCHEDULE = Schedule(timestep_spacing="trailing", steps_offset=0, set_alpha_to_one=True)
TEXT = torch.zeros(1, 2, 3)


class KnownAnswer:
    """Predicts v as a network would that knows the clean latents: text + low-resolution clip."""

    def __init__(self):
        self.calls = []

    def __call__(self, sample, timestep, encoder_hidden_states, class_labels):
        self.calls.append((tuple(sample.shape), int(timestep[0]), class_labels))
        z, low_res = sample[:, :, :4], sample[:, :, 4:]
        alpha, sigma = SCHEDULE.scales(int(timestep[0]))
        x0 = low_res.mean(dim=2, keepdim=True) + encoder_hidden_states.mean()
        return (alpha * z - x0) / sigma  # z = alpha x0 + sigma eps, v = alpha eps - sigma x0


def clip(num_frames=11, rows=16, cols=24):
    return torch.randn(1, num_frames, 3, rows, cols)


def denoiser(low_res, *, tile=0, window=8, **changes):
    values = {
        "network": KnownAnswer(),
        "conditions": Conditions(prompt=TEXT, low_res=low_res, noise_level=20),
        "windows": plan_segment_windows(
            0,
            low_res.shape[1],
            Grid(size=window, overlap=2),
            needed=(0, low_res.shape[1]),
            ends=True,
        ),
        "tiles": plan_tiles(*low_res.shape[-2:], tile=tile, multiple=8),
    }
    return Denoiser(**(values | changes))


def noise_for(low_res):
    return torch.randn(1, low_res.shape[1], 4, *low_res.shape[-2:])


@pytest.mark.parametrize("steps", [1, 2, 5])
@pytest.mark.parametrize("tile", [0, 16])
def test_a_network_that_knows_the_answer_finds_it(steps, tile):
    low_res = clip()
    out = denoise(
        denoiser(low_res, tile=tile),
        noise_for(low_res),
        schedule=SCHEDULE,
        timesteps=SCHEDULE.timesteps(steps),
    )
    expected = low_res.mean(dim=2, keepdim=True).expand_as(out)
    torch.testing.assert_close(out, expected, atol=1e-4, rtol=1e-4)


def test_only_first_predictions_that_reach_past_a_frame_are_kept():
    low_res, kept = clip(20, 8, 8), {}
    denoise(
        denoiser(low_res, kept=kept, keep_after=8),
        noise_for(low_res),
        schedule=SCHEDULE,
        timesteps=SCHEDULE.timesteps(2),
    )
    assert list(kept) == [(6, 14, "prompt"), (12, 20, "prompt")]


@pytest.mark.slow
def test_a_thousand_steps_work():
    low_res = clip(1, 8, 8)
    out = denoise(
        denoiser(low_res),
        noise_for(low_res),
        schedule=SCHEDULE,
        timesteps=SCHEDULE.timesteps(1000),
    )
    torch.testing.assert_close(
        out, low_res.mean(dim=2, keepdim=True).expand_as(out), atol=1e-3, rtol=1e-3
    )


def test_the_network_is_told_timestep_and_noise_level_and_sees_windows():
    low_res, network = clip(11), KnownAnswer()
    denoise(
        denoiser(low_res, network=network),
        noise_for(low_res),
        schedule=SCHEDULE,
        timesteps=[999, 499],
    )
    assert [shape for shape, _, _ in network.calls] == [(1, 8, 7, 16, 24)] * 4
    assert [timestep for _, timestep, _ in network.calls] == [999, 999, 499, 499]
    assert all(labels.tolist() == [20] for _, _, labels in network.calls)


def test_guidance_extrapolates_the_predictions():
    """x_0 is linear in the text: 0 for the negative prompt, 1 for the prompt, so g for scale g."""
    low_res = torch.zeros(1, 3, 3, 8, 8)
    conditions = Conditions(
        prompt=torch.ones(1, 2, 3),
        negative_prompt=TEXT,
        low_res=low_res,
        noise_level=20,
        guidance_scale=3.0,
    )
    out = denoise(
        denoiser(low_res, conditions=conditions),
        noise_for(low_res),
        schedule=SCHEDULE,
        timesteps=[999],
    )
    torch.testing.assert_close(out, torch.full_like(out, 3.0), atol=1e-3, rtol=0)


def test_guidance_in_one_batch_gives_what_two_calls_give():
    """Of a real network whose norms span the clip; what is kept is the same too."""
    low_res, texts = clip(5, 8, 8), torch.randn(2, 1, 5, TEXT_WIDTH)
    conditions = Conditions(
        prompt=texts[0],
        negative_prompt=texts[1],
        low_res=low_res,
        noise_level=20,
        guidance_scale=3.0,
    )
    z, outs, sizes = noise_for(low_res), [], []
    network = tiny_video_unet("upscale_a_video")
    network.register_forward_pre_hook(lambda module, args: sizes.append(len(args[0])))
    for batches in (False, True):
        guided = denoiser(
            low_res, network=network, conditions=conditions, window=4, batches_guidance=batches
        )
        out = denoise(guided, z, schedule=SCHEDULE, timesteps=[999, 499])
        outs.append(guided.kept | {"out": out})
    torch.testing.assert_close(*outs, rtol=0, atol=1e-4)
    calls = len(sizes) * 2 // 3
    assert sizes == [1] * calls + [2] * (calls // 2)


def test_a_branch_that_is_known_is_not_batched():
    low_res, network = clip(8), KnownAnswer()
    conditions = Conditions(
        prompt=TEXT, negative_prompt=TEXT + 1, low_res=low_res, noise_level=20, guidance_scale=2.0
    )
    first = denoiser(low_res, conditions=conditions)
    z = noise_for(low_res)
    out = denoise(first, z, schedule=SCHEDULE, timesteps=[999])
    again = denoiser(
        low_res,
        network=network,
        conditions=conditions,
        batches_guidance=True,
        kept={key: value for key, value in first.kept.items() if key[2] == "prompt"},
    )
    torch.testing.assert_close(denoise(again, z, schedule=SCHEDULE, timesteps=[999]), out)
    assert [shape[0] for shape, _, _ in network.calls] == [1]


def test_scale_one_predicts_once():
    low_res, network = clip(3), KnownAnswer()
    denoise(
        denoiser(low_res, network=network), noise_for(low_res), schedule=SCHEDULE, timesteps=[999]
    )
    assert len(network.calls) == 1


@pytest.mark.parametrize(
    ("temporal", "passes"), [((None, None), 1), ((TEXT, TEXT), 1), ((TEXT, TEXT + 1), 2)]
)
def test_guidance_between_equal_texts_costs_nothing(temporal, passes):
    """Layers over time may read other texts, which count as well."""
    conditions = Conditions(
        prompt=TEXT,
        negative_prompt=TEXT.clone(),
        temporal_prompt=temporal[0],
        temporal_negative_prompt=temporal[1],
        guidance_scale=3.0,
    )
    assert len(conditions.links) == passes


def test_equal_texts_give_what_the_text_alone_gives():
    low_res, network = clip(3), KnownAnswer()
    alone = Conditions(prompt=TEXT, low_res=low_res, noise_level=20)
    guided = replace(alone, negative_prompt=TEXT, guidance_scale=3.0)
    z = noise_for(low_res)
    out, expected = (
        denoise(
            denoiser(low_res, network=network, conditions=conditions),
            z,
            schedule=SCHEDULE,
            timesteps=[999, 499],
        )
        for conditions in (guided, alone)
    )
    assert torch.equal(out, expected)
    assert len(network.calls) == 4


def test_edits_change_x0_in_turn_and_leave_eps():
    low_res, schedule = clip(2, 8, 8), Schedule()
    z = noise_for(low_res)
    edits = (lambda step, x0: x0 + 1, lambda step, x0: 2 * x0)
    plain, edited = (
        denoise(denoiser(low_res), z, schedule=schedule, timesteps=[500], hooks=(hooks, ()))
        for hooks in ((), edits)
    )
    alpha, sigma = schedule.scales(None)
    x0 = denoise(
        denoiser(low_res),
        z,
        schedule=Schedule(set_alpha_to_one=True),
        timesteps=[500],
    )
    eps = (plain - alpha * x0) / sigma
    torch.testing.assert_close(edited, alpha * 2 * (x0 + 1) + sigma * eps, atol=1e-4, rtol=1e-4)


def test_first_predictions_that_are_kept_are_not_computed_again():
    low_res, z = clip(14), None
    z = noise_for(low_res)
    first = denoiser(low_res)
    out = denoise(first, z, schedule=SCHEDULE, timesteps=[999, 499])
    network = KnownAnswer()
    again = denoiser(low_res, network=network, kept=dict(first.kept))
    assert torch.equal(denoise(again, z, schedule=SCHEDULE, timesteps=[999, 499]), out)
    assert {timestep for _, timestep, _ in network.calls} == {499}


def test_progress_is_told_of_every_window_and_branch():
    low_res, ticks = clip(11), []
    texts = {"prompt": TEXT, "negative_prompt": TEXT + 1}
    conditions = Conditions(**texts, low_res=low_res, guidance_scale=2.0)
    denoise(
        denoiser(low_res, conditions=conditions, on_window=lambda: ticks.append(1)),
        noise_for(low_res),
        schedule=SCHEDULE,
        timesteps=[999, 499, 199],
    )
    assert len(ticks) == 2 * 2 * 3


def test_anchors_and_recorder_repeat_an_earlier_path():
    low_res = clip(6, 8, 8)
    z, timesteps = noise_for(low_res), SCHEDULE.timesteps(4)
    recorder = Recorder(stop=4, num_anchors=2, seed_steps=(1,))
    denoise(denoiser(low_res), z, schedule=SCHEDULE, timesteps=timesteps, hooks=((), (recorder,)))
    assert sorted(recorder.latents) == [0, 1, 2]
    assert recorder.seeds[1].shape == (1, 4, 8, 8)
    seen = []
    anchors = Anchors(stop=2, latents=recorder.latents)
    denoise(
        denoiser(low_res[:, 2:]),
        z[:, 2:] + 1,  # another path, were it not for the anchors
        schedule=SCHEDULE,
        timesteps=timesteps,
        hooks=((), (anchors, lambda step, x0, z: seen.append(z[:, :2]) or z)),
    )
    for step in range(3):
        assert torch.equal(seen[step], recorder.latents[step])


def test_propagation_acts_at_its_steps_only():
    x0 = torch.rand(1, 4, 2, 6, 6)
    flow = torch.zeros(3, 2, 6, 6)
    edit = LatentPropagation(flow_forward=flow, flow_backward=flow, steps=(2,))
    assert edit(Step(index=1, num_steps=4, timestep=5), x0) is x0
    changed = edit(Step(index=2, num_steps=4, timestep=5), x0)
    assert not torch.equal(changed, x0)
    assert changed.var(dim=1).mean() < x0.var(dim=1).mean()


def test_the_global_generator_is_left_alone():
    low_res = clip(2, 8, 8)
    z, before = noise_for(low_res), torch.get_rng_state()
    denoise(denoiser(low_res), z, schedule=SCHEDULE, timesteps=[999])
    assert torch.equal(torch.get_rng_state(), before)


def test_no_step_is_kept_for_gradients():
    """A temporal norm asks for one wherever gradients are on: clips of 16 steps took 9 GB."""
    low_res = clip(num_frames=3)
    answer = KnownAnswer()
    grads = []

    def network(*args):
        grads.append(torch.is_grad_enabled())
        return answer(*args)

    with torch.enable_grad():
        denoise(
            denoiser(low_res, network=network),
            noise_for(low_res).requires_grad_(),
            schedule=SCHEDULE,
            timesteps=SCHEDULE.timesteps(2),
        )
    assert grads == [False, False]
