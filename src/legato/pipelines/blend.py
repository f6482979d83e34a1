"""Merge two versions of a frame, carried over from the key frame before and the one behind it.

"Forward" is carried from the earlier key frame, "backward" from the later one. Jamriska et al.
2019, Stylizing Video by Example, as FRESCO and Rerender-A-Video use it; pictures are in Lab on the
scale of 8 bits (see `lab`).
"""

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray

RELEASED_STEEPEST = 100.0
"""Levels of 255 between neighbouring pixels that the released code still follows."""
GRADIENT_WEIGHTS = (2.5, 0.5, 0.5)
"""How much gradients of L, a and b count against the values themselves."""
_LEAST_TRUST = 1e-4  # where neither version can be trusted, nearness still decides
_FLAT = 1e-6  # deviation of one flat colour, instead of 0


@dataclass(frozen=True, slots=True)
class Version:
    """A key frame's look carried to another frame, and how little it can be trusted."""

    lab: Float[ndarray, "H W 3"]
    error: Float[ndarray, "H W"]
    """0 where it is perfect; trust is exp(-error)."""


def merge(
    forward: Version,
    backward: Version,
    nearness: float,
    before: tuple[Bool[ndarray, "H W"], Float[ndarray, "H W 2"]] | None,
) -> tuple[Float[ndarray, "H W 3"], Bool[ndarray, "H W"]]:
    """Return both versions as one picture in Lab, and where the backward one was selected.

    Args:
        forward: version from the earlier key frame.
        backward: version from the later one.
        nearness: of the later key frame in time, between 0 and 1.
        before: the selection of the frame before, and the flow to it; None: there is none.
    """
    selection = select(forward.error, backward.error, nearness)
    if before is not None:
        selection = join_previous(selection, *before)
    forward_weight = (1 - nearness) * (np.exp(-forward.error) + _LEAST_TRUST)
    backward_weight = nearness * (np.exp(-backward.error) + _LEAST_TRUST)
    share = backward_weight / (forward_weight + backward_weight)
    blended = blend_statistics(forward.lab, backward.lab, share)
    return blend_gradients(forward.lab, backward.lab, selection, blended), selection


def select(
    error_forward: Float[ndarray, "H W"],
    error_backward: Float[ndarray, "H W"],
    weight_backward: float,
) -> Bool[ndarray, "H W"]:
    """Return True where the backward version is the better one by itself.

    False where w_b e_f < (1 - w_b) e_b.

    Args:
        error_forward: how little a pixel can be trusted, 0 or more.
        error_backward: likewise.
        weight_backward: 0 at the earlier key frame, where nothing is True, to 1 at the later one.
    """
    if weight_backward == 0:
        return np.zeros(error_forward.shape, dtype=bool)
    return ~(weight_backward * error_forward < (1 - weight_backward) * error_backward)


def join_previous(
    selection: Bool[ndarray, "H W"],
    previous: Bool[ndarray, "H W"],
    flow: Float[ndarray, "H W 2"],
) -> Bool[ndarray, "H W"]:
    """Return the selection with all that was already backward in the frame before.

    What has changed over stays so: no region switches to and fro on its way.

    Args:
        selection: of this frame.
        previous: joined selection of the frame before.
        flow: from this frame to the frame before, pixels.
    """
    rows, cols = selection.shape
    place = flow.astype(np.float32)
    place[..., 0] += np.arange(cols, dtype=np.float32)
    place[..., 1] += np.arange(rows, dtype=np.float32)[:, None]
    moved = cv2.remap(previous.astype(np.uint8), place, None, cv2.INTER_NEAREST)
    return np.asarray(selection | (moved > 0))


@dataclass(frozen=True, slots=True)
class Statistics:
    """Mean and (population) deviation of each channel of a picture."""

    mean: Float[ndarray, "3"]
    deviation: Float[ndarray, "3"]

    @classmethod
    def of(cls, lab: Float[ndarray, "H W 3"]) -> "Statistics":
        """Measure a picture."""
        mean, deviation = cv2.meanStdDev(np.asarray(lab, np.float32))
        return cls(mean[:, 0].astype(np.float32), deviation[:, 0].astype(np.float32))

    def mixed(self, other: "Statistics", share: float) -> "Statistics":
        """Return statistics between these and another picture's, by the other's share."""
        return Statistics(
            (1 - share) * self.mean + share * other.mean,
            (1 - share) * self.deviation + share * other.deviation,
        )

    def normalise(self, lab: Float[ndarray, "H W 3"]) -> Float[ndarray, "H W 3"]:
        """Give a picture of these statistics mean 0 and deviation 1."""
        scale = 1 / np.maximum(self.deviation, _FLAT)
        return _scaled(lab, scale, -self.mean * scale)

    def impose(self, normalised: Float[ndarray, "H W 3"]) -> Float[ndarray, "H W 3"]:
        """Give a picture of mean 0 and deviation 1 these statistics."""
        return _scaled(normalised, self.deviation, self.mean)


def _scaled(
    x: Float[ndarray, "H W 3"], scale: Float[ndarray, "3"], shift: Float[ndarray, "3"]
) -> Float[ndarray, "H W 3"]:
    # several times as fast as broadcasting over three channels
    matrix = np.concatenate((np.diag(scale), shift[:, None]), axis=1)
    return np.asarray(cv2.transform(np.asarray(x, np.float32), matrix))


def blend_statistics(
    forward: Float[ndarray, "H W 3"],
    backward: Float[ndarray, "H W 3"],
    weight_backward: float | Float[ndarray, "H W"],
    target: Statistics | None = None,
) -> Float[ndarray, "H W 3"]:
    """Mix both versions without the loss of contrast that mixing brings.

    Each version is normalised per channel, they are mixed, and the mixture gets the target's mean
    and deviation.

    Differs: the target is by default between the statistics of both versions. The released code
    takes those of the min-error picture, which jump where everything changes over at once.

    Args:
        forward: version from the earlier key frame.
        backward: version from the later one.
        weight_backward: 0 to 1, for the frame or by pixel.
        target: what the mixture is given.
    """
    share = np.full(forward.shape[:2], weight_backward, np.float32)
    statistics = Statistics.of(forward), Statistics.of(backward)
    versions = statistics[0].normalise(forward), statistics[1].normalise(backward)
    mixed = np.asarray(cv2.blendLinear(*versions, 1 - share, share))
    target = target or statistics[0].mixed(statistics[1], float(share.mean()))
    return target.impose(Statistics.of(mixed).normalise(mixed))


def blend_gradients(
    forward: Float[ndarray, "H W 3"],
    backward: Float[ndarray, "H W 3"],
    selection: Bool[ndarray, "H W"],
    blended: Float[ndarray, "H W 3"],
    *,
    steepest: float = np.inf,
) -> Float[ndarray, "H W 3"]:
    """Give the blended picture the detail of the selected version, without seams.

    Per channel the x that minimises g^2 |D x - d|^2 + |x - u|^2: u the blended picture, D first
    differences without a border, d those of the selected version. With Neumann borders D^T D is
    diagonal in the cosine domain, so (1 + g^2 D^T D) x = u + g^2 D^T d is solved exactly (screened
    Poisson; Bhat et al. 2008).

    Differs: the released code clips d at 100 levels, which blurs the outlines of drawn styles.

    Args:
        forward: version from the earlier key frame.
        backward: version from the later one.
        selection: True takes the backward version's gradient, to the next pixel right and below.
        blended: from `blend_statistics`.
        steepest: d is clipped to this, either way.
    """
    rows, cols = selection.shape
    # OpenCV's transform takes even sides only; a repeated border has no gradient to disturb
    chosen = _even(selection)
    channels = zip(*(cv2.split(_even(x)) for x in (forward, backward, blended)), strict=True)
    merged = []
    for weight, (ahead, behind, u) in zip(GRADIENT_WEIGHTS, channels, strict=True):
        wanted = u + weight**2 * _pull(ahead, behind, chosen, steepest)
        spectrum = 1 + weight**2 * _laplacian(*chosen.shape)
        merged.append(cv2.idct(cv2.dct(wanted.astype(np.float32)) / spectrum))
    return np.asarray(cv2.merge(merged)[:rows, :cols])


def _pull(
    forward: Float[ndarray, "H W"],
    backward: Float[ndarray, "H W"],
    selection: Bool[ndarray, "H W"],
    steepest: float,
) -> Float[ndarray, "H W"]:
    """Return D^T d of one channel."""
    pull = np.zeros(selection.shape, np.float32)
    for axis in (0, 1):
        first = (slice(None),) * axis + (slice(None, -1),)
        second = (slice(None),) * axis + (slice(1, None),)
        steps = forward[first] - forward[second], backward[first] - backward[second]
        d = np.where(selection[first], steps[1], steps[0]).clip(-steepest, steepest)
        pull[first] += d
        pull[second] -= d
    return pull


def _even(x: ndarray) -> ndarray:
    """Repeat the last row or column where there is an odd number."""
    beyond = [(0, side % 2) for side in x.shape[:2]] + [(0, 0)] * (x.ndim - 2)
    return np.pad(x, beyond, mode="edge") if any(map(any, beyond)) else x


@lru_cache(maxsize=2)
def _laplacian(rows: int, cols: int) -> Float[ndarray, "H W"]:
    """Return the eigenvalues of D^T D in the cosine domain."""
    y, x = (2 - 2 * np.cos(np.pi * np.arange(side) / side) for side in (rows, cols))
    return np.asarray(y[:, None] + x, np.float32)
