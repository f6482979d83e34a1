"""Jobs of the page, one at a time: each in a process of its own, to be watched and stopped."""

import multiprocessing
import signal
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from multiprocessing.synchronize import Event as Flag
from typing import Literal

from legato.apps import generate, plan, translate, upscale
from legato.apps.computing import importing_torch
from legato.apps.generate import GenerateCommand
from legato.apps.plan import PlanCommand
from legato.apps.progress import TITLES, Stretch
from legato.apps.translate import TranslateCommand
from legato.apps.upscale import UpscaleCommand
from legato.errors import Interrupted, LegatoError
from legato.pipelines.events import Event, OnEvent, Stop

Command = UpscaleCommand | GenerateCommand | TranslateCommand | PlanCommand
State = Literal["waiting", "running", "done", "failed", "stopped"]
ENDED: tuple[State, ...] = ("done", "failed", "stopped")
STOPPING = "stopping behind this segment; once more stops at once"
GO_ON = "the same again goes on where this one ended"


@dataclass(frozen=True, slots=True)
class End:
    """What a job's process says last."""

    state: State
    text: str


@dataclass(slots=True, kw_only=True)
class Job:
    """One command, and what has become of it."""

    number: int
    title: str
    command: Command
    state: State = "waiting"
    text: str = ""
    """How far it is; at last what came of it."""
    share: float = 0.0
    """Of the present stage that is done, 0 to 1."""
    notices: list[str] = field(default_factory=list)

    @property
    def has_ended(self) -> bool:
        """Whether it is neither waiting nor at work."""
        return self.state in ENDED

    @property
    def is_plan(self) -> bool:
        """Whether it only measures: it writes nothing, and has nothing to go on with."""
        match self.command:
            case PlanCommand() | GenerateCommand(plan=True):
                return True
        return False


class Queue:
    """Takes jobs and does one after another, in the order in which they came."""

    def __init__(self) -> None:
        self.jobs: list[Job] = []
        self._waiting: deque[Job] = deque()
        self._news = threading.Condition()  # and the lock of all that follows
        self._context = multiprocessing.get_context("spawn")
        self._running: tuple[Job, BaseProcess, Flag] | None = None
        self._is_closed = False
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def submit(self, title: str, command: Command) -> Job:
        """Put a job at the end of the queue; one that is closed begins nothing."""
        with self._news:
            job = Job(number=len(self.jobs) + 1, title=title, command=command)
            self.jobs.append(job)
            self._waiting.append(job)
            if self._is_closed:
                self.stop(job)
            self._news.notify_all()
        return job

    def stop(self, job: Job) -> None:
        """Take a waiting job out; let a running one end behind its segment, or, asked again, now.

        Either way the same command goes on with what is finished. A plan ends now.
        """
        with self._news:
            if job in self._waiting:
                self._waiting.remove(job)
                job.state, job.text = "stopped", "was not begun"
                self._news.notify_all()
            elif self._running is not None and self._running[0] is job:
                _, process, stopping = self._running
                if stopping.is_set() or job.is_plan:
                    process.terminate()
                else:
                    job.notices.append(STOPPING)
                stopping.set()

    def close(self) -> None:
        """Begin nothing more, and stop what runs; a second call stops it at once."""
        with self._news:
            self._is_closed = True
            for job in [*self._waiting, *([self._running[0]] if self._running else [])]:
                self.stop(job)
            self._news.notify_all()

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until nothing is waiting or at work; tell whether that is so."""
        with self._news:
            return self._news.wait_for(lambda: all(job.has_ended for job in self.jobs), seconds)

    def _work(self) -> None:
        while True:
            with self._news:
                self._news.wait_for(lambda: self._waiting or self._is_closed)
                if not self._waiting:
                    return
                job = self._waiting.popleft()
                told, process, stopping = self._start(job)
                self._running = job, process, stopping
            end = self._watch(job, told)
            process.join()
            with self._news:
                if end is None:
                    end = _lost(job, process.exitcode, was_stopped=stopping.is_set())
                job.state, job.text = end.state, end.text
                self._running = None
                self._news.notify_all()

    def _start(self, job: Job) -> tuple[Connection, BaseProcess, Flag]:
        told, telling = self._context.Pipe(duplex=False)
        stopping = self._context.Event()
        process = self._context.Process(
            target=carry_out, args=(job.command, telling, stopping), daemon=True
        )
        job.state, job.text = "running", "starting"
        process.start()
        telling.close()  # so that only the process holds it, and its end is noticed
        return told, process, stopping

    def _watch(self, job: Job, told: Connection) -> End | None:
        """Follow a job's process; return what it said last, None where it died without a word."""
        stretch = Stretch()
        while True:
            try:
                said = told.recv()
            except (EOFError, OSError):
                return None
            if isinstance(said, End):
                return said
            with self._news:
                _follow(job, said, stretch)


def carry_out(command: Command, telling: Connection, stopping: Flag) -> None:
    """Do a job, in a process that nobody else uses."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the page is asked, and asks us
    with importing_torch():
        import legato.pipelines.preview  # noqa: F401
    telling.send(finish(command, telling.send, stopping.is_set))


def finish(command: Command, on_event: OnEvent, stop: Stop) -> End:
    """Do what a command says, and tell what came of it in words that people read."""
    try:
        return End("done", _words(command, on_event, stop))
    except Interrupted as error:
        return End("stopped", f"{error.what}; {GO_ON}")
    except LegatoError as error:
        return End("failed", _on_one_line(str(error)))
    except Exception as error:
        return End("failed", _on_one_line(f"a bug in legato: {type(error).__name__}: {error}"))


def _on_one_line(text: str) -> str:
    return " ".join(text.split())


def _words(command: Command, on_event: OnEvent, stop: Stop) -> str:
    match command:
        case UpscaleCommand():
            return upscale.summary(upscale.perform(command, on_event=on_event, stop=stop))
        case TranslateCommand():
            return translate.summary(translate.perform(command, on_event=on_event, stop=stop))
        case PlanCommand():
            return plan.describe(plan.perform(command, on_event=on_event))
        case GenerateCommand(plan=True):
            return generate.describe(generate.forecast(command, on_event=on_event))
        case GenerateCommand():
            return generate.summary(generate.perform(command, on_event=on_event, stop=stop))


def _follow(
    job: Job, event: Event, stretch: Stretch, clock: Callable[[], float] = time.monotonic
) -> None:
    if event.stage == "notice":
        job.notices.append(event.message)
        return
    stretch.follow(event, clock())
    job.text = f"{TITLES[event.stage]} {stretch.numbers(event) or event.message}".rstrip()
    job.share = event.done / event.total if event.total else 0.0


def _lost(job: Job, code: int | None, *, was_stopped: bool) -> End:
    """Return the end of a job whose process said none."""
    cure = "" if job.is_plan else f"; {GO_ON}"
    if was_stopped:
        return End("stopped", f"stopped at once{cure}")
    killed = "it was killed, as systems do where memory is short" if code == -9 else "it died"
    return End("failed", f"{killed} (exit code {code}){cure}")
