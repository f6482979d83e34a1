import pytest
import torch

from legato.flow.occlusion import motion_boundary


def step_edge(left, right, rows=8, cols=12, at=5):
    """Return a flow that is `left` (x, y) before column `at` and `right` from there on."""
    flow = torch.empty(1, 2, rows, cols)
    flow[..., :at] = torch.tensor(left)[:, None, None]
    flow[..., at:] = torch.tensor(right)[:, None, None]
    return flow


def test_a_step_marks_the_pixel_before_it_and_no_other():
    found = motion_boundary(step_edge((0.0, 0.0), (3.0, 0.0)))
    expected = torch.zeros(1, 8, 12, dtype=torch.bool)
    expected[..., 4] = True
    assert torch.equal(found, expected)


def test_rows_and_columns_are_treated_alike():
    flow = step_edge((0.0, 1.0), (-2.0, 4.0), rows=9, cols=9)
    turned = flow.transpose(2, 3).flip(1)
    assert torch.equal(motion_boundary(turned), motion_boundary(flow).transpose(1, 2))
    assert motion_boundary(flow).any()


def test_one_motion_has_no_boundary():
    assert not motion_boundary(torch.full((2, 2, 6, 7), 40.0)).any()
    assert motion_boundary(torch.rand(2, 2, 1, 1)).shape == (2, 1, 1)


@pytest.mark.parametrize("speed", [0.0, 1.0, 10.0])
@pytest.mark.parametrize(("factor", "marked"), [(0.99, False), (1.01, True)])
def test_the_threshold_grows_with_the_speed(speed, factor, marked):
    """|grad|^2 = 0.01 |w|^2 + 0.002 at the pixel before the step, where w is the left flow."""
    step = factor * (0.01 * speed**2 + 0.002) ** 0.5
    found = motion_boundary(step_edge((0.0, speed), (step, speed)))
    assert found[..., 4].all().item() == marked
