"""Names of what holds frames together: what they stand for, and what does not go together."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from legato.errors import InputError
from legato.models.cross_frame_attention import NearestTokens, first_frame
from legato.pipelines.consistency import (
    FRESCO,
    GUIDED_ATTENTION,
    HOLDS,
    NEIGHBOURS,
    TRANSLATING,
    holds,
    sees_other_frames,
)
from legato.pipelines.guided_windows import ATTENTIONS, attention_of


@pytest.mark.parametrize("name", sorted(set(HOLDS) - {"background"}))
def test_every_name_can_be_asked_for_alone(name):
    assert holds(name) == (set(FRESCO) if name == "fresco" else {name})


def test_every_neighbour_has_its_attention():
    assert tuple(ATTENTIONS) == NEIGHBOURS


def test_fresco_is_all_of_its_parts():
    assert holds("fresco") == holds(",".join(FRESCO))
    assert holds("fresco,temporal") == {*FRESCO, "temporal"}


@pytest.mark.parametrize("other", NEIGHBOURS)
@pytest.mark.parametrize("part", [*GUIDED_ATTENTION, "fresco"])
def test_one_attention_only_takes_the_place_of_another(part, other):
    with pytest.raises(InputError, match="stand in for the same self-attention"):
        holds(f"{part},{other}")


def test_two_neighbours_are_refused():
    with pytest.raises(InputError, match="all-frames and first-frame"):
        holds("first-frame,all-frames")


def test_background_needs_features():
    with pytest.raises(InputError, match="add features"):
        holds("cross-frame,background")


def test_an_unknown_name_is_told_the_known_ones():
    with pytest.raises(InputError, match="fresque") as error:
        holds("temporal,fresque")
    assert all(name in error.value.fix for name in HOLDS)


def test_what_makes_an_image_model_look_at_other_frames():
    assert not sees_other_frames(holds("temporal,propagation,fusion,shared-noise"))
    assert all(sees_other_frames(holds(name)) for name in ("features", *NEIGHBOURS, "cross-frame"))


def test_attentions_of_other_systems_are_found_by_name():
    assert attention_of(holds("first-frame,temporal")) is first_frame
    assert attention_of(holds("nearest-tokens")) == NearestTokens()
    assert attention_of(holds("fresco")) is None


@given(st.lists(st.sampled_from(HOLDS), min_size=1, max_size=6))
def test_any_list_is_understood_or_refused_in_one_way_whatever_its_order(names):
    def outcome(order):
        try:
            return holds(", ".join(order))
        except InputError as error:
            return error.why

    assert outcome(names) == outcome(names[::-1])


def test_none_stands_alone():
    with pytest.raises(InputError, match="none goes with no other name"):
        holds("none,fusion", known=TRANSLATING)
    assert holds("none", known=TRANSLATING) == frozenset()
