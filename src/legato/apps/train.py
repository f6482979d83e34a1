"""`legato train RECIPE`: recipes of the shipped models, of upscalers at full size, and shards."""

import sys
from collections.abc import Sequence
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import NamedTuple

from legato.apps.arguments import parse
from legato.apps.interrupt import StopOnSignal
from legato.errors import InputError


class Recipe(NamedTuple):
    """Where a recipe is found; its module is slow to import."""

    says: str
    module: str
    options: str
    function: str


RECIPES = {
    "embedded": Recipe(
        "repeat the recipe of the shipped upscaler on one's own clips",
        "legato.training.recipes",
        "TrainOptions",
        "train_embedded",
    ),
    "upscale_a_video": Recipe(
        "teach an x4 image upscaler about time, on any number of GPUs",
        "legato.training.upscaler_recipes",
        "TrainUpscalerOptions",
        "train_upscale_a_video",
    ),
    "shards": Recipe(
        "cut folders of videos into the clips that other recipes read",
        "legato.training.shard_sources",
        "ShardOptions",
        "make_shards",
    ),
    "frames": Recipe(
        "tune an image model on single frames of videos",
        "legato.training.image_recipes",
        "TuneOptions",
        "train_frames",
    ),
    "dreambooth": Recipe(
        "teach an image model a new word for what a few pictures show",
        "legato.training.image_recipes",
        "DreamBoothOptions",
        "train_dreambooth",
    ),
    "video_ldm": Recipe(
        "teach an image model about time, by captioned clips: it then generates videos",
        "legato.training.video_ldm_recipe",
        "TrainVideoLdmOptions",
        "train_video_ldm",
    ),
    "motion": Recipe(
        "teach a generating model the motion of a few clips, or of one",
        "legato.training.motion_recipe",
        "MotionOptions",
        "train_motion",
    ),
    "driving": Recipe(
        "an image model of rendered driving scenes",
        "legato.training.driving.recipe",
        "DrivingOptions",
        "train_driving",
    ),
    "driving_x4": Recipe(
        "an upsampler of rendered driving scenes",
        "legato.training.driving.upsampler",
        "UpsamplerOptions",
        "train_upsampler",
    ),
}


def run(arguments: Sequence[str]) -> int:
    """Train a recipe, or make its data, and print the folder of the result.

    Raises:
        InputError: no such recipe, or the packages for training are not installed.
        Interrupted: a signal came while it learned; a checkpoint was written.
    """
    name = next(iter(arguments), "--help")
    if name in ("-h", "--help"):
        lines = [f"  {key:<17}{recipe.says}\n" for key, recipe in RECIPES.items()]
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
    recipe = RECIPES[name]
    module = import_module(recipe.module)
    options = parse(getattr(module, recipe.options), arguments[1:], name=f"train {name}")
    stopped_by = import_module("legato.training.stopping").stopped_by
    with stopped_by(partial(StopOnSignal, behind="step")):
        made = getattr(module, recipe.function)(options, log=_say)
    sys.stdout.write(f"{made}\n")
    return 0


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()
