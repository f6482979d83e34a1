"""Two-axis guidance (fact sheet Video LDM: I10)."""

import pytest
import torch

from legato.diffusion.guidance import guide, links

PREDICTIONS = {
    "negative_prompt": torch.tensor([1.0, 2.0]),
    "prompt": torch.tensor([3.0, -1.0]),
    "context": torch.tensor([0.5, 7.0]),
}


def guided(text, context):
    chain = links(guidance_scale=text, context_guidance=context)
    seen = [branch for _, branch in chain]
    return guide([PREDICTIONS[branch] for branch in seen], [scale for scale, _ in chain]), seen


@pytest.mark.parametrize(("scale", "branch"), [(1.0, "context"), (0.0, "prompt")])
def test_context_guidance_of_one_is_conditional_and_of_zero_unconditional(scale, branch):
    out, seen = guided(1.0, scale)
    assert out is PREDICTIONS[branch]
    assert seen == [branch]


@pytest.mark.parametrize(("text", "context"), [(3.0, 2.0), (2.0, 1.0), (1.0, 1.5), (2.5, 2.5)])
def test_two_axes_give_the_sum_of_both_directions(text, context):
    neither, prompt, both = PREDICTIONS.values()
    expected = neither + text * (prompt - neither) + context * (both - prompt)
    torch.testing.assert_close(guided(text, context)[0], expected)


@pytest.mark.parametrize(
    ("text", "context", "count"),
    [(1, None, 1), (2, None, 2), (1, 1, 1), (1, 2, 2), (2, 2, 2), (3, 2, 3), (2, 1, 3), (2, 0, 2)],
)
def test_only_branches_that_count_are_predicted(text, context, count):
    asked = None if context is None else float(context)
    assert len(guided(float(text), asked)[1]) == count


def test_without_context_the_prompt_is_weighed_against_the_negative_one():
    out, seen = guided(3.0, None)
    assert seen == ["negative_prompt", "prompt"]
    torch.testing.assert_close(out, torch.tensor([7.0, -7.0]))
