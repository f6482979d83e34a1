"""Fixtures that every room's tests share."""

from pathlib import Path

import pytest
import torch
from hypothesis import settings

settings.register_profile("untimed", deadline=None)  # a test asserts no time
settings.load_profile("untimed")

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def shared():
    """The folder of fixtures and clips beside the project; tests skip where it is absent."""
    folder = ROOT.parent / "shared"
    if not folder.exists():
        pytest.skip("no folder `shared` beside the project: its fixtures and clips are not here")
    return folder


@pytest.fixture
def convert(capsys):
    """Run `legato models convert`; return the exit code and what it says."""

    from legato.apps import cli  # not earlier: types are checked in what is imported afterwards

    def run(*arguments):
        code = cli.main(["models", "convert", *map(str, arguments)])
        said = capsys.readouterr()
        return code, said.out + said.err

    return run
