"""Cues laid out one after another show what the overlapping ones showed."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from legato.video.cues import Cue, OneAtATime

TIMES = st.integers(-20, 40)
SPANS = st.lists(st.tuples(TIMES, st.integers(0, 15)), max_size=8)


def cues(spans):
    """A cue for each beginning and length, with a line of its own."""
    return [
        Cue(begin=begin, end=begin + length, lines=(f"line {number}",))
        for number, (begin, length) in enumerate(spans)
    ]


def laid_out(added):
    layout = OneAtATime()
    return [*(cue for one in added for cue in layout.add(one)), *layout.finish()]


def shown(among, time):
    """The lines at a moment."""
    return [line for cue in among if cue.begin <= time < cue.end for line in cue.lines]


@given(SPANS)
def test_every_moment_shows_the_lines_of_all_cues_that_are_active(spans):
    source = cues(sorted(spans))
    found = laid_out(source)
    for time in range(-25, 60):
        assert shown(found, time) == shown(source, time)


@given(SPANS)
def test_no_cue_begins_before_the_one_before_it_has_ended(spans):
    found = laid_out(cues(spans))  # in any order
    assert all(cue.begin < cue.end for cue in found)
    assert all(a.end <= b.begin for a, b in pairwise(found))


@given(SPANS)
def test_a_cue_that_comes_late_shows_its_lines_at_no_other_time(spans):
    source = cues(spans)
    found = laid_out(source)
    for time in range(-25, 60):
        assert set(shown(found, time)) <= set(shown(source, time))


def test_cues_are_given_out_as_soon_as_the_next_one_begins():
    first, second = cues([(0, 4), (2, 5)])
    layout = OneAtATime()
    assert list(layout.add(first)) == []
    assert list(layout.add(second)) == [Cue(begin=0, end=2, lines=("line 0",))]
    assert list(layout.finish()) == [
        Cue(begin=2, end=4, lines=("line 0", "line 1")),
        Cue(begin=4, end=7, lines=("line 1",)),
    ]
