"""Progress for people: a bar where there is a terminal, plain lines where there is none."""

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from legato.pipelines.events import Event
from legato.pipelines.timecode import format_time

TITLES = {
    "load": "loading",
    "survey": "reading",
    "caption": "captioning",
    "restore": "upscaling",
    "keyframes": "key frames",
    "interpolate": "between",
    "decode": "decoding",
    "join": "joining",
    "verify": "checking",
}
PLAIN_SECONDS = 10.0  # between two lines of the same stage
SMOOTHING_SECONDS = 30.0  # over which the speed is averaged


class Speed:
    """Frames per second and time left, averaged over the last half minute."""

    def __init__(self) -> None:
        self._marks: list[tuple[float, float]] = []

    def update(self, done: float | int, now: float) -> None:
        """Note that `done` frames are finished at time `now`."""
        if self._marks and done < self._marks[-1][1]:
            self._marks.clear()  # a segment is repeated with a fallback
        self._marks.append((now, done))
        while len(self._marks) > 2 and now - self._marks[0][0] > SMOOTHING_SECONDS:
            self._marks.pop(0)

    @property
    def frames_per_second(self) -> float | None:
        """None until it can be told."""
        (first, before), (last, after) = self._marks[0], self._marks[-1]
        return (after - before) / (last - first) if after > before and last > first else None

    def seconds_left(self, remaining: float | int) -> float | None:
        """Return the time that the remaining frames will take; None until it can be told."""
        speed = self.frames_per_second
        return None if speed is None else remaining / speed


class Stretch:
    """How far the present stage is: follows events."""

    def __init__(self) -> None:
        self._stage, self._speed = "", Speed()

    def follow(self, event: Event, now: float) -> bool:
        """Take an event that is no notice, at a time in seconds; tell whether its stage begins."""
        begins = event.stage != self._stage or event.done == 0
        if begins:
            self._stage, self._speed = event.stage, Speed()
        self._speed.update(event.done, now)
        return begins

    def numbers(self, event: Event) -> str:
        """Return frames, speed and time left at the event that was followed last."""
        if not event.done:
            return ""
        total = "" if event.total is None else f"/{event.total}"
        text = f"{int(event.done)}{total} frames"
        speed = self._speed.frames_per_second
        if speed is None:
            return text
        text += f", {speed:.3g} frames/s"
        left = None if event.total is None else self._speed.seconds_left(event.total - event.done)
        return text if left is None else f"{text}, {format_time(left)} left"


class Reporter:
    """Shows events on standard error; a context manager, and what `on_event` wants.

    Args:
        console: where to write; None: standard error.
        quiet: show notices only.
    """

    def __init__(self, console: Console | None = None, *, quiet: bool = False) -> None:
        self._console = console or Console(stderr=True, highlight=False, emoji=False, markup=False)
        self._is_live = self._console.is_terminal and not quiet
        self._quiet = quiet
        self._bar = Progress(
            TextColumn("{task.description:<10}"),
            BarColumn(),
            TextColumn("{task.fields[numbers]}"),
            console=self._console,
            transient=True,
            disable=not self._is_live,
        )
        self._task: TaskID | None = None
        self._stretch = Stretch()
        self._last_line = 0.0

    def __enter__(self) -> "Reporter":
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def __call__(self, event: Event) -> None:
        """Show one event."""
        if event.stage == "notice":
            self._line(f"note: {event.message}")
            return
        now = time.monotonic()
        begins = self._stretch.follow(event, now)
        numbers = self._stretch.numbers(event)
        if self._is_live:
            self._show(event, numbers, begins=begins)
        elif not self._quiet and (begins or now - self._last_line >= PLAIN_SECONDS):
            self._last_line = now
            self._line(f"{TITLES[event.stage]} {numbers or event.message}".rstrip())

    def _show(self, event: Event, numbers: str, *, begins: bool) -> None:
        if begins and self._task is not None:
            self._bar.remove_task(self._task)
            self._task = None
        if self._task is None:
            self._task = self._bar.add_task(TITLES[event.stage], total=None, numbers="")
        self._bar.update(
            self._task,
            total=event.total,
            completed=event.done,
            numbers=numbers or event.message,
        )

    def _line(self, text: str) -> None:
        encoding = self._console.encoding or "ascii"
        safe = text.encode(encoding, "backslashreplace").decode(encoding)
        self._console.print(safe, soft_wrap=True)
