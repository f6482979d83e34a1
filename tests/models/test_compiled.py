"""A compiled U-Net gives what it gave before, and says so where torch cannot compile."""

import inspect
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from legato.errors import ResourceError
from legato.models import compiled
from legato.models.compiled import require_compiler

SCRIPT = Path(__file__).parents[1] / "traced_network.py"
ROUNDING = 1e-4
AS_BEFORE = ("uncompiled", "same", "other size", "layers off", "weights read again")


def told(family, backend):
    """Return what the script found, and the largest difference where there should be none."""
    run = [sys.executable, str(SCRIPT), family, backend]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    found = json.loads(subprocess.run(run, check=True, stdout=subprocess.PIPE, env=env).stdout)
    return found, max(found[name] for name in AS_BEFORE if name in found)


@pytest.mark.slow
def test_traced_blocks_compute_the_same():
    found, apart = told("video_ldm", "eager")
    assert set(AS_BEFORE) < set(found)
    assert apart < ROUNDING
    assert found["layers"] > 0.01
    assert found["graphs while uncompiled"] == 0
    assert found["graphs"] > 10
    assert found["breaks"] == 0


@pytest.mark.slow
def test_layers_that_see_the_whole_clip_are_traced_too():
    found, apart = told("upscale_a_video", "eager")
    assert apart < ROUNDING
    assert found["graphs"] > 10


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("c++") is None, reason="torch compiles by a C++ compiler")
def test_compiled_blocks_differ_by_rounding():
    found, apart = told("video_ldm", "inductor")
    assert apart < ROUNDING
    assert found["graphs"] > 10


def test_a_compiler_that_is_missing_is_told(monkeypatch):
    def fail(*_, isolate_recompiles=False):
        raise RuntimeError("No working C++ compiler found. It was looked for.\nAt length.")

    monkeypatch.setattr(torch, "compile", fail)
    with pytest.raises(ResourceError, match=r"compile=True.*for cpu here: No working C.*leave it"):
        require_compiler(torch.device("cpu"))


def test_a_torch_that_is_too_old_is_told(monkeypatch):
    monkeypatch.setattr(inspect, "signature", lambda _: inspect.Signature())
    with pytest.raises(ResourceError, match=r"cannot keep blocks .* apart.*a newer torch"):
        require_compiler(torch.device("cpu"))
    assert compiled.APART
