"""`legato train RECIPE`: the embedded model's, an upscaler's at full size, and shards for it."""

import sys
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

from legato.apps.arguments import parse
from legato.errors import InputError

RECIPES = {
    "embedded": "repeat the recipe of the shipped model on one's own clips",
    "upscale_a_video": "teach an x4 image upscaler about time, on any number of GPUs",
    "shards": "cut folders of videos into the clips that upscale_a_video reads",
}


def run(arguments: Sequence[str]) -> int:
    """Train a recipe, or make its data, and print the folder of the result.

    Raises:
        InputError: no such recipe, or the packages for training are not installed.
    """
    name, rest = next(iter(arguments), "--help"), arguments[1:]
    if name in ("-h", "--help"):
        lines = [f"  {recipe:<17}{text}\n" for recipe, text in RECIPES.items()]
        sys.stdout.write("usage: legato train RECIPE ...\n\n" + "".join(lines))
        return 0 if arguments else 2
    if name not in RECIPES:
        raise InputError(
            f"recipe {name!r}", why="there is no such recipe", fix=f"use {' or '.join(RECIPES)}"
        )
    if find_spec("accelerate") is None:
        raise InputError(
            "legato train",
            why="the package accelerate is not installed",
            fix="pip install 'legato[train]'",
        )
    sys.stdout.write(f"{RUNS[name](rest)}\n")
    return 0


def _embedded(arguments: Sequence[str]) -> Path:
    from legato.training.recipes import TrainOptions, train_embedded  # slow to import

    return train_embedded(parse(TrainOptions, arguments, name="train embedded"), log=_say)


def _upscale_a_video(arguments: Sequence[str]) -> Path:
    from legato.training.upscaler_recipes import TrainUpscalerOptions, train_upscale_a_video

    options = parse(TrainUpscalerOptions, arguments, name="train upscale_a_video")
    return train_upscale_a_video(options, log=_say)


def _shards(arguments: Sequence[str]) -> Path:
    from legato.training.shard_sources import ShardOptions, make_shards

    return make_shards(parse(ShardOptions, arguments, name="train shards"), log=_say)


RUNS: dict[str, Callable[[Sequence[str]], Path]] = {
    "embedded": _embedded,
    "upscale_a_video": _upscale_a_video,
    "shards": _shards,
}


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()
