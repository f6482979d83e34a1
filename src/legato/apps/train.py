"""`legato train RECIPE`: repeat the recipes of the shipped models, or train on one's own clips."""

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec

from legato.apps.arguments import parse
from legato.errors import InputError

RECIPES: dict[str, tuple[str, str, str]] = {
    "embedded": ("legato.training.recipes", "TrainOptions", "train_embedded"),
    "driving": ("legato.training.driving.recipe", "DrivingOptions", "train_driving"),
}
"""Module, options and function by name; the modules are slow to import."""


def run(arguments: Sequence[str]) -> int:
    """Train a recipe and print the folder of the model.

    Raises:
        InputError: no such recipe, or the packages for training are not installed.
    """
    asks_help = bool(arguments) and arguments[0] in ("-h", "--help")
    name = "embedded" if asks_help else next(iter(arguments), "")
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
    module, options_name, function = RECIPES[name]
    recipe = import_module(module)
    given = arguments if asks_help else arguments[1:]
    options = parse(getattr(recipe, options_name), given, name=f"train {name}")

    def log(line: str) -> None:
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()

    sys.stdout.write(f"{getattr(recipe, function)(options, log=log)}\n")
    return 0
