"""The page of `legato web`: a form for each task, made from its options, and the jobs."""

import html
import threading
from collections.abc import Callable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any
from urllib.parse import quote

import gradio as gr
import numpy as np

from legato.apps.form import Entry
from legato.apps.queue import Job, Queue
from legato.apps.tasks import TASKS, Results, Task, Way, target_of, title_of
from legato.apps.upscale import UpscaleCommand
from legato.errors import LegatoError
from legato.pipelines.output import picture_path
from legato.video.images import read_image

SHOWN_VIDEOS = (".mp4", ".mov", ".webm")  # by browsers
SHOWN_STILLS = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp")
COLUMN_PX = 300
BEGINNING = threading.Lock()  # names that are free are taken one at a time, flags are read so too
UNSEEN: tuple[Any, ...] = ("", None, ())  # of the jobs' side: list, chosen job, names


def build(queue: Queue, folder: Path) -> gr.Blocks:
    """Return the page.

    Args:
        queue: takes its jobs.
        folder: where results go.
    """
    with gr.Blocks(title="Legato", analytics_enabled=False, fill_width=True) as page:
        gr.Markdown(f"# Legato\nResults go to `{folder}`. One job runs at a time; others wait.")
        with gr.Row():
            with gr.Column(scale=3), gr.Tabs():
                for task in TASKS:
                    with gr.Tab(task.name.capitalize()):
                        _form(task, queue, folder)
            with gr.Column(scale=2):
                _jobs(queue)
    return page


def _form(task: Task, queue: Queue, folder: Path) -> None:
    gr.Markdown(" ".join((task.command.__doc__ or "").partition(". ")[0].split()) + ".")
    first = _first(task)
    offered = {entry.name: entry for entry in task.offered()}
    with gr.Row():
        widgets = {offered[name]: _widget(offered[name]) for name in task.shown}
    name = gr.Textbox(label="name of the result", placeholder="chosen by itself")
    buttons = gr.Row()
    said = gr.Markdown()
    rest = sorted((entry for entry in offered.values() if entry not in widgets), key=_heading)
    for heading, group in groupby(rest, key=_heading):
        with gr.Accordion(heading, open=False), gr.Row():
            widgets |= {entry: _widget(entry) for entry in group}

    def begin_by(way: Way) -> Callable[..., str]:
        def begin(*values: Any) -> str:  # noqa: ANN401  (what gradio's widgets hold)
            *given, named = values[: len(first) + 1]
            source = next((str(part) for part in given if part), "")
            chosen = dict(zip(widgets, values[len(first) + 1 :], strict=True))
            results = Results(folder, queue.jobs)
            with BEGINNING:
                try:
                    made = list(task.commands(way, source, named or "", chosen, results))
                except LegatoError as error:
                    raise gr.Error(str(error), duration=20, print_exception=False) from error
                begun = [queue.submit(title_of(command), command) for command in made]
            return ", ".join(f"job {job.number}: {job.title}" for job in begun)

        return begin

    with buttons:
        for way, caption in task.ways.items():
            button = gr.Button(caption, variant="primary" if way == "start" else "secondary")
            inputs = [*first, name, *widgets.values()]
            button.click(begin_by(way), inputs, said, api_name=f"{way}_{task.name}")


def _first(task: Task) -> list[gr.components.Component]:
    """Return the widgets of what a task begins with; the first that is filled counts."""
    if task.reads_words:
        return [gr.Textbox(label="prompt", info="What the video shows.", lines=2)]
    return [
        gr.File(label="a video or an image", type="filepath", height=120),
        gr.Textbox(label="or its path on this computer; of a folder, too"),
    ]


def _heading(entry: Entry) -> str:
    """Return what options that do not stand open stand under."""
    return entry.heading.replace("`", "").replace("Everything that", "What else")


def _widget(entry: Entry) -> gr.components.Component:
    told: dict[str, Any] = {"label": entry.name.replace("_", " "), "info": entry.help}
    told |= {"min_width": COLUMN_PX}
    if entry.is_switch:
        return gr.Checkbox(value=bool(entry.default), **told)
    default = "" if entry.default in (None, ()) else str(entry.default)
    if entry.choices:
        choices = list(dict.fromkeys([default, *entry.choices]))
        return gr.Dropdown(choices, value=default, **told)
    return gr.Textbox(value=default, lines=3 if entry.is_list else 1, **told)


def _jobs(queue: Queue) -> None:
    gr.Markdown("## Jobs")
    listing = gr.HTML(listed(queue.jobs))
    number = gr.Dropdown([], label="job", interactive=True)
    with gr.Row():
        stop, again = gr.Button("Stop"), gr.Button("Go on, or do it again")
    result = gr.HTML()
    slider = gr.ImageSlider(label="before, after", format="png", visible=False)
    seen = gr.State(UNSEEN)

    def chosen(number: int | None) -> Job | None:
        return next((job for job in queue.jobs if job.number == number), None)

    def stop_it(number: int | None) -> None:
        if job := chosen(number):
            queue.stop(job)

    def repeat(number: int | None) -> None:
        if job := chosen(number):
            queue.submit(job.title, job.command)

    def look(number: int | None, before: tuple[Any, ...]) -> list[Any]:
        return news(queue.jobs, number, before)

    stop.click(stop_it, number, None)
    again.click(repeat, number, None)
    watched = [listing, number, result, slider, seen]
    gr.Timer(1.0).tick(look, [number, seen], watched, show_progress="hidden", api_name="look")


def news(jobs: Sequence[Job], number: int | None, before: tuple[Any, ...]) -> list[Any]:
    """Return what of the jobs' side has changed since `before`, and how it is now.

    Args:
        jobs: all.
        number: of the one that is looked at; a new one takes its place.
        before: the last item of what was returned before, or `UNSEEN`.
    """
    text = listed(jobs)
    names = tuple((f"{job.number}: {job.title}", job.number) for job in jobs)
    if names != before[2]:
        number = names[-1][1]
    job = next((job for job in jobs if job.number == number), None)
    shown = None if job is None else (job.number, job.state, len(job.notices))
    return [
        gr.skip() if text == before[0] else text,
        gr.skip() if names == before[2] else gr.Dropdown(list(names), value=number),
        gr.skip() if shown == before[1] else described(job),
        gr.skip() if shown == before[1] else _slider(job),
        (text, shown, names),
    ]


def listed(jobs: Sequence[Job]) -> str:
    """Return the jobs as HTML, the newest first."""
    return "\n".join(map(_row, reversed(jobs))) or "<p>None yet.</p>"


def _row(job: Job) -> str:
    bar = f'<progress value="{job.share:.3f}" style="width: 100%"></progress><br>'
    said = html.escape(job.text.partition("\n")[0])
    return (
        f"<p><b>{job.number}: {html.escape(job.title)}</b> {job.state}<br>"
        f"{bar if job.state == 'running' else ''}{said}</p>"
    )


def described(job: Job | None) -> str:
    """Return a job as HTML: its words, its notices, and its result where a browser can show it."""
    if job is None:
        return ""
    words = [f"<p>note: {html.escape(notice)}</p>" for notice in job.notices]
    if job.has_ended:
        words.insert(0, f'<pre style="white-space: pre-wrap">{html.escape(job.text)}</pre>')
    target = target_of(job.command)
    if job.state == "done" and target is not None and target.is_file():
        words.append(_shown(target))
    return "\n".join(words)


def _shown(path: Path) -> str:
    address = html.escape(f"/gradio_api/file={quote(str(path))}")
    link = f'<p><a href="{address}" download>{html.escape(path.name)}</a></p>'
    if path.suffix.lower() in SHOWN_VIDEOS:
        return f'<video src="{address}" controls style="width: 100%"></video>{link}'
    if path.suffix.lower() in SHOWN_STILLS:
        return f'<img src="{address}" style="width: 100%">{link}'
    return link


def _slider(job: Job | None) -> gr.ImageSlider:
    """Return the halves of a preview's picture, one over the other."""
    path = None
    match job:
        case Job(state="done", command=UpscaleCommand(preview=True, target=target)):
            path = picture_path(target)
    if path is None or not path.is_file():
        return gr.ImageSlider(value=None, visible=False)
    picture, _ = read_image(path)
    if picture.dtype == np.uint16:
        picture = (picture >> 8).astype(np.uint8)
    half = picture.shape[1] // 2
    return gr.ImageSlider((picture[:, :half], picture[:, half:]), format="png", visible=True)
