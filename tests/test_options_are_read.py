"""Every option is read where something is done with it: none is listed by `--help` alone.

Names are compared, not types: an option passes where another of the same name is read.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1] / "src" / "legato"


def is_of_options(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.ClassDef)
        and node.name.endswith(("Options", "Command"))
        and any("dataclass" in ast.unparse(decorator) for decorator in node.decorator_list)
    )


def fields_of(tree: ast.AST) -> Iterator[str]:
    for node in filter(is_of_options, ast.walk(tree)):
        for entry in node.body:
            if isinstance(entry, ast.AnnAssign) and isinstance(entry.target, ast.Name):
                yield f"{node.name}.{entry.target.id}"


def reads_of(tree: ast.AST) -> Iterator[str]:
    """Yield names of attributes that are read, but where options are only held to their range."""
    if isinstance(tree, ast.FunctionDef) and tree.name == "__post_init__":
        return
    if isinstance(tree, ast.Attribute) and isinstance(tree.ctx, ast.Load):
        yield tree.attr
    for child in ast.iter_child_nodes(tree):
        yield from reads_of(child)


def unread(*sources: str) -> list[str]:
    trees = [ast.parse(source) for source in sources]
    read = {name for tree in trees for name in reads_of(tree)}
    fields = [name for tree in trees for name in fields_of(tree)]
    assert fields
    return sorted(name for name in fields if name.partition(".")[2] not in read)


def test_every_option_is_read():
    assert unread(*(path.read_text(encoding="utf-8") for path in ROOT.rglob("*.py"))) == []


def test_an_option_that_is_only_checked_is_found():
    options = """
@dataclass(frozen=True)
class TurnOptions:
    speed: float = 1.0
    steps: int = 1
    def __post_init__(self):
        within("steps", self.steps, 1)
"""
    assert unread(options, "turn(options.speed)") == ["TurnOptions.steps"]
    assert unread(options, "turn(options.speed, o.steps)") == []
    assert unread(options, "options.speed = 1") == ["TurnOptions.speed", "TurnOptions.steps"]
