"""Noise added to the low-resolution clip, so that its damage drowns and the model may invent."""

from jaxtyping import Float
from torch import Tensor

from legato.diffusion.schedule import Schedule


def augment(
    x: Float[Tensor, "*shape"], noise: Float[Tensor, "*shape"], *, level: int, schedule: Schedule
) -> Float[Tensor, "*shape"]:
    """Return alpha_n x + sigma_n noise: variance-preserving noise of level n.

    Ho et al. 2021, arXiv:2106.15282, section 4 (conditioning augmentation).

    Args:
        x: clip in [-1, 1].
        noise: standard normal.
        level: timestep of `schedule`; also the class label that tells the network.
        schedule: that of the low-resolution clip.
    """
    alpha, sigma = schedule.scales(level)
    return alpha * x + sigma * noise
