"""What a network predicts, and how it becomes an estimate of the clean latents and of the noise.

z = alpha x_0 + sigma eps with alpha^2 + sigma^2 = 1; v = alpha eps - sigma x_0
(Salimans and Ho 2022, arXiv:2202.00512, section 4).
"""

from jaxtyping import Float
from torch import Tensor

from legato.diffusion.schedule import PredictionType


def prediction_of(
    x0: Float[Tensor, "*shape"],
    eps: Float[Tensor, "*shape"],
    *,
    scales: tuple[Float[Tensor, "*#shape"], Float[Tensor, "*#shape"]],
    prediction_type: PredictionType,
) -> Float[Tensor, "*shape"]:
    """Return what a network should have predicted: the target of its training.

    Args:
        x0: the clean latents.
        eps: the noise that was mixed with them.
        scales: (alpha, sigma), one for every clip or one for all.
        prediction_type: what the output means.
    """
    alpha, sigma = scales
    if prediction_type == "v_prediction":
        return alpha * eps - sigma * x0
    return eps if prediction_type == "epsilon" else x0


def x0_from(
    prediction: Float[Tensor, "*shape"],
    z: Float[Tensor, "*shape"],
    *,
    scales: tuple[float, float],
    prediction_type: PredictionType,
) -> Float[Tensor, "*shape"]:
    """Return the estimate of the clean latents.

    Args:
        prediction: the network's output.
        z: the noisy latents it saw.
        scales: (alpha, sigma) at that timestep.
        prediction_type: what the output means: v, epsilon or x_0 (`sample`).
    """
    alpha, sigma = scales
    if prediction_type == "v_prediction":
        return (alpha * z).sub_(prediction, alpha=sigma)  # clips are large: no third copy
    if prediction_type == "epsilon":
        return (z - sigma * prediction) / max(alpha, 1e-4)
    return prediction


def eps_from(
    prediction: Float[Tensor, "*shape"],
    z: Float[Tensor, "*shape"],
    *,
    scales: tuple[float, float],
    prediction_type: PredictionType,
) -> Float[Tensor, "*shape"]:
    """Return the estimate of the noise in z; arguments as in `x0_from`."""
    alpha, sigma = scales
    if prediction_type == "v_prediction":
        return (alpha * prediction).add_(z, alpha=sigma)
    if prediction_type == "epsilon":
        return prediction
    return (z - alpha * prediction) / max(sigma, 1e-4)


def ddim_step(
    x0: Float[Tensor, "*shape"], eps: Float[Tensor, "*shape"], *, scales: tuple[float, float]
) -> Float[Tensor, "*shape"]:
    """Return the latents at the next timestep: alpha' x_0 + sigma' eps.

    DDIM with eta = 0 (Song et al. 2021, arXiv:2010.02502, eq. 12). x_0 may have been edited since
    it was estimated; eps stays the network's.

    Args:
        x0: clean estimate.
        eps: noise estimate; not looked at where sigma' is 0.
        scales: (alpha', sigma') at the next timestep.
    """
    alpha, sigma = scales
    return alpha * x0 + sigma * eps if sigma else alpha * x0
