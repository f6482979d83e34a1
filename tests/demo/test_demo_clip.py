import runpy
import sys
from pathlib import Path

import av
import numpy as np
import pytest

DEMO = Path(__file__).parents[2] / "demo"


def frames(path):
    with av.open(str(path)) as container:
        return np.stack([f.to_ndarray(format="rgb24") for f in container.decode(video=0)])


def test_clip_is_small_moves_and_sounds():
    path = DEMO / "clip.mp4"
    assert path.stat().st_size <= 1_000_000
    clip = frames(path).astype(float)
    assert clip.shape == (72, 108, 192, 3)
    assert np.abs(np.diff(clip, axis=0)).mean(axis=(1, 2, 3)).min() > 1
    with av.open(str(path)) as container:
        sound = np.concatenate([f.to_ndarray()[0] for f in container.decode(audio=0)])
    assert 2.9 < len(sound) / 44100 < 3.2
    assert np.abs(sound).max() > 0.2


@pytest.mark.slow
def test_the_script_makes_the_clip(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["make_clip.py", str(tmp_path / "clip.mp4")])
    runpy.run_path(str(DEMO / "make_clip.py"), run_name="__main__")
    # numpy and OpenCV may round differently on another processor: no frame may differ visibly
    difference = np.abs(frames(tmp_path / "clip.mp4").astype(int) - frames(DEMO / "clip.mp4"))
    assert difference.mean() < 0.5
