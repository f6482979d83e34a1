"""Frame attentions of FRESCO's neighbours: other answers to what a frame may read from.

All take the place of a self-attention through `frame_attention.install`; `docs/consistency.md`
compares what they do and cost.
"""

from dataclasses import dataclass

import torch
from einops import rearrange, repeat
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from legato.models.frame_attention import (
    ClipState,
    FrameTokens,
    attend,
    to_shared,
)
from legato.models.guided_attention import temporal_guided


def first_frame(tokens: FrameTokens, state: ClipState) -> Float[Tensor, "B T N heads d"]:
    """Let every frame read from the first one.

    Text2Video-Zero (Khachatryan et al. 2023, arXiv:2303.13439, section 3.3.2).
    """
    return to_shared(tokens.query, tokens.key[:, 0], tokens.value[:, 0])


def first_and_previous(tokens: FrameTokens, state: ClipState) -> Float[Tensor, "B T N heads d"]:
    """Let every frame read from the first one and the one before; the first from itself.

    Rerender-A-Video (Yang et al. 2023, arXiv:2306.07954, section 4.1). Differs: its frames are
    denoised one after another with what earlier ones held at the same step kept, which gives the
    same as all together, since no frame looks ahead.
    """
    frames = tokens.query.shape[1]
    outs = []
    for frame in range(frames):  # one at a time: keys are not repeated for all
        seen = [0] if frame < 2 else [0, frame - 1]
        key, value = (x[:, seen].flatten(1, 2) for x in (tokens.key, tokens.value))
        outs.append(attend(tokens.query[:, frame], key, value))
    return torch.stack(outs, dim=1)


def all_frames(tokens: FrameTokens, state: ClipState) -> Float[Tensor, "B T N heads d"]:
    """Let every frame read from every frame.

    ControlVideo (Zhang et al. 2023, arXiv:2305.13077, section 3.2).
    """
    return to_shared(tokens.query, tokens.key.flatten(1, 2), tokens.value.flatten(1, 2))


def along_trajectories(tokens: FrameTokens, state: ClipState) -> Float[Tensor, "B T N heads d"]:
    """Let every frame read from every frame, then every token from its own trajectory.

    FLATTEN (Cong et al. 2023, arXiv:2310.05922, section 4.2): the result of the first attention is
    query, key and value of the second. Where the state knows no trajectories for this number of
    tokens, only the first acts. Differs: trajectories that meet are parted by colour, not by
    chance.
    """
    read = all_frames(tokens, state)
    known = state.correspondences.get(tokens.query.shape[2])
    if known is None:
        return read
    paths = (known.forward, known.inverse)
    return temporal_guided(read, read, read, trajectories=paths, link=known.link, lambda_t=1.0)


@dataclass(frozen=True, kw_only=True)
class NearestTokens:
    """Frame attention of TokenFlow: a few frames attend, the others take over what is alike.

    Geyer et al. 2023, arXiv:2307.10373, section 4.2. Each step draws one key frame from every
    chunk; the key frames read from each other. Every token then takes what its nearest tokens in
    the key frames of its own and of the previous chunk read, mixed by how near they are. Nearest is
    meant in the features of the input where the state has a reference, else in the present ones.
    """

    chunk: int = 8
    """Frames per key frame."""

    seed: int = 0
    """Of the draw of key frames."""

    def __call__(self, tokens: FrameTokens, state: ClipState) -> Float[Tensor, "B T N heads d"]:
        """Return what each token reads."""
        frames = tokens.query.shape[1]
        keys = self.key_frames(frames, state.step)
        query, key, value = (x[:, keys] for x in (tokens.query, tokens.key, tokens.value))
        read = to_shared(query, key.flatten(1, 2), value.flatten(1, 2))
        features = F.normalize(self._features(tokens, state).float(), dim=-1)
        outs = []
        for frame in range(frames):
            chunk = frame // self.chunk
            now, near = _taken_over(features[:, frame], features[:, keys[chunk]], read[:, chunk])
            if chunk:
                last = features[:, keys[chunk - 1]]
                then, far = _taken_over(features[:, frame], last, read[:, chunk - 1])
                weight = torch.sigmoid(far / (near + far).clamp_min(1e-6)).to(now.dtype)
                now = weight * now + (1 - weight) * then
            outs.append(now)
        return torch.stack(outs, dim=1)

    def key_frames(self, num_frames: int, step: int) -> list[int]:
        """Return one frame of each chunk, drawn from (seed, step)."""
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + step)
        starts = range(0, num_frames, self.chunk)
        sizes = [min(self.chunk, num_frames - start) for start in starts]
        drawn = [int(torch.randint(size, (), generator=generator)) for size in sizes]
        return [start + offset for start, offset in zip(starts, drawn, strict=True)]

    def _features(self, tokens: FrameTokens, state: ClipState) -> Float[Tensor, "B T N C"]:
        if state.reference is None:
            return tokens.hidden
        x = state.reference.hidden[tokens.name]
        x = x.flatten(2).mT if x.ndim == 4 else x
        return rearrange(x, "(b t) n c -> b t n c", t=state.num_frames)


NEAREST_AT_A_TIME = 1024
"""Tokens whose similarities are in memory together."""


def _taken_over(
    features: Float[Tensor, "B N C"],
    key_features: Float[Tensor, "B N C"],
    read: Float[Tensor, "B N heads d"],
) -> tuple[Float[Tensor, "B N heads d"], Float[Tensor, "B N 1 1"]]:
    """Return what the most similar token of a key frame read, and its cosine distance."""
    nearest: list[tuple[Float[Tensor, "B n"], Int[Tensor, "B n"]]] = [
        (piece @ key_features.mT).max(dim=-1)
        for piece in torch.split(features, NEAREST_AT_A_TIME, dim=1)
    ]
    similarity = torch.cat([best for best, _ in nearest], dim=1)
    index = torch.cat([where for _, where in nearest], dim=1)
    whole = repeat(index, "b n -> b n h d", h=read.shape[2], d=read.shape[3])
    return read.gather(1, whole), (1 - similarity).clamp_min(0)[..., None, None]
