"""Work of a job in parts that are made one after another, each saved whole."""

from collections.abc import Callable
from dataclasses import dataclass

from legato.errors import Interrupted
from legato.pipelines.events import Event, OnEvent, Stage, Stop

Progress = Callable[[float | int], None]
"""Told how many frames of a stage are done."""


@dataclass(frozen=True, kw_only=True)
class StageWork:
    """One stage of a job, such as its key frames."""

    name: Stage
    num_parts: int
    missing: list[int]
    total: int
    """Frames."""
    make: Callable[[int, Progress], None]

    def run(self, *, on_event: OnEvent, stop: Stop) -> int:
        """Make the missing parts; return how many were there.

        Raises:
            Interrupted: `stop` said so.
        """

        def progress(done: float | int) -> None:
            on_event(Event(stage=self.name, done=min(done, self.total), total=self.total))

        for part in self.missing:
            if stop():
                raise Interrupted(
                    f"stopped before part {part + 1} of {self.num_parts}: {self.name}",
                    why="it was asked for; finished parts are kept",
                    fix="repeat the command to continue",
                )
            self.make(part, progress)
        if self.missing:
            progress(self.total)
        return self.num_parts - len(self.missing)
