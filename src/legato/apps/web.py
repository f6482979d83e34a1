"""`legato web`: upscale, generate and translate on a page in the browser."""

import importlib.util
import os
import socket
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from legato.apps.arguments import parse
from legato.errors import InputError, ResourceError, first_sentence, refused_by_system
from legato.pipelines.limits import within

UPLOADS = ".uploads"


@dataclass(frozen=True, kw_only=True)
class WebCommand:
    """Serve a page where upscale, generate and translate are forms. Jobs run one after another; a
    stopped one goes on when it is begun again. Needs gradio: pip install 'legato[page]'."""

    folder: tyro.conf.Positional[Annotated[Path, tyro.conf.arg(metavar="[FOLDER]")]] = Path(
        "legato-results"
    )
    """Where results go; made if need be. What is uploaded stays in .uploads there, so that stopped
    jobs can go on, until you delete it."""

    host: str = "127.0.0.1"
    """Address to listen at. Whoever reaches it can read this user's videos and write results: the
    default serves this computer alone."""

    port: int = 7860
    """Port to listen at."""

    open: bool = False
    """Open the page in the browser."""

    def __post_init__(self) -> None:
        within("port", self.port, 1, 65535)


def run(arguments: Sequence[str]) -> int:
    """Serve until Ctrl-C; return the exit code."""
    command = parse(WebCommand, arguments, name="web")
    folder = _prepared(command.folder)
    if importlib.util.find_spec("gradio") is None:
        raise ResourceError(
            "legato web", why="gradio is not installed", fix="pip install 'legato[page]'"
        )
    _require_free(command.host, command.port)
    # read by gradio: big uploads stay with their results, and nothing is told to anybody
    os.environ["GRADIO_TEMP_DIR"] = str(folder / UPLOADS)
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    from legato.apps.page import build
    from legato.apps.queue import Queue

    queue = Queue()
    page = build(queue, folder)
    _, address, _ = page.launch(
        server_name=command.host,
        server_port=command.port,
        inbrowser=command.open,
        allowed_paths=[str(folder)],
        prevent_thread_lock=True,
        quiet=True,
        footer_links=[],
        ssr_mode=False,
    )
    sys.stdout.write(f"{address} (Ctrl-C ends it)\n")
    sys.stdout.flush()
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        sys.stderr.write("\nstopping behind this segment; once more stops at once\n")
        queue.close()
        queue.wait()
    finally:
        page.close(verbose=False)
    return 0


def _require_free(host: str, port: int) -> None:
    """Refuse an address where the page could not be served.

    Raises:
        InputError: it is taken, or none of this computer.
    """
    try:
        socket.create_server((host, port)).close()
    except OSError as error:
        raise InputError(
            f"{host}:{port}",
            why=f"nothing can listen there ({first_sentence(error)})",
            fix="choose another --port or --host",
        ) from error


def _prepared(folder: Path) -> Path:
    """Return the folder, made if need be, as an absolute path.

    Raises:
        InputError: it cannot be one.
        ResourceError: the disk is full.
    """
    path = folder.expanduser().absolute()
    try:
        path.mkdir(exist_ok=True)
    except OSError as error:
        if refused := refused_by_system(error, path):
            raise refused from error
        raise InputError(
            f"{path}", why="no folder can be made there", fix="name another folder"
        ) from error
    return path
