"""Networks that judge a picture by itself, through the optional package pyiqa.

MUSIQ (Ke et al. 2021, arXiv:2108.05997) and CLIP-IQA (Wang et al. 2022, arXiv:2207.12396); pyiqa
fetches their weights at first use.
"""

from collections.abc import Callable

import torch
from jaxtyping import UInt8
from numpy import ndarray

from legato.errors import ResourceError, first_sentence
from legato.torchvision_operators import declare_missing

PictureJudge = Callable[[UInt8[ndarray, "H W 3"]], float]


def load_judge(name: str, device: torch.device) -> PictureJudge:
    """Return what judges pictures.

    Args:
        name: one of `evaluate_options.JUDGES`.
        device: where to compute.

    Raises:
        ResourceError: pyiqa is not installed, or cannot fetch the weights.
    """
    declare_missing()
    try:
        import pyiqa
    except (ImportError, RuntimeError) as error:
        raise ResourceError(
            f"iqa={name!r}",
            why=f"the package pyiqa cannot be imported ({error})",
            fix="pip install pyiqa, or leave it out",
        ) from error
    try:
        network = pyiqa.create_metric(name, device=device)
    except Exception as error:  # whatever its downloads raise
        raise ResourceError(
            f"iqa={name!r}",
            why=f"pyiqa cannot load it ({first_sentence(error)})",
            fix="go online once, or leave it out",
        ) from error

    @torch.no_grad()
    def judge(picture: UInt8[ndarray, "H W 3"]) -> float:
        values = torch.from_numpy(picture.copy()).permute(2, 0, 1)[None].float() / 255
        return float(network(values.to(device)))

    return judge
