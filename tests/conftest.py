"""Fixtures that every room's tests share."""

from pathlib import Path

import pytest
import torch

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
