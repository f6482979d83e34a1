"""Help that reads as whole sentences, whatever the terminal's width."""

import re
from itertools import pairwise

import pytest

from legato.apps.arguments import parse
from legato.apps.form import documented
from legato.apps.generate import GenerateCommand
from legato.apps.help import tidied
from legato.apps.plan import PlanCommand
from legato.apps.upscale import UpscaleCommand

SAID = """usage: legato x [-h] IN [{None}|PATH]

A sentence that is longer than the terminal is wide.

 options
 -------------------------------------
  What it is
  for.
  -------------------------------------
  -h, --help   show this help
  --a {None}|INT
               One of three, that
               breaks early. (default:
               None)
  --b          No. (default: False)
  --c {None,d,e}
               A dash - and more, as
               - written. (default: d)
"""

TIDY = """usage: legato x [-h] IN [PATH]

A sentence that is longer than the
terminal is wide.

 options
 -------------------------------------
  What it is for.
  -------------------------------------
  -h, --help   show this help
  --a INT      One of three, that breaks
               early.
  --b          No.
  --c {d,e}    A dash - and more, as -
               written. (default: d)
"""


def help_of(command, capsys):
    with pytest.raises(SystemExit):
        parse(command, ["--help"], name="test")
    return capsys.readouterr().out


def test_paragraphs_are_whole_and_empty_defaults_unsaid():
    assert tidied(SAID, 40) == TIDY
    assert tidied(TIDY, 40) == TIDY


def test_what_is_no_help_stays():
    assert tidied("one\n  two\n", 40) == "one\n  two\n"


@pytest.mark.parametrize("command", [UpscaleCommand, GenerateCommand, PlanCommand])
@pytest.mark.parametrize("columns", [60, 80, 140])
def test_lines_are_full_and_within_the_terminal(command, columns, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    said = help_of(command, capsys)
    assert "None" not in said
    assert "(default: False)" not in said
    lines = said.splitlines()
    at = next(line.index("show this help") for line in lines if "-h, --help" in line)
    columns = min(columns, 80)  # wider lines are hard to read
    assert max(len(line) for line in lines[1:]) <= columns
    for line, after in pairwise(lines):
        goes_on = after[:at].isspace() and line[:at].isspace() and line and after
        if goes_on:  # the next word had no room
            assert len(line) + 1 + len(after.split()[0]) > columns


def test_places_are_named_and_every_word_arrives(capsys):
    said = help_of(UpscaleCommand, capsys)
    assert said.startswith("usage: legato test [-h] [OPTIONS] IN OUT\n")
    words = " ".join(said.split())
    told = documented(UpscaleCommand)
    assert [name for name, text in told.items() if " ".join(text.split()) not in words] == []
    assert re.search(r"\[OUT\] +Where the output", help_of(PlanCommand, capsys))
