"""DIS: finds known motion, in both directions, at any size."""

import pytest
import torch
from torch.nn import functional as F

from legato.errors import InputError
from legato.flow.dis import DisFlow
from legato.flow.estimate import FlowEstimator, choose_estimator


def sliding(num_frames: int, dx: int, dy: int) -> torch.Tensor:
    coarse = torch.rand(1, 3, 24, 32)
    canvas = F.interpolate(coarse, size=(96, 128), mode="bicubic")[0].clamp(0, 1) * 2 - 1
    return torch.stack(
        [
            canvas[:, 10 + dy * t : 74 + dy * t, 10 + dx * t : 106 + dx * t]
            for t in range(num_frames)
        ]
    )


def test_flow_points_to_where_the_picture_went():
    """The frame moves over the canvas by (3, 2), so the picture moves by (-3, -2)."""
    forward, backward = DisFlow()(sliding(3, 3, 2))
    inside = (slice(None), slice(None), slice(16, -16), slice(16, -16))
    for flow, sign in ((forward[inside], -1), (backward[inside], 1)):
        assert flow.shape[0] == 2
        torch.testing.assert_close(
            flow.mean(dim=(0, 2, 3)), sign * torch.tensor([3.0, 2.0]), atol=0.15, rtol=0
        )


@pytest.mark.parametrize(("rows", "cols"), [(1, 1), (1, 50), (7, 7), (8, 8), (31, 33), (40, 3)])
def test_any_size_works(rows, cols):
    forward, backward = DisFlow()(torch.rand(2, 3, rows, cols) * 2 - 1)
    assert forward.shape == backward.shape == (1, 2, rows, cols)
    assert torch.isfinite(forward).all()


def test_one_frame_gives_empty_flows():
    forward, backward = DisFlow()(torch.rand(1, 3, 20, 30))
    assert forward.shape == backward.shape == (0, 2, 20, 30)


def test_a_still_clip_does_not_move():
    forward, _ = DisFlow()(sliding(1, 0, 0).expand(3, -1, -1, -1))
    assert forward.abs().max() < 0.01


def test_the_same_pair_gives_the_same_flow_in_any_clip():
    """Segments see other clips; their flows must not differ."""
    clip, estimate = sliding(4, 2, 1), DisFlow()
    assert torch.equal(estimate(clip)[0][2:], estimate(clip[2:])[0])


def test_dis_is_the_default_and_an_estimator():
    assert isinstance(choose_estimator(), DisFlow)
    assert isinstance(choose_estimator(), FlowEstimator)


def test_an_unknown_estimator_is_refused():
    with pytest.raises(InputError, match="dis or raft"):
        choose_estimator("farneback")


def test_raft_without_weights_is_refused():
    with pytest.raises(InputError, match="weights"):
        choose_estimator("raft")


def test_a_pair_is_estimated_alike_whatever_came_before():
    generator = torch.Generator().manual_seed(3)
    frames = torch.rand(3, 3, 32, 40, generator=generator) * 2 - 1
    estimate = DisFlow()
    whole = estimate(frames)
    alone = DisFlow()(frames[1:])
    assert all(torch.equal(a[1:], b) for a, b in zip(whole, alone, strict=True))
