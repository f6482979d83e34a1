"""`legato models list`, `inspect MODEL`, `match MODEL...`; the way to `convert` and `pull`."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated

import tyro

from legato.apps.arguments import parse
from legato.apps.results import print_json, tell
from legato.errors import InputError, ModelError
from legato.models.manifest import LAYERS

if TYPE_CHECKING:
    from legato.models.inspection import ModelFacts

LENDING = "temporal layers for other image models (legato models match); no command samples with it"
"""Of a folder whose job that is."""
BROKEN = 3
"""Exit code of `inspect` where something is missing or damaged, as for any bad model."""


@dataclass(frozen=True, kw_only=True)
class ListCommand:
    """List the models that are known by name: which are here, and what the others need."""

    json: bool = False
    """Print the list as JSON."""


@dataclass(frozen=True, kw_only=True)
class InspectCommand:
    """Say what a model is made of, and what of it is missing or damaged.

    Weights are not loaded; every file is hashed and compared with legato.json.
    """

    model: tyro.conf.Positional[Annotated[str, tyro.conf.arg(metavar="NAME_OR_FOLDER")]]
    """Name of a model, or path of its folder."""

    json: bool = False
    """Print the facts as JSON."""


@dataclass(frozen=True, kw_only=True)
class MatchCommand:
    """Say which temporal layers attach to which image models, and why others do not.

    All temporal layers among the models are held beside all image models among them.
    """

    models: tyro.conf.Positional[
        Annotated[tuple[str, ...], tyro.conf.arg(metavar="[NAME_OR_FOLDER ...]")]
    ] = ()
    """Names of models, or paths of model folders, also of diffusers. Default: all that are here."""

    json: bool = False
    """Print the answers as JSON."""


USAGE = """usage: legato models list
       legato models inspect NAME_OR_FOLDER
       legato models match [NAME_OR_FOLDER ...]
       legato models convert IN OUT
       legato models pull NAME
"""


def run(arguments: Sequence[str]) -> int:
    """Run the command and return its exit code."""
    actions = {
        "list": _list,
        "inspect": _inspect,
        "match": _match,
        "convert": _convert,
        "pull": _pull,
    }
    if not arguments or arguments[0] in ("-h", "--help"):
        sys.stdout.write(USAGE)
        return 0 if arguments else 2
    if arguments[0] not in actions:
        raise InputError(
            f"models {arguments[0]!r}",
            why="there is no such action",
            fix=f"use {' or '.join(actions)}",
        )
    return actions[arguments[0]](arguments[1:])


def _convert(arguments: Sequence[str]) -> int:
    from legato.apps.model_sources import convert

    return convert(arguments)


def _pull(arguments: Sequence[str]) -> int:
    from legato.apps.model_sources import pull

    return pull(arguments)


def _list(arguments: Sequence[str]) -> int:
    command = parse(ListCommand, arguments, name="models list")
    from legato.models.spec import SPECS, find_folder

    known: dict[str, dict[str, str | None]] = {}
    for name, spec in SPECS.items():
        folder = fix = None
        try:
            folder = str(find_folder(name))
        except ModelError as error:
            fix = error.fix
        known[name] = {"job": spec.job, "licence": spec.licence, "needs": spec.needs}
        known[name] |= {"folder": folder, "fix": fix}
    if command.json:
        print_json(known)
    else:
        sys.stdout.write(_listed(known))
    return 0


def _listed(known: Mapping[str, Mapping[str, str | None]]) -> str:
    text = ""
    for name, it in known.items():
        where = f"installed: {it['folder']}" if it["folder"] else f"not installed: {it['fix']}"
        needs = f"    {it['needs']}\n" if it["needs"] else ""
        text += f"{name}  ({it['job']}, {it['licence']})\n{needs}    {where}\n"
    return text


def _inspect(arguments: Sequence[str]) -> int:
    command = parse(InspectCommand, arguments, name="models inspect")
    from legato.models.inspection import inspect_model
    from legato.models.spec import find_folder

    facts = inspect_model(find_folder(command.model))
    tell(facts, describe, as_json=command.json)
    return BROKEN if facts.problems else 0


def _match(arguments: Sequence[str]) -> int:
    command = parse(MatchCommand, arguments, name="models match")
    from legato.models.spec import find_folder, installed
    from legato.models.transfer import matches

    found = matches([find_folder(name) for name in command.models or installed()])
    if command.json:
        print_json([asdict(match) for match in found])
        return 0
    for match in found:
        verdict = "fit" if match.fits else f"do not fit: {match.reason}"
        lines = [f"{match.layers} -> {match.image}", verdict, *match.notes]
        sys.stdout.write("\n    ".join(lines) + "\n")
    if not found:
        sys.stdout.write("no temporal layers and image model to hold side by side\n")
    return 0


def describe(facts: "ModelFacts") -> str:
    """Return the facts as lines for people."""
    scale = f" x{facts.scale}" if facts.scale and facts.job == "upscale" else ""
    use = [f"  {'use':<17}{LENDING}"] if facts.job == LAYERS else []
    lines = [
        f"{facts.name}: {facts.job}{scale}, family {facts.family}, licence {facts.licence}",
        f"  {'folder':<17}{facts.folder}",
        f"  {'predicts':<17}{facts.prediction_type or 'unknown'}",
        *use,
    ]
    if facts.scale and not scale and facts.job != LAYERS:
        lines.append(f"  {'latent cell':<17}{facts.scale} pixels each way")
    for name, part in facts.parts.items():
        sites = ", ".join(f"{count} {kind}" for kind, count in part.sites.items())
        precision = " and ".join(part.precision)
        layers = f" at {sites}" if sites else ""
        lines.append(f"  {name:<17}{part.parameters:>13,} parameters, {precision}{layers}")
    sha256 = f"{facts.sha256} of {facts.files} files" if facts.sha256 else "not recorded"
    lines.append(f"  {'sha256':<17}{sha256}")
    verdict = [f"  {'problem':<17}{problem}" for problem in facts.problems]
    return "\n".join([*lines, *(verdict or [f"  {'state':<17}whole"])])
