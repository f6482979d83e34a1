"""VMAF through libvmaf, in the ffmpeg program that the package `imageio-ffmpeg` brings."""

import json
import subprocess
import tempfile
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8
from numpy import ndarray

from legato.errors import ResourceError
from legato.video.atomic import writing


def find_vmaf() -> tuple[Path | None, str]:
    """Return the program that computes VMAF, or None and the reason why its column is missing."""
    mend = "pip install 'legato[metrics]'"
    try:
        import imageio_ffmpeg

        program = Path(imageio_ffmpeg.get_ffmpeg_exe())
    except ImportError:
        return None, f"no VMAF: the package imageio-ffmpeg is not installed; {mend}"
    except RuntimeError:  # no program for this system in the package
        return None, "no VMAF: imageio-ffmpeg brings no ffmpeg for this system; install ffmpeg"
    filters = subprocess.run(
        [program, "-hide_banner", "-filters"], capture_output=True, check=False
    )
    if b" libvmaf " not in filters.stdout:
        return None, f"no VMAF: {program} was built without libvmaf; {mend}"
    return program, ""


class VmafMeter:
    """VMAF of a clip whose frames come one by one; a context manager with two files on disk.

    Args:
        program: from `find_vmaf`.
    """

    def __init__(self, program: Path) -> None:
        self.program = program
        self._folder = tempfile.TemporaryDirectory()
        self._files = [Path(self._folder.name) / name for name in ("result.yuv", "truth.yuv")]
        self._size = (0, 0)

    def add(self, picture: UInt8[ndarray, "H W 3"], truth: UInt8[ndarray, "H W 3"]) -> None:
        """Store one more frame as BT.601 4:2:0; an odd last row or column is left out.

        Raises:
            ResourceError: the disk is full.
        """
        rows, cols = (side // 2 * 2 for side in truth.shape[:2])
        self._size = cols, rows
        for path, pixels in zip(self._files, (picture, truth), strict=True):
            even = np.ascontiguousarray(pixels[:rows, :cols])
            with writing(path), path.open("ab") as file:
                file.write(np.asarray(cv2.cvtColor(even, cv2.COLOR_RGB2YUV_I420)).tobytes())

    def scores(self) -> list[float]:
        """Return VMAF of each frame, 0 to 100; model vmaf_v0.6.1, made for 1080 rows on a screen.

        Raises:
            ResourceError: the program fails.
        """
        raw = ["-f", "rawvideo", "-pix_fmt", "yuv420p", "-s", "{}x{}".format(*self._size)]
        inputs = [part for file in self._files for part in (*raw, "-i", file.name)]
        job = ["-lavfi", "libvmaf=log_fmt=json:log_path=vmaf.json", "-f", "null", "-"]
        done = subprocess.run(
            [str(self.program), "-v", "error", *inputs, *job],
            cwd=self._folder.name,
            capture_output=True,
            check=False,
        )
        log = Path(self._folder.name) / "vmaf.json"
        if done.returncode or not log.exists():
            raise ResourceError(
                f"VMAF by {self.program}",
                why=done.stderr.decode(errors="replace").strip() or "it wrote no scores",
                fix="install another version of imageio-ffmpeg, or remove it: VMAF is left out",
            )
        frames = json.loads(log.read_text())["frames"]
        return [float(frame["metrics"]["vmaf"]) for frame in frames]

    def __enter__(self) -> "VmafMeter":
        return self

    def __exit__(self, *_: object) -> None:
        self._folder.cleanup()
