"""FRESCO's neighbours: what each frame may read from."""

import pytest
import torch
from clip_correspondence import random_tokens, still_tokens
from tiny_unets import FAMILIES, run, spatial

from legato.models.attention_sites import find_self_attentions
from legato.models.cross_frame_attention import (
    NearestTokens,
    all_frames,
    along_trajectories,
    first_and_previous,
    first_frame,
)
from legato.models.frame_attention import ClipState, FrameTokens, install, within_frames

FRAMES, COUNT = 5, 12
METHODS = [
    first_frame,
    first_and_previous,
    all_frames,
    along_trajectories,
    NearestTokens(chunk=2),
]


def tokens(frames=FRAMES, *, same=False, seed=0):
    generator = torch.Generator().manual_seed(seed)
    draw = lambda *shape: torch.randn(shape, generator=generator)  # noqa: E731
    made = [draw(2, 1 if same else frames, COUNT, 2, 4) for _ in range(3)]
    hidden = draw(2, 1 if same else frames, COUNT, 8)
    q, k, v = (x.expand(-1, frames, -1, -1, -1) for x in made)
    return FrameTokens(
        name="here",
        query=q,
        key=k,
        value=v,
        hidden=hidden.expand(-1, frames, -1, -1),
        project=lambda x: (x, x),
    )


def state(frames=FRAMES):
    return ClipState(num_frames=frames, correspondences={COUNT: random_tokens(frames, COUNT)})


def own(given):
    return within_frames(given.query, given.key, given.value)


def changed_frames(method, frame):
    """Frames whose result changes with the keys and values of one frame."""
    given, other = tokens(), tokens(seed=1)
    key, value = given.key.clone(), given.value.clone()
    key[:, frame], value[:, frame] = other.key[:, frame], other.value[:, frame]
    moved = FrameTokens(**{**vars(given), "key": key, "value": value})
    difference = (method(moved, state()) - method(given, state())).abs()
    return difference.amax(dim=(0, 2, 3, 4)).gt(1e-6).nonzero().flatten().tolist()


@pytest.mark.parametrize("method", METHODS)
def test_one_frame_is_plain_self_attention(method):
    given = tokens(1)
    alone = ClipState(num_frames=1, correspondences={COUNT: still_tokens(1, COUNT)})
    torch.testing.assert_close(method(given, alone), own(given))


@pytest.mark.parametrize("method", [first_frame, first_and_previous, all_frames])
def test_identical_frames_read_as_one(method):
    given = tokens(same=True)
    torch.testing.assert_close(method(given, state()), own(given))


def test_who_reads_from_whom():
    everyone = list(range(FRAMES))
    assert changed_frames(first_frame, 0) == everyone
    assert changed_frames(first_frame, 2) == []
    assert changed_frames(first_and_previous, 0) == everyone
    assert changed_frames(first_and_previous, 2) == [3]
    assert changed_frames(all_frames, 2) == everyone


def test_no_frame_looks_ahead_in_first_and_previous():
    given = tokens()
    start = FrameTokens(
        **{
            **vars(given),
            **{name: getattr(given, name)[:, :3] for name in ("query", "key", "value", "hidden")},
        }
    )
    torch.testing.assert_close(
        first_and_previous(given, state())[:, :3], first_and_previous(start, state(3))
    )


def test_trajectories_refine_what_all_frames_read():
    given, known = tokens(), state()
    assert not torch.equal(along_trajectories(given, known), all_frames(given, known))
    elsewhere = ClipState(num_frames=FRAMES)
    assert torch.equal(along_trajectories(given, elsewhere), all_frames(given, elsewhere))


def test_one_key_frame_comes_from_every_chunk_and_changes_with_the_step():
    method = NearestTokens(chunk=2)
    drawn = {tuple(method.key_frames(FRAMES, step)) for step in range(20)}
    assert all([frame // 2 for frame in keys] == [0, 1, 2] for keys in drawn)
    assert len(drawn) > 1
    assert method.key_frames(FRAMES, 3) == method.key_frames(FRAMES, 3)


def test_tokens_take_over_what_their_nearest_read():
    """Frames that show the first one's tokens in another order read the same, in that order."""
    given = tokens(4, same=True)
    order = torch.stack([torch.randperm(COUNT) for _ in range(4)])
    shuffled = {
        name: torch.stack([getattr(given, name)[:, t, order[t]] for t in range(4)], dim=1)
        for name in ("query", "key", "value", "hidden")
    }
    plain = own(given)
    expected = torch.stack([plain[:, t, order[t]] for t in range(4)], dim=1)
    out = NearestTokens(chunk=2)(FrameTokens(**{**vars(given), **shuffled}), state(4))
    torch.testing.assert_close(out, expected)


@pytest.mark.parametrize("method", METHODS)
def test_a_whole_unet_runs_with_it_at_every_self_attention(method):
    family = FAMILIES["sd1"]
    model = family.build()
    plain = run(family, model)
    sites = find_self_attentions(spatial(model), cell=1)
    known = {count: random_tokens(3, count) for count in (96, 24)}
    install(model, sites, method, ClipState(num_frames=3, correspondences=known))
    out = run(family, model)
    assert out.isfinite().all()
    assert not torch.allclose(out, plain, atol=1e-5)
