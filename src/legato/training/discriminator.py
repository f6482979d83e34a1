"""The adversary of a decoder: a patch discriminator that sees space and time, and its losses.

The recipe is that of latent diffusion's autoencoders (Esser et al. 2021, arXiv:2012.09841, section
3.1; Blattmann et al. 2023, arXiv:2304.08818, section 3.1.1 for the discriminator of 3-D
convolutions). Widths and strides along time are ours: the paper does not give them.
"""

from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from legato.models.temporal_conv import num_groups

LARGEST_WEIGHT = 1e4
KERNEL, PADDING = (3, 4, 4), (1, 1, 1)


class ClipDiscriminator(nn.Module):
    """PatchGAN (Isola et al. 2017, arXiv:1611.07004) of 3-D convolutions: one logit per patch.

    Every frame has logits of its own; they see `num_halvings + 2` frames before and after it.

    Args:
        width: channels of the first layer; each halving of the picture doubles them, up to 8 times.
        num_halvings: strided layers; 3 give patches of 70 pixels.
    """

    def __init__(self, width: int = 64, num_halvings: int = 3) -> None:
        super().__init__()
        widths = [width * min(2**k, 8) for k in range(num_halvings + 1)]
        layers: list[nn.Module] = [_halving(3, width), nn.LeakyReLU(0.2)]
        for index, (narrow, wide) in enumerate(pairwise(widths), start=1):
            layers.append(_halving(narrow, wide) if index < num_halvings else _conv(narrow, wide))
            layers += [nn.GroupNorm(num_groups(wide), wide), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers, _conv(widths[-1], 1))

    def forward(self, clips: Float[Tensor, "B T 3 H W"]) -> Float[Tensor, "B 1 T h w"]:
        """Return logits: above 0 taken for real, below 0 for made."""
        logits: Tensor = self.layers(clips.transpose(1, 2))
        return logits

    def judge(self, clips: Float[Tensor, "B T 3 H W"]) -> Float[Tensor, "B 1 T h w"]:
        """Return logits whose gradient reaches the clips but not this network's parameters."""
        fixed = {name: value.detach() for name, value in self.named_parameters()}
        logits: Tensor = torch.func.functional_call(self, fixed, (clips,))
        return logits


def hinge_loss(real: Float[Tensor, "*shape"], made: Float[Tensor, "*shape"]) -> Float[Tensor, ""]:
    """Return what the discriminator minimises: mean of (max(0, 1 - real) + max(0, 1 + made)) / 2.

    Lim and Ye 2017, arXiv:1705.02894, equation 3.
    """
    return 0.5 * (F.relu(1 - real).mean() + F.relu(1 + made).mean())


def adaptive_weight(
    reconstruction: Float[Tensor, ""], adversarial: Float[Tensor, ""], last: nn.Parameter
) -> Float[Tensor, ""]:
    """Return |d reconstruction / d last| / (|d adversarial / d last| + 1e-4), at most 10^4.

    It keeps both losses equally strong at the decoder's last layer (arXiv:2012.09841, equation 7).

    Args:
        reconstruction: L1 and perceptual loss.
        adversarial: the loss of having been recognised.
        last: weight of the decoder's last layer.
    """
    norms = [
        torch.autograd.grad(loss, last, retain_graph=True)[0].float().norm()
        for loss in (reconstruction, adversarial)
    ]
    weight: Tensor = norms[0] / (norms[1] + 1e-4)
    return weight.clamp(0, LARGEST_WEIGHT).detach()


def _halving(narrow: int, wide: int) -> nn.Conv3d:
    return nn.Conv3d(narrow, wide, KERNEL, stride=(1, 2, 2), padding=PADDING)


def _conv(narrow: int, wide: int) -> nn.Conv3d:
    return nn.Conv3d(narrow, wide, KERNEL, padding=PADDING)
