"""Every fixture of a folder agrees, as `benchmarks/parity.py` runs it."""

import sys
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.parametrize("system", ["fresco", "upscale_a_video"])
def test_every_fixture_agrees(shared, monkeypatch, system):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    import parity

    results = parity.run(shared / "parity" / system)
    assert len(results) > 10
    assert [result for result in results if not result.agrees] == []
    del sys.modules["parity"]
