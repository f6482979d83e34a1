from hypothesis import given
from hypothesis import strategies as st

from legato.pipelines.segments import cut_segments


@st.composite
def ranges(draw):
    num_frames = draw(st.integers(1, 200))
    cuts = draw(st.sets(st.integers(1, max(1, num_frames - 1)), max_size=8))
    return num_frames, (0, *sorted(cut for cut in cuts if cut < num_frames))


@given(ranges(), st.integers(1, 70))
def test_every_frame_is_in_one_segment_and_none_is_longer(found, size):
    num_frames, shots = found
    segments = cut_segments(num_frames, shots, size=size)
    covered = [frame for segment in segments for frame in range(segment.first, segment.stop)]
    assert covered == list(range(num_frames))
    assert all(1 <= len(segment) <= size for segment in segments)
    assert [segment.index for segment in segments] == list(range(len(segments)))


@given(ranges(), st.integers(1, 70), st.integers(0, 30))
def test_context_never_crosses_a_cut(found, size, context):
    num_frames, shots = found
    bounds = {*shots, num_frames}
    for segment in cut_segments(num_frames, shots, size=size):
        first = segment.first - segment.num_before(context)
        stop = segment.stop + segment.num_after(context)
        assert first >= segment.shot_first
        assert stop <= segment.shot_stop
        assert not any(first < bound < stop for bound in bounds)


@given(ranges(), st.integers(1, 70))
def test_a_shorter_range_leaves_earlier_segments_as_they_are(found, size):
    num_frames, shots = found
    whole = cut_segments(num_frames, shots, size=size)
    part = cut_segments(
        max(1, num_frames - 1), [s for s in shots if s < num_frames - 1] or [0], size=size
    )
    assert [(s.first, s.stop) for s in whole[: len(part) - 1]] == [
        (s.first, s.stop) for s in part[:-1]
    ]
