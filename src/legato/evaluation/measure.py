"""Every figure of one clip, frame by frame: at most two frames of it are in memory."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import UInt8
from numpy import ndarray

from legato.errors import InputError
from legato.evaluation.clip_figures import ContentFigures
from legato.evaluation.clips import Picture
from legato.evaluation.fidelity import perceptual, psnr, ssim
from legato.evaluation.flicker_spectrum import FlickerSpectrum
from legato.evaluation.lattice import LatticeMeter, lattice_ratio
from legato.evaluation.lpips import PerceptualDistance
from legato.evaluation.niqe import NaturalModel
from legato.evaluation.picture_judges import PictureJudge
from legato.evaluation.registration import Registration, global_shift
from legato.evaluation.steadiness import (
    PairMotion,
    block_luma,
    correspondences,
    flicker,
    flow_difference,
    own_flicker,
    warping_error,
)
from legato.evaluation.vmaf import VmafMeter
from legato.flow.estimate import FlowEstimator
from legato.models.clip_similarity import ClipSimilarity

MIN_SIDE_PX = 32
_NUM_FIRST, _EVERY = 8, 8  # frames whose shift is measured


@dataclass(frozen=True, slots=True)
class Figure:
    """How a figure is called and shown."""

    title: str
    better: Literal["higher", "lower"]
    decimals: int


WITH_REFERENCE = {
    "shift": Figure("shift px", "lower", 2),
    "psnr": Figure("PSNR dB", "higher", 2),
    "psnr_y": Figure("PSNR-Y dB", "higher", 2),
    "ssim": Figure("SSIM", "higher", 4),
    "ssim_y": Figure("SSIM-Y", "higher", 4),
    "lpips": Figure("LPIPS", "lower", 4),
    "dists": Figure("DISTS", "lower", 4),
    "vmaf": Figure("VMAF", "higher", 2),
    "warping": Figure("warping x1000", "lower", 2),
    "warping_raft": Figure("warping (RAFT) x1000", "lower", 2),
    "pixel_mse": Figure("Pixel-MSE x1000", "lower", 2),
    "tof": Figure("tOF px", "lower", 3),
    "lattice": Figure("lattice", "lower", 2),
    "flicker": Figure("flicker", "lower", 3),
    "tem_con": Figure("Tem-Con", "higher", 4),
    "clipsim": Figure("CLIPSIM", "higher", 4),
    "fram_acc": Figure("Fram-Acc", "higher", 3),
    "spat_con": Figure("Spat-Con (CLIP)", "lower", 4),
}
WITHOUT_REFERENCE = {
    "lattice": Figure("lattice energy", "lower", 2),
    "own_flicker": Figure("flicker along own motion", "lower", 3),
    "niqe": Figure("NIQE (Legato's fit)", "lower", 2),
    "musiq": Figure("MUSIQ", "higher", 2),
    "clipiqa": Figure("CLIP-IQA", "higher", 4),
    "tem_con": Figure("Tem-Con", "higher", 4),
    "clipsim": Figure("CLIPSIM", "higher", 4),
    "fram_acc": Figure("Fram-Acc", "higher", 3),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Instruments:
    """What some figures need; without it they are left out."""

    distance: PerceptualDistance | None = None
    """For LPIPS."""
    dists: PerceptualDistance | None = None
    """For DISTS."""
    raft: FlowEstimator | None = None
    """For a second warping error, which leaves motion boundaries out too."""
    vmaf: Path | None = None
    """The program."""
    natural: NaturalModel | None = None
    """For NIQE."""
    judges: Mapping[str, PictureJudge] = field(default_factory=dict)
    """Of pictures by themselves, by the keys of the tables above."""
    similarity: ClipSimilarity | None = None
    """For Tem-Con, CLIPSIM, Fram-Acc and Spat-Con."""
    prompts: tuple[str, str] | None = None
    """For CLIPSIM and Fram-Acc: of the source, "" if there is none, and of the target."""

    def of_content(self) -> ContentFigures:
        """Begin with the figures of a clip that CLIP judges."""
        return ContentFigures(similarity=self.similarity, prompts=self.prompts)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipFigures:
    """What was measured of one clip."""

    name: str
    num_frames: int
    size: tuple[int, int]
    """Width and height."""
    series: dict[str, list[float]]
    """By the keys of the tables above: a value per frame, per pair of frames, or one in all."""
    registration: Registration | None
    """How the result lies on its reference; None without one."""
    spectrum: list[float]
    """Amplitude of the flicker by frequency; see `flicker_spectrum`."""

    @property
    def means(self) -> dict[str, float]:
        """The clip's own figures."""
        return {key: float(np.mean(values)) for key, values in self.series.items()}


def measure(
    name: str, frames: Iterable[tuple[Picture, Picture | None]], instruments: Instruments
) -> ClipFigures:
    """Return the figures of a clip, against its reference where there is one.

    Args:
        name: of the clip.
        frames: each with its reference's, or None for every one.
        instruments: what is at hand.

    Raises:
        InputError: the clip is smaller than 32x32, or has no frame.
        ResourceError: the program for VMAF fails.
    """
    with ExitStack() as stack:
        meter: _PairMeter | _LoneMeter | None = None
        num_frames, size = 0, (0, 0)
        for picture, truth in frames:
            if meter is None:
                size = _checked_size(name, picture)
                lone = truth is None
                meter = _LoneMeter(instruments) if lone else _PairMeter(instruments, stack)
            meter.add(picture, truth)  # type: ignore[arg-type]  # None for every frame, or for none
            num_frames += 1
        if meter is None:
            raise InputError(f"clip {name}", why="it has no frame", fix="leave it out")
        return ClipFigures(
            name=name,
            num_frames=num_frames,
            size=size,
            series=meter.finish(),
            registration=meter.registration(),
            spectrum=meter.spectrum.amplitudes().tolist(),
        )


def _checked_size(name: str, picture: Picture) -> tuple[int, int]:
    rows, cols = picture.shape[:2]
    if min(rows, cols) < MIN_SIDE_PX:
        raise InputError(
            f"clip {name} of {cols}x{rows}",
            why="flow, spectra and LPIPS need more pixels",
            fix=f"measure clips of at least {MIN_SIDE_PX}x{MIN_SIDE_PX}",
        )
    return cols, rows


class _PairMeter:
    """Figures against a reference."""

    def __init__(self, instruments: Instruments, stack: ExitStack) -> None:
        self.spectrum = FlickerSpectrum()
        self._distances = {"lpips": instruments.distance, "dists": instruments.dists}
        self._raft, self._content = instruments.raft, instruments.of_content()
        program = instruments.vmaf
        self._vmaf = stack.enter_context(VmafMeter(program)) if program else None
        self._series: dict[str, list[float]] = defaultdict(list)
        self._shifts: list[tuple[float, float]] = []
        self._lattices = LatticeMeter(), LatticeMeter()
        self._last: tuple[Picture, Picture] | None = None
        self._num_frames = 0

    def add(self, picture: Picture, truth: Picture) -> None:
        if self._num_frames < _NUM_FIRST or self._num_frames % _EVERY == 0:
            self._shifts.append(global_shift(picture, truth))
        self._add_frame(picture[None], truth[None])
        self._content.add(picture, truth)
        for meter, each in zip(self._lattices, (picture, truth), strict=True):
            meter.add(each)
        self.spectrum.add(block_luma(picture) - block_luma(truth))
        if self._vmaf:
            self._vmaf.add(picture, truth)
        if self._last is not None:
            self._add_pair(np.stack([self._last[0], picture]), np.stack([self._last[1], truth]))
        self._last = picture, truth
        self._num_frames += 1

    def _add_frame(self, clip: UInt8[ndarray, "1 H W 3"], truth: UInt8[ndarray, "1 H W 3"]) -> None:
        series = self._series
        series["psnr"].append(psnr(clip, truth))
        series["psnr_y"].append(psnr(clip, truth, on="y"))
        series["ssim"].append(ssim(clip, truth, on="rgb"))
        series["ssim_y"].append(ssim(clip, truth, on="y"))
        for key, distance in self._distances.items():
            if distance:
                series[key].append(perceptual(clip, truth, distance))

    def _add_pair(self, clip: UInt8[ndarray, "2 H W 3"], truth: UInt8[ndarray, "2 H W 3"]) -> None:
        motion: list[PairMotion] = correspondences(truth)
        self._series["warping"].append(warping_error(clip, motion))
        if self._raft:
            exact = correspondences(truth, self._raft, boundaries=True)
            self._series["warping_raft"].append(warping_error(clip, exact))
        self._series["pixel_mse"].append(warping_error(clip, motion, masked=False))
        self._series["tof"].append(flow_difference(correspondences(clip), motion))
        self._series["flicker"].append(flicker(clip, truth))

    def registration(self) -> Registration:
        return Registration.of(self._shifts)

    def finish(self) -> dict[str, list[float]]:
        clip, truth = (meter.energy() for meter in self._lattices)
        series = self._series | self._content.series
        series["shift"] = [self.registration().distance]
        series["lattice"] = [lattice_ratio(clip, truth)]
        if self._vmaf:
            series["vmaf"] = self._vmaf.scores()
        return {key: series[key] for key in WITH_REFERENCE if series.get(key)}


class _LoneMeter:
    """Figures that need no reference."""

    def __init__(self, instruments: Instruments) -> None:
        self.spectrum = FlickerSpectrum()
        self._natural, self._judges = instruments.natural, instruments.judges
        self._content = instruments.of_content()
        self._series: dict[str, list[float]] = defaultdict(list)
        self._lattice = LatticeMeter()
        self._last: Picture | None = None

    def add(self, picture: Picture, _: None) -> None:
        self._lattice.add(picture)
        self._content.add(picture)
        self.spectrum.add(block_luma(picture))
        if self._natural:
            with suppress(InputError):  # too small, or black
                self._series["niqe"].append(self._natural.distance(picture))
        for key, judge in self._judges.items():
            self._series[key].append(judge(picture))
        if self._last is not None:
            clip = np.stack([self._last, picture])
            self._series["own_flicker"].append(own_flicker(clip, correspondences(clip)))
        self._last = picture

    def registration(self) -> None:
        return None

    def finish(self) -> dict[str, list[float]]:
        series = self._series | self._content.series | {"lattice": [self._lattice.energy()]}
        return {key: series[key] for key in WITHOUT_REFERENCE if series.get(key)}
