"""Guided attention: identities that hold exactly, and a naive computation in float64."""

from math import sqrt

import pytest
import torch
from clip_correspondence import random_tokens, still_tokens
from draws import draw
from hypothesis import given, settings
from hypothesis import strategies as st
from live_bytes import LiveBytes
from torch._subclasses import FakeTensorMode

from legato.models.frame_attention import ClipState, FrameTokens, within_frames
from legato.models.guided_attention import (
    GuidedAttention,
    spatial_guided,
    temporal_guided,
    unique_cross_frame,
)
from legato.models.reference import Reference

FRAMES, COUNT = 4, 15


@pytest.fixture
def qkv():
    return [draw(2, FRAMES, COUNT, 2, 8, seed=seed) for seed in range(3)]


def along(known):
    return {"trajectories": (known.forward, known.inverse), "link": known.link}


def test_without_occlusion_every_frame_reads_from_the_first(qkv):
    q, k, v = qkv
    first = within_frames(q, k[:, :1].expand_as(k), v[:, :1].expand_as(v))
    torch.testing.assert_close(unique_cross_frame(q, k, v, still_tokens(4, COUNT).supply), first)


def test_with_all_occluded_every_frame_reads_from_all(qkv):
    q, k, v = qkv
    every = [x.flatten(1, 2)[:, None].expand(-1, FRAMES, -1, -1, -1) for x in (k, v)]
    torch.testing.assert_close(
        unique_cross_frame(q, k, v, torch.arange(FRAMES * COUNT)), within_frames(q, *every)
    )


def test_one_frame_is_plain_self_attention(qkv):
    q, k, v = (x[:, :1] for x in qkv)
    supply = still_tokens(1, COUNT).supply
    torch.testing.assert_close(unique_cross_frame(q, k, v, supply), within_frames(q, k, v))


@settings(max_examples=25)
@given(frames=st.integers(1, 5), count=st.integers(1, 20), seed=st.integers(0, 99))
def test_tokens_that_are_alone_keep_what_they_read(frames, count, seed):
    known = random_tokens(frames, count, seed)
    alone = torch.eye(frames, dtype=torch.bool).expand(count, 1, -1, -1)
    q, k, v = (draw(2, frames, count, 2, 4, seed=seed + n) for n in range(3))
    paths = (known.forward, known.inverse)
    assert torch.equal(temporal_guided(q, k, v, trajectories=paths, link=alone), v)


def test_identical_frames_without_motion_keep_what_they_read(qkv):
    q, k, v = (x[:, :1].expand(-1, FRAMES, -1, -1, -1) for x in qkv)
    out = temporal_guided(q, k, v, **along(still_tokens(FRAMES, COUNT)))
    torch.testing.assert_close(out, v)


def test_equal_keys_give_the_mean_over_each_trajectory(qkv):
    q, k, v = qkv
    known = random_tokens(FRAMES, COUNT)
    linked = torch.ones_like(known.link)
    paths = (known.forward, known.inverse)
    out = temporal_guided(q, torch.zeros_like(k), v, trajectories=paths, link=linked)
    frame = torch.arange(FRAMES)[:, None]
    mean = v[:, frame, known.forward[:, 0]].mean(dim=1, keepdim=True).expand_as(v)
    torch.testing.assert_close(out[:, frame, known.forward[:, 0]], mean)


def test_a_reference_without_structure_gives_the_mean_query(qkv):
    q, k, _ = qkv
    same = k[:, :, :1].expand_as(k)
    mean = q.mean(dim=2, keepdim=True).expand_as(q)
    torch.testing.assert_close(spatial_guided(q, same, same), mean)
    torch.testing.assert_close(spatial_guided(q, k, torch.zeros_like(k)), mean)


def softmax(logits):
    weights = (logits - logits.max(dim=-1, keepdim=True).values).exp()
    return weights / weights.sum(dim=-1, keepdim=True)


def naive(q, k, v, qr, kr, known):
    """All parts in float64, with every matrix written out, frame by frame and token by token."""
    q, k, v, qr, kr = (x.double() for x in (q, k, v, qr, kr))
    halves, frames, count, heads, width = q.shape
    read, out = torch.zeros_like(v), torch.zeros_like(v)
    for b in range(halves):
        for h in range(heads):
            keys = torch.cat([k[b, t, known.unique[t], h] for t in range(frames)])
            values = torch.cat([v[b, t, known.unique[t], h] for t in range(frames)])
            for t in range(frames):
                alike = softmax(qr[b, t, :, h] @ kr[b, t, :, h].T / (5 * sqrt(width)))
                query = alike @ q[b, t, :, h]
                read[b, t, :, h] = softmax(query @ keys.T / sqrt(width)) @ values
            for j in range(count):
                where = known.forward[:, 0, j]
                path = [x[b, torch.arange(frames), where, h] for x in (q, k, read)]
                logits = path[0] @ path[1].T / (5 * sqrt(width))
                logits = logits.masked_fill(~known.link[j, 0], float("-inf"))
                out[b, torch.arange(frames), where, h] = softmax(logits) @ path[2]
    return out


def test_all_parts_agree_with_a_naive_computation(qkv):
    qr, kr = draw(2, FRAMES, COUNT, 2, 8, seed=8), draw(2, FRAMES, COUNT, 2, 8, seed=9)
    known = random_tokens(FRAMES, COUNT)
    tokens = FrameTokens(
        name="here",
        query=qkv[0],
        key=qkv[1],
        value=qkv[2],
        hidden=draw(2, FRAMES, COUNT, 6),
        project=lambda hidden: (qr, kr),
    )
    reference = Reference(hidden={"here": tokens.hidden})
    known_by_count = {COUNT: known}
    state = ClipState(num_frames=FRAMES, correspondences=known_by_count, reference=reference)
    out = GuidedAttention()(tokens, state).double()
    torch.testing.assert_close(out, naive(*qkv, qr, kr, known), rtol=1e-5, atol=1e-5)


def peak_of(compute, *tensors):
    """Bytes alive at once while operators run on tensors without content."""
    with FakeTensorMode() as fake, torch.no_grad():
        given = [fake.from_tensor(x) for x in tensors]
        with LiveBytes() as live:
            compute(*given)
    return live.peak


def test_at_full_size_the_peak_is_a_quarter_of_the_dense_formulation():
    """512x512, 8 frames, two halves: 4096 tokens of 8 heads of 40 channels; 4 in 10 are unique."""
    known = random_tokens(8, 4096)
    shape = (2, 8, 4096, 8, 40)

    def ours(supply, forward, inverse, link):
        q = torch.empty(shape)
        read = unique_cross_frame(spatial_guided(q, q, q), q, q, supply)
        temporal_guided(q, q, read, trajectories=(forward, inverse), link=link)

    def dense(supply):
        q = torch.empty(shape).flatten(1, 2).transpose(1, 2)
        keys = q[:, :, supply]
        return (q @ keys.mT).softmax(dim=-1) @ keys

    peak = peak_of(ours, known.supply, known.forward, known.inverse, known.link)
    assert 0 < peak <= peak_of(dense, known.supply) / 4
    assert peak <= 8 * torch.Size(shape).numel() * 4  # a few times the tokens themselves
