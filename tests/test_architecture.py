"""Rules about the shape of the code itself."""

import ast
from pathlib import Path

import pytest

LAYERS = [
    {"errors", "axes", "device"},
    {"video", "flow", "models"},
    {"diffusion"},
    {"pipelines"},
    {"evaluation"},
    {"training"},
    {"apps"},
]
RANK = {package: rank for rank, layer in enumerate(LAYERS) for package in layer}
REPOSITORY = Path(__file__).parents[1]
ROOT = REPOSITORY / "src" / "legato"
MODULES = sorted(path for path in ROOT.rglob("*.py") if path.parent != ROOT or path.stem in RANK)
MOST_LINES, MOST_FUNCTION_LINES = 500, 60
BANNED_NAMES = {"utils", "util", "helpers", "misc", "common"}


def name_of(path):
    return str(path.relative_to(ROOT))


def rooms_imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("legato."):
            yield node.module.split(".")[1]
        if isinstance(node, ast.Import):
            yield from (a.name.split(".")[1] for a in node.names if a.name.startswith("legato."))


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_only_from_lower_layers(path):
    home = path.relative_to(ROOT).parts[0].removesuffix(".py")
    upward = {
        other for other in rooms_imported(path) if other != home and RANK[other] >= RANK[home]
    }
    assert not upward, f"{home} may not import {upward}"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_no_module_is_long_or_vaguely_named(path):
    assert len(path.read_text().splitlines()) <= MOST_LINES
    assert path.stem not in BANNED_NAMES


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_no_function_is_long(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef):
            first = node.body[0]
            has_docstring = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
            docstring = first.end_lineno - first.lineno + 1 if has_docstring else 0
            length = node.end_lineno - node.lineno + 1 - docstring
            assert length <= MOST_FUNCTION_LINES, f"{node.name}: {length} lines"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_only_the_apps_print(path):
    if path.relative_to(ROOT).parts[0] == "apps":
        return
    calls = (n.func for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Call))
    assert not [c for c in calls if isinstance(c, ast.Name) and c.id == "print"]


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_every_module_says_what_it_is_for(path):
    assert ast.get_docstring(ast.parse(path.read_text()))


def test_the_architecture_page_names_every_room():
    text = (REPOSITORY / "ARCHITECTURE.md").read_text()
    missing = [room for room in RANK if f"`{room}" not in text]
    assert not missing
