"""Trajectories: permutations, equal to the sequential rule, chained as their links allow."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from legato.flow.trajectories import chain, link_tokens


def link_one_by_one(flow, occluded, before, after):
    """The released rule, token by token, for one pair."""
    rows, cols = flow.shape[-2:]
    here, there = before.flatten(1), after.flatten(1)
    best = {}
    for p in range(rows * cols):
        x = int(torch.round(p % cols + flow[0].flatten()[p]))
        y = int(torch.round(p // cols + flow[1].flatten()[p]))
        if not (0 <= x < cols and 0 <= y < rows) or occluded.flatten()[p]:
            continue
        q = y * cols + x
        error = float((there[:, p] - here[:, q]).square().mean())
        if q not in best or error < best[q][0]:
            best[q] = error, p
    linked = {q: p for q, (_, p) in best.items()}
    unused = iter(sorted(set(range(rows * cols)) - set(linked.values())))
    target = [linked[q] if q in linked else next(unused) for q in range(rows * cols)]
    return target, [q not in linked for q in range(rows * cols)]


@st.composite
def clips(draw):
    """Flows up to a few tokens, and few enough colours that claims tie."""
    frames, rows, cols = draw(st.integers(1, 4)), draw(st.integers(1, 6)), draw(st.integers(1, 6))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**16)))
    size = (rows, cols)
    flow = torch.randn(frames - 1, 2, *size, generator=generator) * draw(st.floats(0, 4))
    occluded = torch.rand(frames - 1, *size, generator=generator) < draw(st.floats(0, 1))
    levels = draw(st.integers(1, 5))
    colours = torch.randint(levels, (frames, 3, *size), generator=generator).float()
    return flow, occluded, colours


@settings(max_examples=80)
@given(clip=clips())
def test_sorting_gives_what_the_sequential_rule_gives(clip):
    flow, occluded, colours = clip
    steps = link_tokens(flow, occluded, colours)
    for k in range(len(flow)):
        target, unlinked = link_one_by_one(flow[k], occluded[k], colours[k], colours[k + 1])
        assert steps.target[k].tolist() == target
        assert steps.unlinked[k].tolist() == unlinked


@settings(max_examples=40)
@given(clip=clips())
def test_trajectories_are_permutations_from_frame_0_and_back(clip):
    paths = chain(link_tokens(*clip))
    num_frames, _, num_tokens = paths.permutation.shape
    tokens = torch.arange(num_tokens)
    assert torch.equal(paths.permutation[0, 0], tokens)
    for t in range(num_frames):
        assert torch.equal(paths.permutation[t, 0].sort().values, tokens)
        assert torch.equal(paths.inverse[t, 0][paths.permutation[t, 0]], tokens)


@settings(max_examples=40)
@given(clip=clips())
def test_frames_are_linked_where_no_link_between_them_is_broken(clip):
    steps = link_tokens(*clip)
    paths = chain(steps)
    num_frames, _, num_tokens = paths.permutation.shape
    expected = torch.ones(num_tokens, num_frames, num_frames, dtype=torch.bool)
    for k in range(num_frames - 1):
        for trajectory in range(num_tokens):
            if steps.unlinked[k][paths.permutation[k, 0, trajectory]]:
                expected[trajectory, : k + 1, k + 1 :] = False
                expected[trajectory, k + 1 :, : k + 1] = False
    assert torch.equal(paths.linked[:, 0], expected)


def test_a_still_clip_has_straight_trajectories():
    paths = chain(
        link_tokens(torch.zeros(3, 2, 4, 5), torch.zeros(3, 4, 5).bool(), torch.rand(4, 3, 4, 5))
    )
    assert torch.equal(paths.permutation, torch.arange(20).expand(4, 1, 20))
    assert paths.linked.all()


def test_a_fully_occluded_clip_has_no_links_but_still_permutations():
    paths = chain(
        link_tokens(torch.zeros(2, 2, 3, 3), torch.ones(2, 3, 3).bool(), torch.rand(3, 3, 3, 3))
    )
    assert torch.equal(paths.permutation[2, 0].sort().values, torch.arange(9))
    assert torch.equal(paths.linked, torch.eye(3).bool().expand(9, 1, 3, 3))


@pytest.mark.parametrize("shift", [1, -2])
def test_trajectories_follow_a_shift(shift):
    """Frame k+1 shows at x what frame k shows at x - shift: tokens move to the right by it."""
    row = torch.rand(3, 1, 8)
    colours = torch.stack([row.roll(shift * t, dims=-1) for t in range(2)])
    flow = torch.zeros(1, 2, 1, 8)
    flow[:, 0] = -shift
    steps = link_tokens(flow, torch.zeros(1, 1, 8).bool(), colours)
    for q in range(8):
        inside = 0 <= q + shift < 8
        assert bool(steps.unlinked[0, q]) == (not inside)
        if inside:
            assert int(steps.target[0, q]) == q + shift
