"""Feature optimisation: what must not move, what must, and that memory stays bounded."""

from dataclasses import replace

import pytest
import torch
from clip_correspondence import random_flow, still_flow
from draws import draw
from hypothesis import given, settings
from hypothesis import strategies as st
from live_bytes import LiveBytes
from tiny_unets import FAMILIES, run, spatial
from torch._subclasses import FakeTensorMode

from legato.diffusion.feature_losses import (
    gram_l1,
    gram_squared,
    temporal_both_ways,
    temporal_onward,
    unit,
)
from legato.diffusion.feature_optimisation import (
    PAPER_FEATURES,
    RELEASED_FEATURES,
    FeatureOptimisation,
    moved_features,
    optimise_features,
    with_statistics,
)
from legato.flow.correspondence import CyclicMotion
from legato.models.attention_sites import decoder_blocks
from legato.models.reference import captured

FRAMES, CHANNELS, SIDE = 3, 16, 8
PRESETS = {"released": RELEASED_FEATURES, "paper": PAPER_FEATURES}


@pytest.fixture
def features():
    return draw(2, FRAMES, CHANNELS, SIDE, SIDE)


@pytest.fixture
def flow():
    return random_flow(FRAMES, 8 * SIDE, 8 * SIDE)


def moved(features, *, flow=None, target=None, options=RELEASED_FEATURES):
    return moved_features(features, flow=flow, target=target, options=options)


def dense_gram(x):
    return x @ x.mT


@settings(max_examples=20)
@given(frames=st.integers(1, 3), count=st.integers(1, 40), width=st.integers(1, 20))
def test_the_losses_on_similarities_are_the_dense_ones(frames, count, width):
    x, y = (
        unit(draw(frames, width, count, 1, seed=seed)).double().requires_grad_() for seed in (1, 2)
    )
    difference = dense_gram(x) - dense_gram(y)
    for loss, dense in (
        (gram_l1(x, y.detach()), difference.abs().mean()),
        (gram_squared(x, y.detach()), difference.square().sum()),
    ):
        torch.testing.assert_close(loss, dense)
        ours, theirs = (torch.autograd.grad(z, x, retain_graph=True)[0] for z in (loss, dense))
        torch.testing.assert_close(ours, theirs)


def test_similarities_are_computed_a_few_rows_at_a_time(monkeypatch, features):
    x, y = unit(features[0]), unit(features[1])
    whole = gram_l1(x, y)
    monkeypatch.setattr("legato.diffusion.feature_losses.SIMILARITIES_AT_A_TIME", 7 * SIDE**2)
    torch.testing.assert_close(gram_l1(x, y), whole)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("occluded", [False, True])
def test_what_already_agrees_does_not_move(preset, occluded):
    """Identical frames without motion, or all occluded, with their own similarities."""
    frames = 1 if not occluded else FRAMES
    x = draw(2, frames, CHANNELS, SIDE, SIDE).expand(2, FRAMES, CHANNELS, SIDE, SIDE)
    flow = still_flow(FRAMES, 64, 64, occluded=occluded)
    out = moved(x, flow=flow, target=x, options=PRESETS[preset])
    assert (out - x).abs().max() < 2e-5


@pytest.mark.parametrize("preset", PRESETS)
def test_no_element_moves_farther_than_the_rate_at_the_first_step(preset, features, flow):
    options = replace(PRESETS[preset], num_iterations=1)
    out = moved(features, flow=flow, target=draw(*features.shape, seed=1), options=options)
    assert (out - features).abs().max() <= options.learning_rate * (1 + 1e-5)


def test_the_temporal_loss_falls_to_a_fifth(features, flow):
    near = flow.resized((SIDE, SIDE))
    out = moved(features, flow=flow)
    before, after = (temporal_both_ways(x[0], near) for x in (features, out))
    assert after < before / 5


def test_the_spatial_loss_falls_towards_foreign_similarities(features):
    target = draw(*features.shape, seed=1)
    out = moved(features, target=target)
    before, after = (gram_l1(unit(x[0]), unit(target[0])) for x in (features, out))
    assert after < before / 2


def test_without_either_constraint_the_features_themselves_come_back(features, flow):
    assert optimise_features(features, flow=None, target=None) is features


def test_a_single_frame_has_no_temporal_loss(features):
    one = features[:, :1]
    assert optimise_features(one, flow=still_flow(1, 64, 64), target=None) is one


def test_halves_do_not_mix(features, flow):
    target = draw(*features.shape, seed=1)
    other = features.clone()
    other[1] = draw(*features[1].shape, seed=5)
    ours, theirs = (moved(x, flow=flow, target=target) for x in (features, other))
    assert torch.equal(ours[0], theirs[0])


def test_own_statistics_come_back(features, flow):
    out = optimise_features(features, flow=flow, target=None, options=PAPER_FEATURES)
    for ours, theirs in zip(
        torch.var_mean(out, dim=(-2, -1)), torch.var_mean(features, dim=(-2, -1)), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_the_released_transfer_widens_by_one_in_variance(features):
    out = with_statistics(features * 3 + 1, features, variance_offset=1.0)
    torch.testing.assert_close(
        out.var(dim=(-2, -1)), features.var(dim=(-2, -1)) + 1, rtol=1e-4, atol=1e-4
    )


def test_a_single_position_has_no_spread_but_a_mean():
    x = draw(1, FRAMES, CHANNELS, 1, 1)
    out = optimise_features(x, flow=still_flow(FRAMES, 8, 8), target=None)
    torch.testing.assert_close(out, x)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_it_works_where_gradients_are_off(mode, features, flow):
    with mode():
        inside = optimise_features(features * 1, flow=flow, target=features * 2)
    assert not inside.requires_grad
    torch.testing.assert_close(
        inside.clone(), optimise_features(features, flow=flow, target=features * 2)
    )


def test_the_precision_of_the_features_is_kept(features, flow):
    assert optimise_features(features.bfloat16(), flow=flow, target=None).dtype == torch.bfloat16


def test_one_direction_and_no_return_to_the_first_frame_in_the_paper(features):
    near = still_flow(FRAMES, SIDE, SIDE)
    f = features[0]
    torch.testing.assert_close(temporal_onward(f, near), (f[1:] - f[:-1]).abs().sum())
    cyclic = 2 * (f.roll(-1, dims=0) - f).abs().mean()
    torch.testing.assert_close(temporal_both_ways(f, near), cyclic)


@settings(max_examples=15)
@given(rows=st.integers(1, 9), cols=st.integers(1, 9))
def test_flow_keeps_its_meaning_at_any_size(rows, cols):
    ones = torch.ones(2, 2, 16, 24)
    spot = torch.zeros(2, 16, 24, dtype=torch.bool)
    spot[:, 5, 7] = True
    motion = CyclicMotion(
        flow_forward=3 * ones, flow_backward=ones, occluded_forward=spot, occluded_backward=spot
    )
    near = motion.resized((rows, cols))
    torch.testing.assert_close(near.flow_forward[:, 0], torch.full((2, rows, cols), 3 * cols / 24))
    torch.testing.assert_close(near.flow_forward[:, 1], torch.full((2, rows, cols), 3 * rows / 16))
    assert near.occluded_forward.any(dim=(1, 2)).all()


@pytest.mark.parametrize("family", ["sd1", "unconditional"])  # by keyword, by position
def test_hooks_optimise_and_come_off(family):
    family = FAMILIES[family]
    model = family.build()
    unet = spatial(model)
    with captured(unet, []) as reference:
        plain = run(family, model)
    assert list(reference.features) == list(decoder_blocks(unet))
    options = replace(RELEASED_FEATURES, num_iterations=2)
    owner = FeatureOptimisation(options=options, flow=random_flow(3, 64, 96), reference=reference)
    undo = owner.attach(unet)
    assert torch.equal(run(family, model), plain)
    owner.num_frames = 3
    assert not torch.allclose(run(family, model), plain, atol=1e-4)
    undo()
    assert torch.equal(run(family, model), plain)


def peak_of(compute):
    with FakeTensorMode(), LiveBytes() as live:
        compute()
    return live.peak


def test_at_full_size_the_peak_is_a_quarter_of_the_dense_formulation():
    """512x512, 8 frames, two halves, the finest decoder block: 640 channels at 64 x 64."""

    def ours(loss):
        f = torch.empty(8, 4096, 640).requires_grad_()  # halves one after another
        loss(f, torch.empty(8, 4096, 640)).backward()

    def dense():
        f = torch.empty(16, 4096, 640).requires_grad_()
        target = torch.empty(16, 4096, 4096)
        (dense_gram(f) - target).abs().mean().backward()

    limit = peak_of(dense) / 4
    assert 0 < peak_of(lambda: ours(gram_l1)) <= limit
    assert 0 < peak_of(lambda: ours(gram_squared)) <= limit
