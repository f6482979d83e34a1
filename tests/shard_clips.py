"""Small shards of moving pictures, for tests of the recipe at full size."""

import cv2
import numpy as np
from clips import write_clip

from legato.training.shard_sources import ShardOptions, make_shards


def write_videos(folder, names, *, frames=10, size=(80, 72)):
    """Write lossless clips of blotches that move, and a caption beside the first."""
    folder.mkdir(parents=True)
    width, height = size
    for seed, name in enumerate(names):
        rng = np.random.default_rng(seed)
        noise = rng.integers(0, 256, (height + frames, width + frames, 3), dtype=np.uint8)
        picture = cv2.normalize(cv2.blur(noise, (7, 7)), None, 20, 235, cv2.NORM_MINMAX)
        clip = np.stack([picture[k : k + height, k : k + width] for k in range(frames)])
        write_clip(folder / f"{name}.mkv", clip, sound=False)
    (folder / f"{names[0]}.txt").write_text("a cat\n")
    return folder


def small_shards(root, names, **changes):
    """Return a folder of shards of such clips."""
    videos = write_videos(root / "videos", names)
    options = {"frames": 4, "size": 64, "clips_per_source": 2}
    return make_shards(ShardOptions(data=(videos,), out=root / "shards", **options | changes))
