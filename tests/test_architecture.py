"""The shape of the code itself: layers, sizes, copies, names."""

import ast
from collections import defaultdict
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "legato"
MODULES = sorted(SOURCE.rglob("*.py"))
LAYERS = [
    {"errors", "axes"},
    {"options", "device", "tensor_file", "torchvision_operators"},
    {"video", "flow", "models"},
    {"diffusion"},
    {"pipelines"},
    {"evaluation"},
    {"training"},
    {"apps"},
]
RANK = {room: rank for rank, layer in enumerate(LAYERS) for room in layer}
MAX_FILE_LINES, MAX_FUNCTION_LINES, MAX_NESTING, MAX_COPIED_PERCENT = 500, 60, 3, 2
COPY_WINDOW = 8
DECISIONS = (ast.If, ast.For, ast.While)
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def name_of(path):
    return path.relative_to(SOURCE).as_posix()


@cache
def parse(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def rooms_imported(path):
    names = set()
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{name_of(path)} imports relatively"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    parts = (name.split(".") for name in names if name.startswith("legato."))
    return {part[1] for part in parts} & set(RANK)


def functions():
    for path in MODULES:
        for node in ast.walk(parse(path)):
            if isinstance(node, FUNCTIONS):
                yield path, node


def body_lines(function):
    documented = ast.get_docstring(function) is not None
    docstring = function.body[0].end_lineno - function.body[0].lineno + 1 if documented else 0
    return function.end_lineno - function.lineno + 1 - docstring


def nesting(node, depth=0):
    """How deep loops and branches lie in one another; an `elif` is no deeper than its `if`."""
    deepest = depth
    for field, value in ast.iter_fields(node):
        for child in value if isinstance(value, list) else [value]:
            if not isinstance(child, ast.AST) or isinstance(child, (*FUNCTIONS, ast.ClassDef)):
                continue
            is_elif = isinstance(node, ast.If) and field == "orelse" and isinstance(child, ast.If)
            deeper = isinstance(child, DECISIONS) and not is_elif
            deepest = max(deepest, nesting(child, depth + deeper))
    return deepest


def copied_percent(paths):
    """Percent of code lines inside a run of eight lines that also stands in another file."""
    files = [[line.strip() for line in path.read_text("utf-8").splitlines()] for path in paths]
    files = [[line for line in lines if line and not line.startswith("#")] for lines in files]
    homes = defaultdict(set)
    for number, lines in enumerate(files):
        for start in range(len(lines) - COPY_WINDOW + 1):
            homes["\n".join(lines[start : start + COPY_WINDOW])].add(number)
    copied = 0
    for lines in files:
        marked = set()
        for start in range(len(lines) - COPY_WINDOW + 1):
            if len(homes["\n".join(lines[start : start + COPY_WINDOW])]) > 1:
                marked |= set(range(start, start + COPY_WINDOW))
        copied += len(marked)
    return 100 * copied / sum(map(len, files))


def test_there_are_eight_rooms_and_five_small_files():
    entries = {path.name.removesuffix(".py") for path in SOURCE.iterdir()}
    assert entries - {"__init__", "__pycache__", "py.typed"} == set(RANK)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_point_down(path):
    home = path.relative_to(SOURCE).parts[0].removesuffix(".py")
    if home == "__init__":
        return  # its public names are loaded on use, from any room
    upward = {room for room in rooms_imported(path) if room != home and RANK[room] >= RANK[home]}
    assert not upward, f"{home} may not import {upward}"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_files_are_short_and_say_what_they_are(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MAX_FILE_LINES
    assert ast.get_docstring(parse(path))


def test_functions_are_short():
    long = {
        f"{name_of(path)}:{node.name}": body_lines(node)
        for path, node in functions()
        if body_lines(node) > MAX_FUNCTION_LINES
    }
    assert not long


def test_functions_are_flat():
    deep = {
        f"{name_of(path)}:{node.name}": nesting(node)
        for path, node in functions()
        if nesting(node) > MAX_NESTING
    }
    assert not deep


def test_nothing_is_named_for_no_concept():
    vague = {"utils", "util", "helpers", "common", "misc"}
    assert not [name_of(path) for path in MODULES if path.stem in vague]


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_only_apps_print_and_exit(path):
    if path.is_relative_to(SOURCE / "apps"):
        return
    calls = {ast.unparse(node.func) for node in ast.walk(parse(path)) if isinstance(node, ast.Call)}
    assert not calls & {"print", "sys.exit", "exit", "quit", "input"}


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_annotations_can_be_checked(path):
    futures = [
        node
        for node in ast.walk(parse(path))
        if isinstance(node, ast.ImportFrom) and node.module == "__future__"
    ]
    assert not futures, "annotations that are strings are not checked by the tests"


def test_lines_are_not_copied_between_files():
    assert copied_percent(MODULES) <= MAX_COPIED_PERCENT


def test_architecture_page_names_every_room():
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    missing = [room for room in RANK if f"`{room}" not in text]
    assert not missing
