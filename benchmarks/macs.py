"""Multiply-accumulates per output pixel, counted as executed in a real upscaling job.

    python benchmarks/macs.py [CLIP] [--frames 72]

Window overlap, context between segments, temporal layers and decoder are all in it; so is what the
job runs beforehand to measure its memory. Exit code 1: more than 120 kMAC.
"""

import argparse
import math
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import torch
from media import legato_options, write_lossless
from speed import DEMO, clip_of
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

import legato
from legato.evaluation.report import Bar

LIMIT_KMAC = 120


def attention_flop(query, key, value, *args, out_shape=None, **kwargs) -> int:  # noqa: ANN001, ANN002, ANN003
    """Count the CPU's fused attention, which torch's table leaves out; takes shapes."""
    return int(sdpa_flop_count(query, key, value))


def linear_flop(x, weight, *args, out_shape=None, **kwargs) -> int:  # noqa: ANN001, ANN002, ANN003
    """Count oneDNN's linear layer, another one that the table leaves out; takes shapes."""
    return 2 * math.prod(x) * weight[0]


def product_flop(total, left, right, *args, out_shape=None, **kwargs) -> int:  # noqa: ANN001, ANN002, ANN003
    """Count a product of matrices that is added in place; takes shapes."""
    return 2 * math.prod(left) * right[1]


def int8_flop(x, x_scale, x_zero, weight, *args, out_shape=None, **kwargs) -> int:  # noqa: ANN001, ANN002, ANN003
    """Count a convolution of 8-bit integers, a multiplication as one; takes shapes."""
    return 2 * math.prod(out_shape) * math.prod(weight[1:])


EXTRA = {
    torch.ops.aten.addmm_: product_flop,
    torch.ops.onednn.qconv2d_pointwise: int8_flop,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: attention_flop,
    torch.ops.mkldnn._linear_pointwise: linear_flop,
}


def report(counts: Mapping[str, Mapping[object, int]], num_pixels: int) -> float:
    """Print kMAC per output pixel by operator; return their sum."""
    totals = {str(name): flops / 2000 / num_pixels for name, flops in counts["Global"].items()}
    for name, kmac in sorted(totals.items(), key=lambda item: -item[1]):
        print(f"{kmac:9.3f} kMAC/px  {name}")
    return sum(totals.values())


def main() -> int:
    """Count one job."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clip", type=Path, nargs="?", default=DEMO)
    parser.add_argument("--frames", type=int, default=72)
    arguments = parser.parse_args()
    clip = clip_of(arguments.clip, arguments.frames)
    num_pixels = 16 * clip[..., 0].size
    with tempfile.TemporaryDirectory() as folder:
        source = write_lossless(Path(folder) / "in.mkv", clip)
        with FlopCounterMode(display=False, custom_mapping=EXTRA) as counter:
            legato.upscale(source, Path(folder) / "out.mkv", legato_options({}))
    total = report(counter.get_flop_counts(), num_pixels)
    bar = Bar(name="kMAC per output pixel", value=total, limit=LIMIT_KMAC)
    print(bar)
    return 0 if bar.passed else 1


if __name__ == "__main__":
    sys.exit(main())
