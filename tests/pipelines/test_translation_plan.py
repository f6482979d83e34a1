"""Plans of translations: every key frame once, every frame once, whatever the lengths."""

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from legato.errors import InputError
from legato.pipelines.keyframes import KeyframeOptions
from legato.pipelines.survey import Survey
from legato.pipelines.translation_plan import TranslationPlan, batches_of_shot, choose_keys

TICK = Fraction(1, 10)


@st.composite
def plans(draw):
    """Plans of one to four shots with any content."""
    lengths = draw(st.lists(st.integers(1, 60), min_size=1, max_size=4))
    near = draw(st.integers(1, 6))
    far = draw(st.integers(near, 20))
    seed = draw(st.integers(0, 99))
    starts = np.cumsum([0, *lengths])
    survey = Survey(
        pts=tuple(range(int(starts[-1]))),
        shots=tuple(map(int, starts[:-1])),
        detail=(0.0,) * int(starts[-1]),
        num_repeated=0,
        start=None,
        end=None,
    )
    changes = np.random.default_rng(seed).random(int(starts[-1]))
    options = KeyframeOptions(min_interval=near, max_interval=far)
    keys = choose_keys(changes, survey.shots, options)
    return TranslationPlan(fingerprint={}, survey=survey, keys=keys)


@given(plan=plans(), size=st.integers(3, 9), cuts=st.lists(st.integers(1, 100), unique=True))
def test_batches_emit_every_key_frame_once_in_order(plan, size, cuts):
    prompts = [(Fraction(0), "a"), *((cut * TICK, f"b{cut}") for cut in sorted(cuts))]
    batches = plan.batches(size, prompts, time_base=TICK)
    assert [key for each in batches for key in each.batch.new] == list(plan.all_keys)
    assert all(len(each.batch.frames) <= size for each in batches)


@given(plan=plans(), size=st.integers(3, 9), cuts=st.lists(st.integers(1, 100), unique=True))
def test_every_new_key_frame_has_the_prompt_of_its_time(plan, size, cuts):
    prompts = [(Fraction(0), "a"), *((cut * TICK, f"b{cut}") for cut in sorted(cuts))]
    for each in plan.batches(size, prompts, time_base=TICK):
        for key in each.batch.new:
            assert each.prompt == [text for since, text in prompts if since <= key * TICK][-1]


@given(plan=plans(), size=st.integers(3, 9))
def test_later_batches_of_a_shot_hold_on_to_its_first_and_the_last_key_frame(plan, size):
    batches = plan.batches(size, [(Fraction(0), "")], time_base=TICK)
    assert sum(each.starts_shot for each in batches) == len(plan.keys)
    for before, each in pairwise(batches):
        if not each.starts_shot:
            assert each.batch.frames[0] == before.batch.frames[0]
            assert each.batch.frames[1] == before.batch.frames[-1]


@given(plan=plans(), size=st.integers(1, 40))
def test_segments_cover_every_frame_once_and_begin_with_key_frames(plan, size):
    segments = plan.segments(size)
    covered = [frame for each in segments for frame in range(each.first, each.stop)]
    assert covered == list(range(plan.survey.num_frames))
    assert all(each.first in plan.all_keys for each in segments)
    assert [each.index for each in segments] == list(range(len(segments)))


def test_a_prompt_that_changes_behind_the_first_key_frame_keeps_two_anchors():
    first, second = batches_of_shot([0, 5, 9], ["day", "night", "night"], 4)
    assert (first.batch.frames, second.batch.frames) == ((0,), (0, 0, 5, 9))
    assert (first.batch.num_anchors, second.batch.num_anchors) == (0, 2)


@given(plan=plans())
def test_a_saved_plan_is_read_back(plan, tmp_path_factory):
    path = tmp_path_factory.mktemp("plan") / "plan.json"
    plan.save(path)
    assert TranslationPlan.load(path) == plan


def test_a_plan_of_another_kind_is_refused(tmp_path):
    (tmp_path / "plan.json").write_text('{"generate": {}}')
    with pytest.raises(InputError, match="--restart"):
        TranslationPlan.load(tmp_path / "plan.json")
