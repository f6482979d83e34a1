"""All figures of a clip at once, tables of them, and bars that they must reach."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from numpy import ndarray

from legato.errors import ModelError
from legato.evaluation.fidelity import perceptual, psnr, ssim
from legato.evaluation.lattice import lattice_energy, lattice_ratio
from legato.evaluation.lpips import PerceptualDistance, load_lpips
from legato.evaluation.steadiness import correspondences, flicker, warping_error
from legato.evaluation.vmaf import VmafMeter


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """What was measured of one clip, or the mean over several."""

    psnr: float
    """dB on RGB; higher is better."""
    ssim: float
    """On luma; 1 is identical."""
    lpips: float | None
    """SqueezeNet; lower is better; None where no weights are at hand."""
    lattice: float
    """Lattice energy over the truth's; 1 is clean."""
    warping: float
    """Warping error times 1000; lower is steadier."""
    flicker: float
    """Change of brightness that the truth does not have, 8-bit units."""
    vmaf: float | None = None
    """0 to 100; higher is better; None where it was not asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """A limit that a figure must keep."""

    name: str
    value: float
    limit: float
    at_least: bool = False
    """Whether the value must not be below the limit; otherwise it must not be above."""

    @property
    def passed(self) -> bool:
        """Whether the limit is kept."""
        return self.value >= self.limit if self.at_least else self.value <= self.limit

    def __str__(self) -> str:
        sign = ">=" if self.at_least else "<="
        verdict = "pass" if self.passed else "FAIL"
        return f"{verdict}  {self.name}: {self.value:.3f} (must be {sign} {self.limit:.3f})"


class Judge:
    """Compares clips with one ground truth, whose motion and lattice are measured once.

    Args:
        truth: the clean clip.
        distance: for LPIPS; None leaves its column empty.
        vmaf: the program from `find_vmaf`; None leaves its column empty.
    """

    def __init__(
        self,
        truth: UInt8[ndarray, "T H W 3"],
        distance: PerceptualDistance | None,
        vmaf: Path | None = None,
    ) -> None:
        self.truth, self.distance, self._vmaf_program = truth, distance, vmaf
        self._pairs = correspondences(truth)
        self._lattice = lattice_energy(truth)

    def __call__(self, clip: UInt8[ndarray, "T H W 3"]) -> Scores:
        """Return the figures of a clip of the truth's size and length.

        Raises:
            InputError: it has another size or length.
        """
        return Scores(
            psnr=psnr(clip, self.truth),
            ssim=ssim(clip, self.truth),
            lpips=None if self.distance is None else perceptual(clip, self.truth, self.distance),
            lattice=lattice_ratio(lattice_energy(clip), self._lattice),
            warping=warping_error(clip, self._pairs),
            flicker=flicker(clip, self.truth),
            vmaf=None if self._vmaf_program is None else self._vmaf(clip, self._vmaf_program),
        )

    def _vmaf(self, clip: UInt8[ndarray, "T H W 3"], program: Path) -> float:
        with VmafMeter(program) as meter:
            for picture, truth in zip(clip, self.truth, strict=True):
                meter.add(picture, truth)
            return float(np.mean(meter.scores()))


def find_distance(weights: Path | None) -> tuple[PerceptualDistance | None, str]:
    """Return LPIPS, or None and the reason why its column will be missing.

    Args:
        weights: see `load_lpips`.

    Raises:
        ModelError: a file was named, but cannot be used.
    """
    try:
        return load_lpips(weights), ""
    except ModelError as error:
        if weights is not None:
            raise
        return None, f"no LPIPS: {error.why}; {error.fix}"


def mean_scores(scores: Sequence[Scores]) -> Scores:
    """Return the mean of each figure over clips; a figure that one clip lacks is left out."""
    means: dict[str, float | None] = {}
    for field in fields(Scores):
        values = [getattr(each, field.name) for each in scores]
        means[field.name] = None if None in values else float(np.mean(values))
    return Scores(**means)  # type: ignore[arg-type]  # only lpips and vmaf can be None


def table(rows: Mapping[str, Scores], baseline: str) -> str:
    """Return a Markdown table, the warping error also relative to the baseline's row."""
    lines = [
        "| | PSNR dB | SSIM | LPIPS | VMAF | lattice | warping x1000 | relative | flicker |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    unit = max(rows[baseline].warping, 1e-9)
    for name, s in rows.items():
        lpips = "-" if s.lpips is None else f"{s.lpips:.3f}"
        vmaf = "-" if s.vmaf is None else f"{s.vmaf:.1f}"
        lines.append(
            f"| {name} | {s.psnr:.2f} | {s.ssim:.3f} | {lpips} | {vmaf} | {s.lattice:.2f} "
            f"| {s.warping:.2f} | {s.warping / unit:.2f} | {s.flicker:.2f} |"
        )
    return "\n".join(lines)


def to_json(rows: Mapping[str, Scores]) -> dict[str, dict[str, float | None]]:
    """Return plain values of named scores."""
    return {name: asdict(scores) for name, scores in rows.items()}
