"""Limits of options: what is out of range is named, and None is left to the model."""

from dataclasses import dataclass
from math import inf, nan

import pytest

from legato.errors import InputError
from legato.pipelines.limits import (
    all_above_zero,
    all_within,
    in_order,
    none_empty,
    require_leading,
    require_needed,
    within,
)


@dataclass(frozen=True)
class Options:
    speed: float | None = 1.0
    stages: tuple[str, ...] = ("first", "second", "third")


@pytest.mark.parametrize("value", [None, 0, 0.5, 1])
def test_the_ends_of_a_range_and_none_are_in_it(value):
    within("speed", value, 0, 1)
    all_within(Options(speed=value), ["speed"], 0, 1)


@pytest.mark.parametrize("value", [-0.001, 1.001, nan, inf, -inf])
def test_what_is_out_of_range_is_named(value):
    with pytest.raises(InputError, match=f"speed={value}: out of range; use a number from 0 to 1"):
        within("speed", value, 0, 1)
    if not value > 0:
        with pytest.raises(InputError, match="use 0 or more"):
            within("speed", value, 0)


@pytest.mark.parametrize("value", [nan, inf])
def test_what_is_not_finite_is_in_no_range(value):
    with pytest.raises(InputError, match=f"speed={value}"):
        within("speed", value, 0)


@pytest.mark.parametrize("value", [0, -1.0, nan, inf])
def test_what_must_be_above_zero_is_finite_too(value):
    with pytest.raises(InputError, match=f"speed={value}: out of range; use more than 0"):
        all_above_zero(Options(speed=value), ["speed"])


@pytest.mark.parametrize("value", [None, 1e-9, 3])
def test_what_is_above_zero_passes_as_does_none(value):
    all_above_zero(Options(speed=value), ["speed"])


def test_an_empty_list_is_named():
    none_empty(Options(), ["stages"])
    with pytest.raises(InputError, match="stages is empty"):
        none_empty(Options(stages=()), ["stages"])


@pytest.mark.parametrize("stages", [(), ("second",), ("first", "third")])
def test_a_part_of_a_list_in_its_order_passes(stages):
    in_order(Options(stages=stages), "stages")


@pytest.mark.parametrize("stages", [("second", "first"), ("first", "first"), ("first", "fourth")])
def test_a_list_in_another_order_is_refused(stages):
    with pytest.raises(InputError, match=f"stages={' '.join(stages)}"):
        in_order(Options(stages=stages), "stages")


def test_an_option_without_what_it_acts_on_is_refused_unless_it_is_the_default():
    for speed, is_there in ((1.0, False), (1.0, True), (2.0, True)):
        require_needed(Options(speed=speed), [("speed", "--road", is_there)])
    with pytest.raises(InputError, match="it counts only with --road"):
        require_needed(Options(speed=2.0), [("speed", "--road", False)])


@pytest.mark.parametrize(
    ("prompts", "negative"), [([""], ""), (["a cat "], " a cat"), (["a cat", "a cat"], "a cat")]
)
def test_guidance_from_a_text_to_itself_is_refused_where_it_was_asked_for(prompts, negative):
    for scale in (None, 0.0, 1.0):
        require_leading(scale, prompts, negative)
    with pytest.raises(InputError, match=r"guidance_scale=7\.5"):
        require_leading(7.5, prompts, negative)


@pytest.mark.parametrize("prompts", [["a cat"], ["", "a cat"]])
def test_guidance_to_one_prompt_of_several_leads_somewhere(prompts):
    require_leading(7.5, prompts, "")
