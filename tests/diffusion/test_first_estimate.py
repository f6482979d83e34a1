"""The first estimate keeps its share of the last one, and of nothing else."""

import pytest
import torch

from legato.diffusion.denoiser import Step
from legato.diffusion.first_estimate import FirstEstimate


def edited(estimates, share):
    edit = FirstEstimate(share)
    steps = [
        Step(index=k, num_steps=len(estimates), timestep=999 - k) for k in range(len(estimates))
    ]
    return [edit(step, x0) for step, x0 in zip(steps, estimates, strict=True)]


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
@pytest.mark.parametrize("num_steps", [2, 5])
def test_only_the_last_estimate_is_mixed_with_the_first(num_steps, share):
    estimates = list(
        torch.randn(num_steps, 1, 2, 4, 3, 3, generator=torch.Generator().manual_seed(1))
    )
    *earlier, last = edited(estimates, share)
    for found, given in zip(earlier, estimates, strict=False):
        assert torch.equal(found, given)
    torch.testing.assert_close(last, share * estimates[0] + (1 - share) * estimates[-1])


def test_a_single_step_is_left_bit_for_bit():
    x0 = torch.randn(1, 2, 4, 3, 3, generator=torch.Generator().manual_seed(2))
    assert torch.equal(edited([x0], 0.5)[0], x0)
