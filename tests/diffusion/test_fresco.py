"""All of FRESCO around every family of U-Nets, from the reference pass to the last step."""

from dataclasses import replace

import pytest
import torch
from clip_correspondence import random_flow, random_tokens, still_flow, still_tokens
from tiny_unets import COLS, FAMILIES, ROWS, run, spatial

from legato.diffusion.fresco import (
    FRESCO_PRESETS,
    PAPER,
    RELEASED,
    ClipCorrespondence,
    Fresco,
    reference_latents,
)
from legato.diffusion.schedule import Schedule
from legato.diffusion.step_plan import StepParts

FRAMES = 3
ALL = StepParts(
    attention=frozenset(("spatial", "cross", "temporal")), features=True, smoothing=False
)


def options(family, preset="released"):
    base = FRESCO_PRESETS[preset]
    features = replace(base.features, num_iterations=2)
    return replace(base, strides=family.strides, features=features)


def correspondence(family, *, still=False):
    tokens, flow = (still_tokens, still_flow) if still else (random_tokens, random_flow)
    counts = [(ROWS // stride) * (COLS // stride) for stride in family.strides]
    return ClipCorrespondence(
        num_frames=FRAMES,
        tokens={count: tokens(FRAMES, count) for count in counts},
        flow=flow(FRAMES, 8 * ROWS, 8 * COLS),
    )


@pytest.mark.parametrize(
    ("name", "preset"), [*((name, "released") for name in FAMILIES), ("sd1", "paper")]
)
def test_every_family_is_guided_and_left_as_it_was(name, preset):
    family = FAMILIES[name]
    model = family.build()
    plain = run(family, model)
    fresco = Fresco(spatial(model), options(family, preset), cell=1)
    with fresco.attached():
        reference = fresco.look(lambda: run(family, model))
        assert torch.equal(run(family, model), plain)  # attached, and off
        fresco.on(correspondence(family), reference, ALL)
        guided = run(family, model)
        assert torch.equal(run(family, model), guided)  # the same reference serves every call
    assert guided.isfinite().all()
    assert not torch.allclose(guided, plain, atol=1e-4)
    assert torch.equal(run(family, model), plain)


def test_the_reference_pass_is_not_guided():
    family = FAMILIES["sd1"]
    model = family.build()
    fresco = Fresco(model, options(family), cell=1)
    with fresco.attached():
        first = fresco.look(lambda: run(family, model))
        fresco.on(correspondence(family), first, ALL)
        again = fresco.look(lambda: run(family, model))
    for store in ("hidden", "features"):
        ours, theirs = getattr(first, store), getattr(again, store)
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_the_reference_is_kept_by_name_whatever_the_order_of_calls():
    family = FAMILIES["sd1"]
    model = family.build()
    fresco = Fresco(model, options(family), cell=1)
    with fresco.attached():
        reference = fresco.look(lambda: run(family, model))
        fresco.on(correspondence(family), reference, ALL)
        guided = run(family, model)
        for store in (reference.hidden, reference.features):
            for name in reversed(list(store)):
                store[name] = store.pop(name)
        assert torch.equal(run(family, model), guided)


def test_the_reference_is_a_clone():
    """FreeU scales features in place behind the capture."""
    family = FAMILIES["sd1"]
    model = family.build()
    fresco = Fresco(model, options(family), cell=1)

    def scaled():
        def scale(module, args, kwargs):
            kwargs["hidden_states"].mul_(2)

        handle = model.up_blocks[0].register_forward_pre_hook(scale, with_kwargs=True)
        run(family, model)
        handle.remove()

    plain = fresco.look(lambda: run(family, model)).features["up_blocks.0"]
    assert torch.equal(fresco.look(scaled).features["up_blocks.0"], plain)


def test_a_still_clip_of_equal_frames_stays_equal():
    """The same latents, text and noise for every frame: nothing may part them."""
    family = FAMILIES["embedded"]
    model = family.build()
    fresco = Fresco(spatial(model), options(family), cell=1)
    sample = torch.randn(1, 1, 7, ROWS, COLS).expand(-1, FRAMES, -1, -1, -1)
    arguments = family.arguments(1)

    def predict():
        with torch.no_grad(), model.disabled():
            return model(sample, **arguments)

    with fresco.attached():
        reference = fresco.look(predict)
        fresco.on(correspondence(family, still=True), reference, ALL)
        out = predict()
    torch.testing.assert_close(out, out[:, :1].expand_as(out), rtol=1e-4, atol=1e-4)


def test_the_background_of_a_clip_is_smoothed_in_its_features():
    family = FAMILIES["sd1"]
    model = family.build()
    fresco = Fresco(model, options(family), cell=1)
    shapes = []
    clip = replace(
        correspondence(family).to(torch.device("cpu")),
        background=lambda x: shapes.append(tuple(x.shape)) or x,
    )
    with fresco.attached():
        fresco.on(clip, fresco.look(lambda: run(family, model)), ALL)
        run(family, model)
    assert shapes == [(2, FRAMES, 64, 2, 3), (2, FRAMES, 64, 4, 6), (2, FRAMES, 32, 8, 12)]


def test_presets_differ_in_the_features_only():
    assert replace(PAPER, features=RELEASED.features) == RELEASED
    paper = PAPER.features
    assert (paper.learning_rate, paper.num_iterations, paper.spatial_weight) == (0.4, 20, 50.0)
    assert (paper.spatial, paper.temporal, paper.variance_offset) == ("squared", "onward", 1e-5)
    released = RELEASED.features
    assert (released.learning_rate, released.num_iterations) == (0.2, 20)
    assert (released.spatial_weight, released.temporal_weight) == (100.0, 2.0)
    assert (RELEASED.lambda_s, RELEASED.lambda_t, RELEASED.strides) == (5.0, 5.0, (8, 16))


def test_the_reference_holds_little_noise():
    schedule = Schedule(beta_start=0.00085, beta_end=0.012)
    latents, noise = torch.ones(1, 2, 4, 3, 3), torch.ones(1, 2, 4, 3, 3)
    timestep = schedule.timesteps(20)[-1]
    assert timestep == 1
    out = reference_latents(latents, noise, schedule=schedule, timestep=timestep)
    alpha, sigma = schedule.scales(1)
    torch.testing.assert_close(out, torch.full_like(out, alpha + sigma))
    assert sigma < 0.05


@pytest.mark.parametrize(
    ("attention", "features", "reads"),
    [
        ((), True, True),
        (("cross", "temporal"), True, True),
        (("spatial",), False, True),
        (("cross", "temporal"), False, False),
    ],
)
def test_what_compares_with_the_reference_pass_asks_for_it(attention, features, reads):
    family = FAMILIES["sd1"]
    fresco = Fresco(family.build(), options(family), cell=1)
    parts = StepParts(attention=frozenset(attention), features=features, smoothing=False)
    assert fresco.reads_reference(parts) == reads
