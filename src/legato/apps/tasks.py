"""What the page offers, and the commands that its forms mean; nothing here is drawn."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path
from typing import Literal

from legato.apps import generate, translate, upscale
from legato.apps.arguments import parse
from legato.apps.form import Entry, Value, entries, to_arguments
from legato.apps.generate import GenerateCommand
from legato.apps.plan import PlanCommand
from legato.apps.queue import Command, Job
from legato.apps.translate import TranslateCommand
from legato.apps.upscale import UpscaleCommand
from legato.errors import InputError
from legato.pipelines.batch import FALLBACK_SUFFIX, is_folder_of_videos, list_videos
from legato.pipelines.output import preview_path
from legato.video.codecs import FORMATS, STILL_SUFFIXES

NOT_OFFERED = ("preview", "plan", "json", "quiet", "report")  # buttons, and what a page shows

Way = Literal["start", "preview", "plan"]


@dataclass(frozen=True, kw_only=True)
class Task:
    """One form."""

    name: str
    command: type[UpscaleCommand] | type[GenerateCommand] | type[TranslateCommand]
    ending: str
    """Behind the source's name in that of the result."""
    shown: tuple[str, ...]
    """Options that stand open; all others are behind a heading."""
    ways: Mapping[Way, str]
    """What can be done with the filled form: captions of the buttons."""

    @property
    def reads_words(self) -> bool:
        """Whether a prompt, not a file, comes first."""
        return self.command is GenerateCommand

    def offered(self) -> list[Entry]:
        """Return the options of the form."""
        return [entry for entry in entries(self.command) if entry.name not in NOT_OFFERED]

    def commands(
        self,
        way: Way,
        first: str,
        name: str,
        chosen: Mapping[Entry, Value],
        results: "Results",
    ) -> Iterator[Command]:
        """Yield what a filled form means: one command, or one for each video of a folder.

        Args:
            way: what to do.
            first: the path of the source, or the prompt.
            name: of the result; empty: chosen here.
            chosen: what the form says of the other options.
            results: knows the names that are taken.

        Raises:
            LegatoError: an option, the source or the name cannot work.
        """
        is_trial = way != "start"  # a preview and a plan replace nothing
        if self.reads_words:
            target = results.path(name or f"{self.ending}.mp4", is_trial=is_trial)
            yield self._command(way, first, target, chosen)
            return
        if not first:
            raise InputError("no video", why="none was chosen", fix="upload one or name its path")
        source = Path(first).expanduser()
        sources = [source]
        if self.command is UpscaleCommand and way == "start" and is_folder_of_videos(source):
            sources = list_videos(source)
            if name:
                why = "a folder of videos has many results"
                raise InputError(f"{name}", why=why, fix="leave the name open")
        for path in sources:
            named = name or result_name(path, self.ending)
            target = results.path(named, is_trial=is_trial)
            yield self._command(way, str(path), target, chosen)

    def _command(
        self, way: Way, first: str, target: Path, chosen: Mapping[Entry, Value]
    ) -> Command:
        flags = to_arguments(chosen)
        if self.reads_words:
            flags += ["--plan"] if way == "plan" else []
            arguments = [f"--out={target}", *flags, "--", first]
            made = parse(GenerateCommand, arguments, name=self.name)
            generate.check(made)
            return made
        kind: type[Command] = PlanCommand if way == "plan" else self.command
        flags += ["--preview"] if way == "preview" else []
        command = parse(kind, [*flags, "--", first, str(target)], name=self.name)
        if isinstance(command, UpscaleCommand):
            upscale.check(command)
        elif isinstance(command, TranslateCommand):
            translate.check(command)
        return command


TASKS = (
    Task(
        name="upscale",
        command=UpscaleCommand,
        ending="upscaled",
        shown=("height", "scale", "noise_level", "num_inference_steps", "fidelity", "prompt"),
        ways={"start": "Start", "preview": "Preview two seconds", "plan": "What would it need?"},
    ),
    Task(
        name="generate",
        command=GenerateCommand,
        ending="generated",
        shown=("seconds", "first_frame", "guidance_scale", "seed"),
        ways={"start": "Start", "plan": "What would it need?"},
    ),
    Task(
        name="translate",
        command=TranslateCommand,
        ending="translated",
        shown=("model", "prompt", "strength", "controlnet", "seed"),
        ways={"start": "Start"},
    ),
)


def result_name(source: Path, ending: str) -> str:
    """Return how the result of a source is called unless it is told."""
    if source.is_dir():
        return f"{source.name}_{ending}"
    suffix = source.suffix.lower()
    kept = suffix in FORMATS or suffix in STILL_SUFFIXES
    return f"{source.stem}_{ending}{suffix if kept else FALLBACK_SUFFIX}"


@dataclass(frozen=True)
class Results:
    """The folder that results go to, and the jobs that will write there."""

    folder: Path
    jobs: Iterable[Job]

    def path(self, name: str, *, is_trial: bool) -> Path:
        """Return a path of that name, with a number where it is taken.

        What was begun and not finished is not taken: the same job goes on with it.

        Args:
            name: of a file or folder.
            is_trial: whether only a preview or a plan is made, to which no name is taken.

        Raises:
            InputError: the name leads elsewhere.
        """
        if Path(name).name != name or name == "..":
            raise InputError(
                f"{name}",
                why="it is no plain name of a file",
                fix=f"leave folders out: results go to {self.folder}",
            )
        wanted = self.folder / name
        taken = {target_of(job.command) for job in self.jobs if not job.has_ended}
        numbered = (wanted.with_stem(f"{wanted.stem}_{number}") for number in count(2))
        return next(
            path
            for path in chain([wanted], numbered)
            if is_trial or not (path.exists() or path in taken)
        )


def target_of(command: Command) -> Path | None:
    """Return where a command's result goes; None: it has none."""
    match command:
        case PlanCommand() | GenerateCommand(plan=True):
            return None
        case UpscaleCommand(preview=True):
            return preview_path(command.target)
    return command.target


def title_of(command: Command) -> str:
    """Return a command in a few words."""
    target = target_of(command)
    if target is not None:
        return target.name
    about = command.prompt if isinstance(command, GenerateCommand) else command.source.name
    return f"plan of {about or 'a video'}"
