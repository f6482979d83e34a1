"""Warping fetches: zero flow is the identity, whole-pixel flow is a shift."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from legato.flow.occlusion import consistency
from legato.flow.warp import warp

sizes = st.integers(1, 9)


def shift_flow(dx: float, dy: float, rows: int, cols: int) -> torch.Tensor:
    return torch.tensor([float(dx), float(dy)]).view(1, 2, 1, 1).expand(1, 2, rows, cols)


@settings(max_examples=30)
@given(rows=sizes, cols=sizes, mode=st.sampled_from(["bilinear", "nearest"]))
def test_zero_flow_is_the_identity(rows, cols, mode):
    x = torch.rand(1, 3, rows, cols)
    torch.testing.assert_close(warp(x, shift_flow(0, 0, rows, cols), mode=mode), x)


@settings(max_examples=30)
@given(dx=st.integers(-3, 3), dy=st.integers(-3, 3), mode=st.sampled_from(["bilinear", "nearest"]))
def test_whole_pixel_flow_fetches_the_pixel_it_points_to(dx, dy, mode):
    rows, cols = 7, 9
    x = torch.rand(1, 2, rows, cols) + 1
    out = warp(x, shift_flow(dx, dy, rows, cols), mode=mode)
    for row in range(rows):
        for col in range(cols):
            inside = 0 <= row + dy < rows and 0 <= col + dx < cols
            expected = x[0, :, row + dy, col + dx] if inside else torch.zeros(2)
            torch.testing.assert_close(out[0, :, row, col], expected, atol=1e-5, rtol=0)


def test_border_padding_repeats_the_edge():
    x = torch.rand(1, 1, 4, 4)
    out = warp(x, shift_flow(10, 0, 4, 4), padding="border")
    torch.testing.assert_close(out, x[..., -1:].expand_as(x))


def test_half_precision_input_is_computed_in_float32():
    assert (
        warp(torch.rand(1, 1, 4, 4).half(), shift_flow(0.5, 0, 4, 4).half()).dtype == torch.float32
    )


def test_opposite_flows_are_consistent_inside_the_frame():
    flow = shift_flow(2, 0, 8, 8)
    trusted = consistency(flow, -flow)
    assert trusted[..., :6].all()
    assert not trusted[..., 6:].any()  # these leave the frame


@pytest.mark.parametrize(("error", "expected"), [(0.2, 1.0), (0.3, 0.0)])
def test_the_threshold_is_a_squared_distance(error, expected):
    """Still scene: |error|^2 against 0.05, i.e. 0.22 pixels."""
    still = torch.zeros(1, 2, 5, 5)
    wrong = torch.zeros(1, 2, 5, 5)
    wrong[:, 0] = error
    assert (consistency(still, wrong) == expected).all()


def test_fast_motion_is_allowed_a_larger_error():
    flow = shift_flow(20, 0, 4, 60)
    back = -flow + torch.tensor([0.5, 0.0]).view(1, 2, 1, 1)
    assert consistency(flow, back)[..., :39].all()
    assert not consistency(flow, back, alpha1=0.0)[..., :39].any()
