import io
from itertools import count

import pytest
from rich.console import Console

from legato.apps import progress
from legato.apps.progress import Reporter, Speed
from legato.apps.upscale import summary
from legato.pipelines.events import Event
from legato.pipelines.report import Report


def console(stream):
    return Console(file=stream, highlight=False, emoji=False, markup=False)


def test_the_speed_is_that_of_the_last_half_minute():
    speed = Speed()
    for second in range(100):
        speed.update(
            second * (1 if second < 50 else 3) - (0 if second < 50 else 100), float(second)
        )
    assert speed.frames_per_second == pytest.approx(3.0)
    assert speed.seconds_left(30) == pytest.approx(10.0)


def test_a_repeated_segment_starts_the_measurement_anew():
    speed = Speed()
    speed.update(10, 1.0)
    speed.update(4, 2.0)
    assert speed.frames_per_second is None
    speed.update(6, 3.0)
    assert speed.frames_per_second == pytest.approx(2.0)


def test_without_a_terminal_lines_are_plain_and_few(monkeypatch):
    clock = count(step=2)
    monkeypatch.setattr(progress.time, "monotonic", lambda: float(next(clock)))
    stream = io.StringIO()
    with Reporter(console(stream)) as reporter:
        reporter(Event(stage="load", message="model x"))
        for done in range(1, 21):
            reporter(Event(stage="restore", done=done, total=20))
    lines = stream.getvalue().splitlines()
    assert lines[0] == "loading model x"
    assert lines[1] == "upscaling 1/20 frames"
    assert lines[2] == "upscaling 6/20 frames, 0.5 frames/s, 0:28 left"
    assert len(lines) == 5


def test_quiet_shows_notices_only():
    stream = io.StringIO()
    with Reporter(console(stream), quiet=True) as reporter:
        reporter(Event(stage="load", message="model x"))
        reporter(Event(stage="notice", message="opacity [bold] :smile:"))
    assert stream.getvalue() == "note: opacity [bold] :smile:\n"


def test_an_ascii_terminal_gets_ascii():
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    with Reporter(console(stream)) as reporter:
        reporter(Event(stage="notice", message="日本"))
    stream.flush()
    assert raw.getvalue() == b"note: \\u65e5\\u672c\n"


def test_a_run_that_had_only_to_join_what_was_finished_tells_no_speed():
    numbers = dict.fromkeys(("frames_repeated", "shots", "segments", "segments_resumed"), 0)
    lists = {name: [] for name in ("notices", "fallbacks", "differences")}
    sizes = {"size_in": (64, 48), "size_out": (256, 192), "duration": 0.3, "range": None}
    where = {"device": "cpu", "dtype": "int8", "tile": None, "window": None}
    report = Report(
        **numbers,
        **lists,
        **sizes,
        **where,
        source="in.mp4",
        target="out.mp4",
        frames_in=8,
        frames_out=8,
        options={},
        model={},
        streams={"dropped": []},
        seconds=0.4,
        frames_per_second=0.0,
    )
    assert summary(report) == ("out.mp4: 8 frames in, 8 out, 64x48 -> 256x192, in 0:00")
