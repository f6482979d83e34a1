"""The first look at what shall be generated: what cannot work is refused before a model is loaded.

Nothing here needs torch, so that a misspelt name is told of at once.
"""

from pathlib import Path

from legato.errors import DecodeError
from legato.models.spec import find_folder
from legato.pipelines.generate_options import GenerateOptions
from legato.pipelines.output import require_no_input, require_replaceable, require_report
from legato.pipelines.report import report_path
from legato.pipelines.run_options import RunOptions
from legato.video.codecs import CodecOptions, choose_codec
from legato.video.frame import Pixels
from legato.video.images import read_image


def examine(target: Path, options: GenerateOptions, run: RunOptions) -> CodecOptions:
    """Look at the files that are named, refuse what cannot work, and return the output's codec.

    Raises:
        InputError: a given frame cannot be read, or the target cannot be used.
        ModelError: there is no model of that name.
    """
    for name in (options.model, options.spatial):
        if name is not None:
            find_folder(name)
    codec = choose_codec(target, options.output, "images")
    require_replaceable(target, is_folder=codec.codec == "png")
    require_no_input(target, options.files.values())
    require_report(run.report or report_path(target), target)
    for path in (options.first_frame, options.last_frame):
        if path is not None:
            read_picture(path)
    return codec


def read_picture(path: Path) -> Pixels:
    """Return the picture of an image that the user named.

    Raises:
        DecodeError: there is no such file, or it holds no picture.
    """
    path = path.expanduser()
    if not path.is_file():
        raise DecodeError(f"{path}", why="no such file", fix="name an image that is there")
    return read_image(path)[0]
