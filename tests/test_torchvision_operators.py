"""A torchvision that was built for another torch does not keep diffusers from loading."""

import os
import subprocess
import sys

import pytest

# what the real one does where its own library does not load
BROKEN = """
import torch
torch.library.register_fake("torchvision::nms")(lambda dets, scores, iou_threshold: dets)
torch.library.register_fake("torchvision::qnms")(lambda dets, scores, iou_threshold: dets)
"""


@pytest.mark.parametrize("module", ["legato.models", "legato.training"])
def test_torchvision_loads_without_its_library(tmp_path, module):
    (tmp_path / "torchvision").mkdir()
    (tmp_path / "torchvision" / "__init__.py").write_text(BROKEN)
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}

    def run(code):
        command = [sys.executable, "-c", code]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    assert "torchvision::nms does not exist" in run("import torchvision").stderr
    done = run(f"import {module}; import torchvision")
    assert done.returncode == 0, done.stderr
