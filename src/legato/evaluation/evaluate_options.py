"""Options of judging clips; apart, so that the command line need not load torch."""

from dataclasses import dataclass
from pathlib import Path

from legato.errors import InputError
from legato.options import require_types

NAME = "evaluation"
JUDGES = ("musiq", "clipiqa")
"""By their names in pyiqa."""
CLIP_FRAMES = 16
"""Frames of a clip for FVD and the inception score."""


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions:
    """How clips are judged, and what the page shows."""

    lpips: Path | None = None
    """Weights for LPIPS by SqueezeNet, AlexNet or VGG-16: a safetensors file, or the saved state of
    the package lpips; without them the package itself is asked."""

    dists: Path | None = None
    """Weights for DISTS: the saved state of DISTS_pytorch's module."""

    raft: Path | None = None
    """RAFT's weights, safetensors, for a warping error by its flow too; needs torchvision."""

    iqa: str = ""
    """What the package pyiqa judges in clips without references, as a comma list: musiq, clipiqa;
    it fetches their weights at first use."""

    fid: Path | None = None
    """Network for FID of all frames: TorchScript that makes pictures (N 3 H W, 0 to 255) to
    features (N D), such as StyleGAN's inception-2015-12-05.pt. Needs references. It runs code."""

    fvd: Path | None = None
    """Network for FVD of the first 16 frames of every clip, at the clips' own rate (published: 30
    per second): TorchScript that makes clips (N 3 T H W, 0 to 255) to features (N D), such as
    StyleGAN-V's i3d_torchscript.pt. Needs references. It runs code."""

    inception_score: Path | None = None
    """Network for the inception score of the first 16 frames of every clip: TorchScript that makes
    clips (N 3 T H W, 0 to 255) to classes (N K), such as C3D's of UCF-101. It runs code."""

    clip: str | None = None
    """CLIP model of transformers, a folder or a name at the Hugging Face hub: how alike it finds
    neighbouring frames (Tem-Con), places within a frame against its reference (Spat-Con) and, with
    both prompts, which of them frames fit (Fram-Acc)."""

    prompt: str = ""
    """What clips were to show: with --clip how near their frames are to it (CLIPSIM). Default: of
    each clip its own, NAME.txt beside NAME.mp4 or the folder NAME, where there is one."""

    source_prompt: str = ""
    """What translated clips were made from shows; Fram-Acc needs it beside the prompt."""

    frames: int | None = None
    """Judge only so many frames of each clip, from its start."""

    seed: int = 0
    """Seed of the bootstrap behind the 95% intervals."""

    shown: int = 12
    """Clips that the page shows in pictures; the tables hold all of them."""

    def __post_init__(self) -> None:
        require_types(self)
        judge_names(self.iqa)
        if self.source_prompt and not self.prompt:
            raise InputError(
                f"source_prompt={self.source_prompt!r} without a prompt",
                why="Fram-Acc tells which of the two a frame fits better",
                fix="give --prompt too, or none",
            )
        if self.prompt and self.clip is None:
            raise InputError(
                f"prompt={self.prompt!r}",
                why="it takes a CLIP model to compare pictures with words",
                fix="name one with --clip, such as openai/clip-vit-base-patch32",
            )
        takes_clips = self.fvd or self.inception_score
        if takes_clips and self.frames is not None and self.frames < CLIP_FRAMES:
            raise InputError(
                f"frames={self.frames} with fvd or inception_score",
                why=f"these are of {CLIP_FRAMES} frames of each clip",
                fix=f"judge {CLIP_FRAMES} frames or more, or leave them out",
            )
        for name, smallest in (("frames", 1), ("seed", 0), ("shown", 0)):
            value = getattr(self, name)
            if value is not None and value < smallest:
                raise InputError(f"{name}={value}", why="too small", fix=f"use {smallest} or more")


def judge_names(listed: str) -> tuple[str, ...]:
    """Return the names in a comma list.

    Raises:
        InputError: one is unknown.
    """
    names = tuple(name.strip() for name in listed.split(",") if name.strip())
    for name in names:
        if name not in JUDGES:
            raise InputError(
                f"iqa={listed!r}",
                why=f"{name!r} is not one of them",
                fix=f"use a comma list of {', '.join(JUDGES)}",
            )
    return names
