"""The discriminator sees time, and model and adversary can learn from one backward pass."""

import pytest
import torch
from torch import nn

from legato.training.discriminator import ClipDiscriminator, adaptive_weight, hinge_loss


@pytest.fixture
def adversary():
    return ClipDiscriminator(8)


@torch.no_grad()
def test_every_frame_has_logits_that_see_its_neighbours(adversary):
    clips = torch.rand(1, 12, 3, 64, 64)
    changed = clips.clone()
    changed[0, 11] += 1
    logits = adversary(clips)
    assert logits.shape == (1, 1, 12, 6, 6)
    bare = nn.Sequential(*(x for x in adversary.layers if not isinstance(x, nn.GroupNorm)))
    moved = (bare(changed.transpose(1, 2)) - bare(clips.transpose(1, 2))).abs().amax((0, 1, 3, 4))
    assert (moved[:6] == 0).all()
    assert (moved[6:] > 0).all()


def test_judging_reaches_the_clips_but_not_the_adversary(adversary):
    clips = torch.rand(1, 2, 3, 32, 32, requires_grad=True)
    judged = adversary.judge(clips)
    assert torch.equal(judged, adversary(clips))
    judged.sum().backward()
    assert clips.grad.abs().sum() > 0
    assert all(p.grad is None for p in adversary.parameters())


def test_the_hinge_is_zero_beyond_the_margin_and_one_at_the_boundary():
    assert hinge_loss(torch.tensor([2.0, 1.0]), torch.tensor([-1.5, -1.0])) == 0
    assert hinge_loss(torch.zeros(3), torch.zeros(3)) == 1
    assert hinge_loss(torch.tensor([-1.0]), torch.tensor([-1.0])) == 1


def test_the_adaptive_weight_is_the_ratio_of_the_gradients_at_the_last_layer():
    last = nn.Parameter(torch.tensor([3.0, 4.0]))
    weight = adaptive_weight((last * 2).sum(), (last * last).sum() / 2, last)
    torch.testing.assert_close(weight, torch.tensor(8**0.5 / (5 + 1e-4)))
    assert not weight.requires_grad
    none = nn.Parameter(torch.zeros(1))
    assert adaptive_weight((none * 9).sum(), (none * none).sum(), none) == 1e4
