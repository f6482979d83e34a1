"""Trajectories of tokens through frames, as permutations.

Every token of frame 0 names one trajectory. Between neighbouring frames each token is linked with
at most one token of the next; what is left over on both sides is paired arbitrarily, so that a
step of all trajectories is a permutation, and a mask remembers which links are real.

Yang et al. 2024 (FRESCO), arXiv:2403.12962, section 3.3. The released rule is sequential;
sorting gives the same result at once.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    """Where each token of a frame goes in the next one."""

    target: Int64[Tensor, "K N"]
    """Row k: token of frame k -> token of frame k+1; a permutation."""
    unlinked: Bool[Tensor, "K N"]
    """True where that target is only a filler."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trajectories:
    """Paths of all tokens of frame 0 through T frames; gathering along them needs no search."""

    permutation: Int64[Tensor, "T 1 N"]
    """Token of frame t on the trajectory that starts at this token of frame 0."""
    inverse: Int64[Tensor, "T 1 N"]
    """The trajectory that each token of frame t lies on."""
    linked: Bool[Tensor, "N 1 T T"]
    """By trajectory: whether one frame may attend to another; no broken link lies between them."""

    def to(self, device: torch.device | str) -> "Trajectories":
        """Return them on a device."""
        return Trajectories(
            permutation=self.permutation.to(device),
            inverse=self.inverse.to(device),
            linked=self.linked.to(device),
        )


def link_tokens(
    flow_backward: Float[Tensor, "K 2 h w"],
    occluded: Bool[Tensor, "K h w"],
    frames: Float[Tensor, "T 3 h w"],
) -> Steps:
    """Link the tokens of neighbouring frames one to one; row-major tokens, K = T - 1.

    Token p of frame k+1 claims q = round(p + flow(p)) of frame k, if that lies inside and p is not
    occluded. Of several claims the one whose colour is nearest to that of q is heard, of equals
    the smallest p. Unclaimed q, ascending, get the unheard p, ascending.

    Args:
        flow_backward: on the grid of frame k+1, to frame k; in tokens.
        occluded: tokens of frame k+1 not seen in frame k.
        frames: one pixel per token, any range.
    """
    num_pairs, _, rows, cols = flow_backward.shape
    num_tokens = rows * cols
    device = flow_backward.device
    ys, xs = torch.meshgrid(
        torch.arange(rows, device=device), torch.arange(cols, device=device), indexing="ij"
    )
    x = (xs + flow_backward[:, 0]).round().long()
    y = (ys + flow_backward[:, 1]).round().long()
    valid = (x >= 0) & (x < cols) & (y >= 0) & (y < rows) & ~occluded
    claimed = torch.where(valid, y * cols + x, num_tokens).flatten(1)  # num_tokens: none

    colours = frames.flatten(2)
    at_claimed = claimed.clamp(max=num_tokens - 1)[:, None].expand(-1, 3, -1)
    error = (colours[1:] - colours[:-1].gather(2, at_claimed)).square().mean(dim=1)

    # stable sorts keep ties in ascending order of p: first by error, then by the claimed token
    order = error.argsort(dim=1, stable=True)
    order = order.gather(1, claimed.gather(1, order).argsort(dim=1, stable=True))
    claims = claimed.gather(1, order)
    heard = claims < num_tokens
    heard[:, 1:] &= claims[:, 1:] != claims[:, :-1]

    nobody = num_tokens  # one column more, for claims that were not heard
    target = torch.full((num_pairs, num_tokens + 1), nobody, device=device)
    target = target.scatter(1, claims.where(heard, nobody), order)[:, :num_tokens].contiguous()
    unlinked = target == nobody
    used = torch.zeros_like(heard).scatter(1, order, heard)
    tokens = torch.arange(num_tokens, device=device).expand(num_pairs, -1)
    target[unlinked] = tokens[~used]
    return Steps(target=target, unlinked=unlinked)


def chain(steps: Steps) -> Trajectories:
    """Follow every token of frame 0: F_0 = identity, F_{i+1}[j] = step_i[F_i[j]].

    Two frames of a trajectory are linked when no filler lies between them.
    """
    num_pairs, num_tokens = steps.target.shape
    device = steps.target.device
    start = torch.arange(num_tokens, device=device)
    places, pieces = [start], [torch.zeros_like(start)]
    for k in range(num_pairs):
        places.append(steps.target[k][places[-1]])
        pieces.append(pieces[-1] + steps.unlinked[k][places[-2]])
    permutation = torch.stack(places)
    inverse = torch.empty_like(permutation).scatter_(
        1, permutation, start.expand_as(permutation).contiguous()
    )
    piece = torch.stack(pieces, dim=1)  # which unbroken piece of its trajectory a token lies on
    return Trajectories(
        permutation=permutation[:, None],
        inverse=inverse[:, None],
        linked=(piece[:, :, None] == piece[:, None, :])[:, None],
    )
