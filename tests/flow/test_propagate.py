"""Propagation: agrees with the reference, and with what its formula must do."""

import pytest
import torch
from safetensors.torch import load_file

from legato.flow.propagate import Thresholds, propagate

NEVER = Thresholds(alpha1=0.0, alpha2=0.0)


def still(num_pairs: int, rows: int = 6, cols: int = 7) -> torch.Tensor:
    return torch.zeros(1, num_pairs, 2, rows, cols)


def test_agrees_with_the_reference(shared):
    stored = load_file(shared / "parity/upscale_a_video/propagation.safetensors")
    clip = {name: tensor.transpose(1, 2) for name, tensor in stored.items()}
    out = propagate(clip["x"], clip["flow_forward"], clip["flow_backward"])
    tolerance = 2e-4 * clip["out"].abs().max()
    torch.testing.assert_close(out, clip["out"], atol=float(tolerance), rtol=0)


def test_beta_zero_changes_nothing():
    x = torch.rand(1, 4, 2, 6, 7)
    torch.testing.assert_close(propagate(x, still(3), still(3), beta=0.0), x)


def test_untrusted_flow_changes_nothing():
    x = torch.rand(1, 4, 2, 6, 7)
    assert torch.equal(propagate(x, still(3), still(3), thresholds=NEVER), x)


def test_a_still_constant_scene_stays_as_it_is():
    x = torch.full((1, 5, 3, 6, 7), 0.3)
    torch.testing.assert_close(propagate(x, still(4), still(4)), x)


def test_weights_halve_per_frame_in_a_still_scene():
    """Backward pass alone: P_0 = x_0/2 + x_1/4 + x_2/8 + x_3/8."""
    x = torch.zeros(1, 4, 1, 2, 2)
    x[:, 3] = 8.0
    out = propagate(x, still(3, 2, 2), still(3, 2, 2))
    assert out[0, 0].unique().tolist() == [1.0]


def test_a_moving_picture_is_followed():
    picture = torch.rand(1, 1, 8, 20)
    x = torch.stack([picture[..., 2 * t : 2 * t + 12] for t in range(3)], dim=1)
    forward = torch.zeros(1, 2, 2, 8, 12)
    forward[:, :, 0] = -2.0  # the window moves right, so the picture moves left
    out = propagate(x, forward, -forward)
    torch.testing.assert_close(out, x)


@pytest.mark.parametrize("mode", ["nearest", "bilinear"])
def test_a_seed_continues_the_forward_pass_of_an_earlier_segment(mode):
    """The later half, seeded, equals the later half of the whole where the future is the same."""
    x = torch.rand(1, 7, 2, 6, 7)
    forward, backward = torch.rand(2, 1, 6, 2, 6, 7) * 0.3
    whole = propagate(x, forward, backward, mode=mode)
    later = propagate(
        x[:, 3:], forward[:, 2:], backward[:, 2:], mode=mode, seed_previous=whole[:, 2]
    )
    torch.testing.assert_close(later, whole[:, 3:])


def test_a_wrong_number_of_flows_is_refused():
    with pytest.raises(ValueError, match="3 flows for 3 frames"):
        propagate(torch.rand(1, 3, 1, 6, 7), still(3), still(3))


def test_flow_of_another_size_is_scaled_with_its_grid():
    x = torch.zeros(1, 2, 1, 4, 8)
    x[:, 1, :, :, 4] = 1.0
    forward = torch.zeros(1, 1, 2, 8, 16)
    forward[:, :, 0] = 4.0  # two cells at half the size
    out = propagate(x, forward, -forward)
    assert out[0, 0, 0, 0].tolist() == [0, 0, 0.5, 0, 0, 0, 0, 0]


def test_each_axis_of_a_flow_is_scaled_as_its_side_is():
    x = torch.zeros(1, 2, 1, 4, 8)
    x[:, 1, :, 3, 4] = 1.0
    forward = torch.zeros(1, 1, 2, 8, 32)
    forward[:, :, 0], forward[:, :, 1] = 12.0, 4.0  # three cells to the right and two down
    out = propagate(x, forward, -forward)
    assert out[0, 0, 0].nonzero().tolist() == [[1, 1]]


def test_a_larger_flow_is_averaged_over_each_cell():
    x = torch.zeros(1, 2, 1, 2, 6)
    x[:, 1, :, :, 3] = 1.0
    forward = torch.zeros(1, 1, 2, 4, 12)
    forward[:, :, 0, :, ::2], forward[:, :, 0, :, 1::2] = 2.0, 6.0  # 4 on the mean: two cells
    out = propagate(
        x, forward, torch.full_like(forward, -4.0) * torch.tensor([1, 0.0])[:, None, None]
    )
    assert out[0, 0, 0, 0].tolist() == [0, 0.5, 0, 0, 0, 0]


def test_one_frame_comes_back():
    x = torch.rand(1, 1, 2, 6, 7)
    assert torch.equal(propagate(x, still(0), still(0)), x)


def test_the_precision_of_the_input_is_kept():
    assert propagate(torch.rand(1, 3, 2, 6, 7).half(), still(2), still(2)).dtype == torch.float16
