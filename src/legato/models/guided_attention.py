"""Guided attention of FRESCO: three changes to self-attention that need no training.

Yang et al. 2024, arXiv:2403.12962, section 4.2. In the order in which they act: *spatial-guided*
attention smooths queries over what is alike in the input; *efficient cross-frame* attention lets
every frame read from the same tokens, each visible point once; *temporal-guided* attention mixes
what was read along the trajectories of points. Halves of guidance never mix.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from legato.models.frame_attention import (
    ClipState,
    FrameTokens,
    attend,
    chosen_tokens,
    to_shared,
    within_frames,
)

GuidedPart = Literal["spatial", "cross", "temporal"]
PARTS: frozenset[GuidedPart] = frozenset(("spatial", "cross", "temporal"))


def spatial_guided(
    query: Float[Tensor, "B T N heads d"],
    reference_query: Float[Tensor, "B T N heads d"],
    reference_key: Float[Tensor, "B T N heads d"],
    *,
    lambda_s: float = 5.0,
) -> Float[Tensor, "B T N heads d"]:
    """Return q' = softmax(q_r k_r^T / (lambda_s sqrt d)) q, per frame and head.

    Equation 7 there; lambda_s stands in the denominator, as the released code has it.

    Args:
        query: raw queries.
        reference_query: projected from what the module saw in the reference pass.
        reference_key: likewise.
        lambda_s: larger mixes more of the frame.
    """
    return within_frames(reference_query, reference_key, query, temperature=lambda_s)


def unique_cross_frame(
    query: Float[Tensor, "B T N heads d"],
    key: Float[Tensor, "B T N heads d"],
    value: Float[Tensor, "B T N heads d"],
    supply: Int[Tensor, " M"],
) -> Float[Tensor, "B T N heads d"]:
    """Return the attention of every frame to the same chosen tokens of all frames.

    Section 4.2 there. Without occlusions these are the first frame's; where all is occluded, all.

    Args:
        query: of all frames, perhaps guided.
        key: of all frames.
        value: of all frames.
        supply: indices of the chosen tokens, counted through all frames.
    """
    return to_shared(query, chosen_tokens(key, supply), chosen_tokens(value, supply))


def temporal_guided(
    query: Float[Tensor, "B T N heads d"],
    key: Float[Tensor, "B T N heads d"],
    value: Float[Tensor, "B T N heads d"],
    *,
    trajectories: tuple[Int[Tensor, "T 1 N"], Int[Tensor, "T 1 N"]],
    link: Bool[Tensor, "N 1 T T"],
    lambda_t: float = 5.0,
) -> Float[Tensor, "B T N heads d"]:
    """Return softmax(q k^T / (lambda_t sqrt d), where linked) v along every trajectory.

    Equation 9 there. A token attends to itself too: one that is alone keeps its value.

    Args:
        query: raw queries, not spatially guided.
        key: raw keys of all tokens.
        value: what cross-frame attention read.
        trajectories: per frame the token on each trajectory, and the inverse permutations.
        link: per trajectory, which frames may attend to which.
        lambda_t: larger mixes frames more evenly.
    """
    halves, frames, count = query.shape[:3]
    forward, inverse = (paths[:, 0] for paths in trajectories)
    frame = torch.arange(frames, device=query.device)[:, None]
    along = (forward + frame * count).T.flatten()  # frame after frame of one trajectory
    q, k, v = (
        chosen_tokens(x, along).reshape(halves * count, frames, *x.shape[3:])
        for x in (query, key, value)
    )
    mixed = attend(q, k, v, temperature=lambda_t, mask=link.repeat(halves, 1, 1, 1))
    back = (inverse * frames + frame).flatten()
    whole = mixed.reshape(halves, count, frames, *value.shape[3:])
    return chosen_tokens(whole, back).reshape(value.shape)


@dataclass(kw_only=True)
class GuidedAttention:
    """Frame attention of FRESCO; which of its parts act may change from step to step."""

    lambda_s: float = 5.0
    lambda_t: float = 5.0
    parts: Collection[GuidedPart] = PARTS

    def __call__(self, tokens: FrameTokens, state: ClipState) -> Float[Tensor, "B T N heads d"]:
        """Return what each token reads.

        Where the state has no correspondence for this number of tokens, every frame reads from the
        first one and trajectories are left out.
        """
        query, known = tokens.query, state.correspondences.get(tokens.query.shape[2])
        if "spatial" in self.parts:
            query = self._guided_query(tokens, state)
        if "cross" not in self.parts:
            read = within_frames(query, tokens.key, tokens.value)
        elif known is None:
            read = to_shared(query, tokens.key[:, 0], tokens.value[:, 0])
        else:
            read = unique_cross_frame(query, tokens.key, tokens.value, known.supply)
        if "temporal" not in self.parts or known is None:
            return read
        return temporal_guided(
            tokens.query,
            tokens.key,
            read,
            trajectories=(known.forward, known.inverse),
            link=known.link,
            lambda_t=self.lambda_t,
        )

    def _guided_query(
        self, tokens: FrameTokens, state: ClipState
    ) -> Float[Tensor, "B T N heads d"]:
        assert state.reference is not None, "spatial guidance needs the reference pass"
        query, key = tokens.project(state.reference.hidden[tokens.name])
        return spatial_guided(tokens.query, query, key, lambda_s=self.lambda_s)
