"""Damage clips on disk at one of the severities that every figure is measured at."""

import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Literal

import numpy as np

from legato.errors import InputError
from legato.evaluation.clips import find_clips, shown
from legato.evaluation.damage_record import DamageRecord
from legato.evaluation.datasets import SEVERITIES, seed_of
from legato.evaluation.datasets import degrade as damaged
from legato.options import require_types
from legato.pipelines.lock import Lock
from legato.pipelines.output import require_no_loop, require_target
from legato.video.atomic import making_folder
from legato.video.clock import round_times
from legato.video.codecs import CodecOptions
from legato.video.probe import VideoFacts, probe
from legato.video.read import ReadReport, read_frames
from legato.video.stills import shown_aspect
from legato.video.streams import join
from legato.video.write import MKV_TICK, VideoWriter

SUFFIX = ".mkv"
LOCK = ".degrade.lock"
"""In a folder that is being filled: of the run that fills it."""


@dataclass(frozen=True, kw_only=True)
class DegradeOptions:
    """How much clips are damaged."""

    severity: Literal["s1", "s2", "s3"]
    """s1: a little blur, noise and compression; s2: more, and JPEG; s3: much."""

    seed: int = 0
    """Added to the seed that each clip's name gives; 0 is the damage of the project's figures."""

    def __post_init__(self) -> None:
        require_types(self)
        if self.seed < 0:
            raise InputError(f"seed={self.seed}", why="too small", fix="use 0 or more")


def degrade(
    source: Path | str,
    target: Path | str,
    options: DegradeOptions,
    *,
    on_clip: Callable[[str], None] = lambda _: None,
    on_notice: Callable[[str], None] = lambda _: None,
) -> list[Path]:
    """Damage and reduce clips by four, and write them without loss; one clip is in memory.

    Names, times and the kind of each clip are kept: a video becomes NAME.mkv (FFV1), a folder of
    images one of PNG. The damage depends on the clip's name and the seed only. Where a run over a
    folder was interrupted, the same call again goes on with the clip that was in work.

    Args:
        source: a clip, or a folder of clips; see `find_clips`.
        target: for one clip an .mkv, or (no suffix) a folder of PNG; for several, a folder.
        options: see `DegradeOptions`.
        on_clip: told the name of each clip before it is damaged.
        on_notice: told what had to be mended when a clip was read, as sentences.

    Returns:
        What was written.

    Raises:
        InputError: a clip cannot be read or is smaller than 4x4; or the target cannot be written,
            or holds what other options began.
        ResourceError: the disk is full, or another run fills the folder.
    """
    source, target = Path(source), Path(target)
    clips = find_clips(source)

    def damage(name: str, output: Path) -> None:
        on_clip(name)
        for sentence in _damage(name, clips[name], output, options):
            on_notice(f"{clips[name]}: {sentence}")

    if source in clips.values():  # one clip by itself
        _require_single(source, target)
        damage(next(iter(clips)), target)
        return [target]
    require_no_loop(target)
    if target.resolve() in (source.resolve(), *(path.resolve() for path in clips.values())):
        raise InputError(f"{target}", why="it is the input itself", fix="name another path")
    with (
        making_folder(target),
        Lock(target / LOCK),
        DamageRecord(target, asdict(options)) as record,
    ):
        outputs = _outputs(target, clips, record)
        for name, path in clips.items():
            if outputs[name].exists() and record.is_finished(name, path):
                on_notice(f"{outputs[name]} is there already: left as it is")
                continue
            record.begin(name)
            damage(name, outputs[name])
            record.finish(name, path)
    return list(outputs.values())


def _damage(name: str, source: Path, target: Path, options: DegradeOptions) -> list[str]:
    """Damage one clip; return what had to be mended when it was read, as sentences."""
    facts, report = probe(source), ReadReport()
    reader = read_frames(source, facts=facts, report=report)
    frames = [(frame.time, shown(frame, facts)) for frame in reader]
    rng = np.random.default_rng(seed_of(name) + options.seed)
    clip = np.stack([picture for _, picture in frames])
    small = damaged(clip, SEVERITIES[options.severity], rng)
    _write(target, small, [time for time, _ in frames], facts)
    return report.notices(facts)


def _require_single(source: Path, target: Path) -> None:
    """Refuse what cannot take one damaged clip.

    Raises:
        InputError: see `degrade`.
    """
    if target.suffix.lower() not in ("", SUFFIX):
        raise InputError(
            f"{target}",
            why="a damaged clip is stored without further loss",
            fix=f"name a file that ends in {SUFFIX}, or a folder for PNG",
        )
    require_target(source, target, is_folder=target.suffix.lower() != SUFFIX)


def _outputs(target: Path, clips: dict[str, Path], record: DamageRecord) -> dict[str, Path]:
    """Return where each clip of a folder goes.

    Raises:
        InputError: something is there that an interrupted run did not make.
    """
    outputs = {
        name: target / (name if path.is_dir() else f"{name}{SUFFIX}")
        for name, path in clips.items()
    }
    for name, path in outputs.items():
        if not record.is_ours(name):
            require_target(clips[name], path, is_folder=clips[name].is_dir())
    return outputs


def _write(target: Path, clip: np.ndarray, times: list[Fraction], facts: VideoFacts) -> None:
    """Write `T h w 3` as FFV1, or as PNG named after the source's images."""
    plain = replace(
        facts,
        rotation_deg=0,
        display_matrix=None,
        sample_aspect=shown_aspect(facts),
        time_base=MKV_TICK,
        streams=(),  # pictures only
        stream_index=0,
        has_alpha=False,
        bit_depth=8,
        hdr=None,
    )
    is_video = target.suffix.lower() == SUFFIX
    with tempfile.TemporaryDirectory() as folder:
        frames = Path(folder) / (f"frames{SUFFIX}" if is_video else "frames")
        codec = CodecOptions(codec="ffv1" if is_video else "png")
        _encode(frames, clip, times, plain, codec)
        join([frames], target, source=frames, facts=plain)


def _encode(
    target: Path, clip: np.ndarray, times: list[Fraction], facts: VideoFacts, codec: CodecOptions
) -> None:
    size = clip.shape[2], clip.shape[1]
    timed = round_times(((time, None) for time in times), MKV_TICK)
    with VideoWriter(target, size=size, time_base=MKV_TICK, options=codec, facts=facts) as writer:
        for (ticks, _), picture in zip(timed, clip, strict=True):
            writer.write(picture, pts=ticks)
