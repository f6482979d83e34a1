"""Key frames and what lies between them (fact sheet Video LDM: I18)."""

from hypothesis import given
from hypothesis import strategies as st

from legato.pipelines.timeline import Timeline, plan_calls


def test_eight_key_frames_become_29_and_113():
    for interpolations, num_frames in ((0, 8), (1, 29), (2, 113)):
        timeline = Timeline(num_frames=num_frames, interpolations=interpolations)
        assert (timeline.num_key_frames, timeline.num_latents) == (8, num_frames)


@given(st.integers(1, 2000), st.integers(0, 2))
def test_parts_cover_all_frames_once_and_reach_the_last(num_frames, interpolations):
    timeline = Timeline(num_frames=num_frames, interpolations=interpolations)
    assert num_frames <= timeline.num_latents < num_frames + timeline.stride
    assert timeline.bounds[0] == 0
    assert timeline.bounds[-1] == timeline.num_latents
    assert sorted(set(timeline.bounds)) == timeline.bounds
    assert timeline.parts[-1][1] == timeline.num_key_frames - 1


@given(st.integers(1, 300), st.integers(3, 16), st.sampled_from([1, 2]), st.sampled_from([0, 1]))
def test_calls_make_every_key_frame_once_from_frames_that_are_there(count, window, context, known):
    calls = plan_calls(count, window=window, context=context, known=known)
    made = known
    for call in calls:
        assert call.stop - call.first == window
        assert call.first + call.num_given == made
        assert call.num_given == (known if call is calls[0] else context)
        made = call.stop
    assert made >= count or not calls


@given(st.integers(2, 200), st.integers(1, 200), st.sampled_from([1, 2]))
def test_a_longer_video_begins_with_the_same_calls(count, more, context):
    short = plan_calls(count, window=8, context=context, known=1)
    long = plan_calls(count + more, window=8, context=context, known=1)
    assert long[: len(short)] == short
