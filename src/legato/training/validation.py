"""Figures and pictures of held-back clips: what a stage's results look like to the user."""

from collections.abc import Callable

import torch
from einops import rearrange
from jaxtyping import Float, UInt8
from numpy import ndarray
from torch import Tensor, nn

from legato.evaluation.fidelity import psnr
from legato.evaluation.lattice import lattice_energy
from legato.evaluation.lpips import PerceptualDistance
from legato.training.batches import unit_range
from legato.training.losses import warping_loss
from legato.training.trainer import Batch


def measured(
    upscale: Callable[[Batch], Tensor], held_back: list[Batch], distance: PerceptualDistance | None
) -> tuple[dict[str, float], Float[Tensor, "3 H W"]]:
    """Compare results with the truth and with bicubic; the grid shows input, result, truth."""
    rows: list[Tensor] = []
    values: dict[str, list[float]] = {
        k: [] for k in ("psnr", "gain", "lpips", "lattice", "warping")
    }
    for given in held_back:
        clip = upscale(given).float().cpu().clamp(-1, 1)
        batch = {k: v.cpu() for k, v in given.items() if isinstance(v, Tensor)}
        truth, low_res = flat(unit_range(batch["frames"])), flat(unit_range(batch["low_res"]))
        result = flat(clip)
        bicubic = nn.functional.interpolate(low_res, scale_factor=4, mode="bicubic").clamp(-1, 1)
        stored, true, enlarged = (_as_stored(x) for x in (result, truth, bicubic))
        values["psnr"].append(psnr(stored, true))
        values["gain"].append(values["psnr"][-1] - psnr(enlarged, true))
        values["lattice"].append(lattice_energy(stored) / max(1.0, lattice_energy(true)))
        if distance is not None:
            values["lpips"].append(distance(result, truth).mean().item())
        if "flow" in batch:
            error = warping_loss(clip, batch["flow"], batch["visible"])
            small = rearrange(bicubic, "(b t) c h w -> b t c h w", b=clip.shape[0])
            base = warping_loss(small, batch["flow"], batch["visible"])
            values["warping"].append((error / base).item())
        rows.append(torch.cat([bicubic[0], result[0], truth[0]], dim=2))
    figures = {k: sum(v) / len(v) for k, v in values.items() if v}
    return figures, torch.cat(rows[:8], dim=1)


def _as_stored(frames: Float[Tensor, "T 3 H W"]) -> UInt8[ndarray, "T H W 3"]:
    eight_bit = ((frames.cpu() + 1) * 127.5).round().byte()
    return eight_bit.permute(0, 2, 3, 1).numpy()


def flat(clip: Float[Tensor, "B T C H W"]) -> Float[Tensor, "B*T C H W"]:
    """Return the frames of all clips one after another."""
    return rearrange(clip, "b t c h w -> (b t) c h w")
