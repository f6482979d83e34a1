"""Correspondences between the frames of a clip, made up: random, or of frames that stand still."""

import torch

from legato.flow.correspondence import CyclicMotion
from legato.models.token_correspondence import TokenCorrespondence


def still_tokens(frames: int, count: int) -> TokenCorrespondence:
    """Zero flow and no occlusion."""
    identity = torch.arange(count).expand(frames, 1, count)
    unique = torch.zeros(frames, count, dtype=torch.bool)
    unique[0] = True
    link = torch.ones(count, 1, frames, frames, dtype=torch.bool)
    return TokenCorrespondence(unique=unique, forward=identity, inverse=identity, link=link)


def random_tokens(frames: int, count: int, seed: int = 0) -> TokenCorrespondence:
    """Random permutations, random cuts of trajectories, a third of later tokens unique."""
    generator = torch.Generator().manual_seed(seed)
    forward = torch.stack([torch.randperm(count, generator=generator) for _ in range(frames)])
    forward[0] = torch.arange(count)
    unique = torch.rand(frames, count, generator=generator) < 1 / 3
    unique[0] = True
    cuts = torch.rand(count, frames, generator=generator) < 0.3
    piece = cuts.cumsum(dim=1)  # frames of one piece are linked
    return TokenCorrespondence(
        unique=unique,
        forward=forward[:, None],
        inverse=forward.argsort(dim=1)[:, None],
        link=(piece[:, :, None] == piece[:, None])[:, None],
    )


def still_flow(frames: int, rows: int, cols: int, *, occluded: bool = False) -> CyclicMotion:
    """No motion; nothing or everything occluded."""
    zero = torch.zeros(frames, 2, rows, cols)
    hidden = torch.full((frames, rows, cols), occluded)
    return CyclicMotion(
        flow_forward=zero, flow_backward=zero, occluded_forward=hidden, occluded_backward=hidden
    )


def random_flow(frames: int, rows: int, cols: int, seed: int = 0) -> CyclicMotion:
    """Flow of about two pixels, a tenth occluded."""
    generator = torch.Generator().manual_seed(seed)
    draw = lambda: 2 * torch.randn(frames, 2, rows, cols, generator=generator)  # noqa: E731
    hidden = lambda: torch.rand(frames, rows, cols, generator=generator) < 0.1  # noqa: E731
    return CyclicMotion(
        flow_forward=draw(),
        flow_backward=draw(),
        occluded_forward=hidden(),
        occluded_backward=hidden(),
    )
