"""Autoencoder and discriminator learn in one step, and neither's loss reaches the other."""

import pytest
import torch

from legato.training.discriminator import (
    PatchDiscriminator,
    adaptive_weight,
    deception_loss,
    discriminator_loss,
)


@pytest.mark.parametrize(("dims", "shape"), [(2, (2, 3, 32, 48)), (3, (2, 3, 5, 32, 48))])
def test_scores_are_a_map_over_space_and_keep_time(dims, shape):
    scores = PatchDiscriminator(dims, width=8)(torch.randn(shape))
    assert scores.shape[:2] == (2, 1)
    assert scores.shape[-2:] == (6, 10)
    assert dims == 2 or scores.shape[2] == 5


def test_a_patch_sees_only_its_surroundings():
    network = PatchDiscriminator(width=8, num_layers=1)
    network.layers = torch.nn.Sequential(
        *(layer for layer in network.layers if not isinstance(layer, torch.nn.GroupNorm))
    )
    picture = torch.randn(1, 3, 64, 64, requires_grad=True)
    network(picture)[..., 0, 0].sum().backward()
    assert picture.grad[..., 20:, 20:].abs().max() == 0


def test_neither_loss_reaches_the_other_network():
    network = PatchDiscriminator(width=8)
    made, real = torch.randn(2, 3, 32, 32, requires_grad=True), torch.randn(2, 3, 32, 32)
    deception_loss(network, made).backward()
    assert made.grad.abs().sum() > 0
    assert all(p.grad is None for p in network.parameters())
    made.grad = None
    discriminator_loss(network, real, made).backward()
    assert made.grad is None
    assert all(p.grad is not None for p in network.parameters())


def test_hinge_loss_stops_where_both_are_told_apart():
    class Sure(PatchDiscriminator):
        def forward(self, pictures):
            return pictures[:, :1] * 5

    real, made = torch.ones(1, 3, 4, 4), -torch.ones(1, 3, 4, 4)
    assert discriminator_loss(Sure(width=8), real, made) == 0
    assert discriminator_loss(Sure(width=8), made, real) == 6


def test_the_adaptive_weight_is_the_ratio_of_gradients():
    w = torch.tensor([3.0], requires_grad=True)
    weight = adaptive_weight((6 * w).sum(), (2 * w).sum(), w)
    assert weight.item() == pytest.approx(3, rel=1e-3)
    assert not weight.requires_grad
