from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from legato.errors import InputError
from legato.pipelines.timecode import format_time, parse_time


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", Fraction(0)),
        ("90.5", Fraction(181, 2)),
        ("1:30", Fraction(90)),
        ("1:02:03.25", Fraction(14893, 4)),
        ("75:00", Fraction(4500)),
        (".1", Fraction(1, 10)),
    ],
)
def test_a_time_is_exact(text, seconds):
    assert parse_time(text) == seconds


@pytest.mark.parametrize("text", ["", "-1", "1:60", "1:60:00", "1:", "::", "1e3", "nan", "٣"])
def test_what_is_no_time_is_refused(text):
    with pytest.raises(InputError):
        parse_time(text)


@given(st.integers(0, 10**6))
def test_what_is_printed_reads_back(seconds):
    assert parse_time(format_time(seconds)) == seconds
