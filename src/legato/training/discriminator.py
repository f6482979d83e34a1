"""A patch discriminator over frames or clips, and the losses that it gives an autoencoder.

Isola et al. 2017, arXiv:1611.07004, section 3.2.2; hinge loss and adaptive weight as in VQGAN
(Esser et al. 2021, arXiv:2012.09841, eq. 7).
"""

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call

from legato.models.temporal_conv import ClipConv

LARGEST_WEIGHT = 1e4


class PatchDiscriminator(nn.Module):
    """Scores of overlapping patches: high where it takes them for real.

    Args:
        dims: 2 for frames `B 3 H W`, 3 for clips `B 3 T H W`, whose time is never reduced.
        width: channels of the first layer; each next one has twice as many, at most 4 times.
        num_layers: layers that halve rows and columns.
    """

    def __init__(self, dims: Literal[2, 3] = 2, *, width: int = 32, num_layers: int = 2) -> None:
        super().__init__()

        def conv(inputs: int, outputs: int, stride: int) -> nn.Module:
            if dims == 2:
                return nn.Conv2d(inputs, outputs, 4, stride, 1)
            return ClipConv(inputs, outputs, (3, 4, 4), (1, stride, stride), 1)

        layers: list[nn.Module] = []
        channels = 3
        for k in range(num_layers + 1):
            wider, stride = width * min(1 << k, 4), 2 if k < num_layers else 1
            layers.append(conv(channels, wider, stride))
            if k:
                layers.append(nn.GroupNorm(8, wider))
            layers.append(nn.LeakyReLU(0.2))
            channels = wider
        layers.append(conv(channels, 1, 1))
        self.layers = nn.Sequential(*layers)

    def forward(self, pictures: Float[Tensor, "B 3 *size"]) -> Float[Tensor, "B 1 *patches"]:
        """Return the score of every patch of pictures in [-1, 1]."""
        scores: Tensor = self.layers(pictures)
        return scores


def discriminator_loss(
    discriminator: PatchDiscriminator,
    real: Float[Tensor, "B 3 *size"],
    made: Float[Tensor, "B 3 *size"],
) -> Float[Tensor, ""]:
    """Return the hinge loss that teaches the discriminator; nothing flows back into `made`."""
    scores = discriminator(real), discriminator(made.detach())
    return 0.5 * (F.relu(1 - scores[0]).mean() + F.relu(1 + scores[1]).mean())


def deception_loss(
    discriminator: PatchDiscriminator, made: Float[Tensor, "B 3 *size"]
) -> Float[Tensor, ""]:
    """Return minus the mean score of made pictures; the discriminator itself gets no gradient."""
    frozen = {name: p.detach() for name, p in discriminator.named_parameters()}
    scores: Tensor = functional_call(discriminator, frozen, (made,))
    return -scores.mean()


def adaptive_weight(
    reconstruction: Float[Tensor, ""], deception: Float[Tensor, ""], last_layer: Tensor
) -> Float[Tensor, ""]:
    """Return |d reconstruction / d w| / (|d deception / d w| + 1e-4) of the last layer's w."""
    (a,) = torch.autograd.grad(reconstruction, last_layer, retain_graph=True)
    (b,) = torch.autograd.grad(deception, last_layer, retain_graph=True)
    weight: Tensor = (a.norm() / (b.norm() + 1e-4)).clamp(0, LARGEST_WEIGHT)
    return weight.detach()
