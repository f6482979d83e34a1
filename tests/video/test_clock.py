"""Times that files carry, made usable."""

from fractions import Fraction
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from legato.video.clock import mend_times, round_times

TIMES = st.lists(st.one_of(st.none(), st.integers(-200, 20_000)), max_size=40)


def mend(raw):
    return list(mend_times(list(enumerate(raw)), nominal=100, longest_slip=3000))


@given(TIMES)
def test_mended_times_always_increase_and_lose_no_item(raw):
    mended = mend(raw)
    assert [item for item, _, _ in mended] == list(range(len(raw)))
    assert all(a[1] < b[1] for a, b in pairwise(mended))


@given(st.lists(st.integers(-10_000, 10_000), unique=True))
def test_increasing_times_are_left_alone(raw):
    assert [(t, m) for _, t, m in mend(sorted(raw))] == [(t, False) for t in sorted(raw)]


def test_a_missing_time_follows_its_predecessor_by_the_usual_distance():
    assert [t for _, t, _ in mend([0, None, 200])] == [0, 100, 200]


def test_a_doubled_time_goes_midway_to_the_next():
    assert [t for _, t, _ in mend([0, 100, 100, 200])] == [0, 100, 150, 200]


def test_a_jump_back_starts_a_new_stretch_that_keeps_its_spacing():
    assert [t for _, t, _ in mend([90_000, 90_100, 0, 130, 200])] == [
        90_000,
        90_100,
        90_200,
        90_330,
        90_400,
    ]


def test_each_of_several_stretches_keeps_its_spacing():
    found = [t for _, t, _ in mend([90_000, 90_130, 0, 9000, 130, 260])]
    assert found == [90_000, 90_130, 90_230, 99_230, 99_330, 99_460]


def test_a_last_time_that_is_doubled_follows_by_the_usual_distance():
    assert [t for _, t, _ in mend([0, 100, 100])] == [0, 100, 200]


def test_halves_of_a_tick_are_rounded_up():
    halves = [(Fraction(n, 2), None) for n in (1, 5, 9)]
    assert [ticks for ticks, _ in round_times(halves, Fraction(1))] == [1, 3, 5]


@given(
    st.lists(st.fractions(0, 100, max_denominator=90_000), unique=True),
    st.sampled_from([Fraction(1, 1000), Fraction(1, 90_000), Fraction(1001, 30_000)]),
)
def test_rounded_times_increase_and_are_the_nearest_ticks_unless_two_meet(times, tick):
    times = sorted(times)
    rounded = [ticks for ticks, _ in round_times(((t, None) for t in times), tick)]
    assert all(a < b for a, b in pairwise(rounded))
    if all(b - a > tick for a, b in pairwise(times)):
        assert all(abs(n * tick - t) <= tick / 2 for n, t in zip(rounded, times, strict=True))
