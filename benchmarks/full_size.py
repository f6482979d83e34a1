"""Arithmetic speed and memory of the full-size networks, with random weights.

    python benchmarks/full_size.py [--frames 8] [--size 64x64] [--device cuda] [--out FILE]

The U-Net of the Stable Diffusion x4 upscaler with Upscale-A-Video's temporal layers takes one
guided step; beside it the image U-Net as diffusers' `StableDiffusionUpscalePipeline` runs it, in
float32, on the same frames; beside both the best product of two 2048 x 2048 matrices. The decoder
turns one frame of `--decoder-size` into pixels, whole, in strips and approximately. Every part runs
in a process of its own, so that its peak memory is its own. On CUDA it leaves these decoders out
and adds the frames per second, the memory and the share of the peak rate at outputs of 1408x768 and
1920x1080; the bars are for CPUs. Run it on an idle machine. Exit code 1: a bar is missed.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from macs import EXTRA
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from legato.device import choose_device, choose_dtype, keep_freed_memory
from legato.diffusion.denoiser import Conditions, Denoiser
from legato.diffusion.spans import Span
from legato.evaluation.report import Bar
from legato.models import decoder as decoders
from legato.models.convert.upscale_a_video import AUTOENCODER_CONFIG, UNET_CONFIG
from legato.models.decoder import TemporalDecoder, TemporalDecoderOptions
from legato.models.inflate import inflate
from legato.models.parts import ready_

GIB = 1024**3
WIDTHS = {
    "block_out_channels": (256, 512, 512, 1024),
    "attention_head_dim": 8,
    "cross_attention_dim": 1024,
}
TOKENS, STEPS, NEW_FRAMES = 77, 30, 6  # of a window of 8 frames, 6 are new
OUTPUTS = {"1408x768": (352, 192), "1920x1080": (480, 270)}  # latent columns, rows
CUBE = 2048

Measurement = dict[str, float]


def filled(build: Callable[[], nn.Module], device: torch.device, dtype: torch.dtype) -> nn.Module:
    """Return a network whose weights are drawn where and as they are used, without a copy."""
    with torch.device("meta"):
        model = build().to(dtype)
    model = model.to_empty(device=device)
    generator = torch.Generator(device).manual_seed(0)
    for parameter in model.parameters():
        fan = max(parameter[0].numel(), 1) if parameter.ndim > 1 else 1e4
        parameter.data.uniform_(-1, 1, generator=generator).mul_(fan**-0.5)
    return model.eval().requires_grad_(False)


def measured(run: Callable[[], object], network: nn.Module | None, device: torch.device) -> dict:
    """Return seconds and peak memory of a run, its FLOPs as executed, and the weights' bytes."""
    weights = sum(p.nbytes for p in network.parameters()) if network is not None else 0
    is_cuda = device.type == "cuda"
    if is_cuda:
        torch.cuda.reset_peak_memory_stats()
        torch.cuda.synchronize()
    began = time.perf_counter()
    run()
    if is_cuda:
        torch.cuda.synchronize()
    seconds = time.perf_counter() - began
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    peak = torch.cuda.max_memory_allocated() if is_cuda else resident
    with FlopCounterMode(display=False, custom_mapping=EXTRA) as counter:
        run()  # again: counting takes memory and time of its own
    return {
        "seconds": seconds,
        "flop": counter.get_total_flops(),
        "weights": weights,
        "peak": peak,
    }


def unet(arguments: argparse.Namespace, *, ours: bool) -> Measurement:
    """One guided step: of our denoiser, or of the image U-Net as diffusers' pipeline calls it."""
    device, frames, (cols, rows) = arguments.device, arguments.frames, arguments.size
    draw = torch.Generator().manual_seed(1)
    text = torch.randn(2, TOKENS, 1024, generator=draw).to(device)
    z, low_res = (torch.randn(1, frames, c, rows, cols, generator=draw).to(device) for c in (4, 3))
    config = UNET_CONFIG | WIDTHS
    if not ours:
        model = filled(lambda: UNet2DConditionModel(**config), device, torch.float32)
        sample = torch.cat([z, low_res], dim=2)[0].repeat(2, 1, 1, 1)
        levels = torch.full((2 * frames,), 20, device=device)
        texts = text.repeat_interleave(frames, 0)

        def theirs(some: int) -> Tensor:
            kept = slice(0, some)
            return model(sample[kept], 501, texts[kept], class_labels=levels[kept]).sample

        return timed(lambda: theirs(1), lambda: theirs(2 * frames), model, device)
    dtype = arguments.dtype
    build = lambda: inflate(UNet2DConditionModel(**config), "upscale_a_video")  # noqa: E731
    model = ready_(filled(build, device, dtype), device, dtype)

    def step(some: int) -> Tensor:
        denoiser = Denoiser(
            network=model,
            conditions=Conditions(
                prompt=text[:1],
                negative_prompt=text[1:],
                low_res=low_res[:, :some],
                noise_level=20,
                guidance_scale=6.0,
            ),
            windows=[Span.whole(some)],
            dtype=dtype,
            batches_guidance=arguments.batched,
        )
        return denoiser(z[:, :some], 501)

    return timed(lambda: step(1), lambda: step(frames), model, device)


@torch.no_grad()
def timed(
    first: Callable[[], Tensor], run: Callable[[], Tensor], model: nn.Module, device: torch.device
) -> Measurement:
    """Warm up, with less work where nothing is loaded for each size anew, then measure."""
    (run if device.type == "cuda" else first)()
    return measured(run, model, device)


@torch.no_grad()
def decode(
    arguments: argparse.Namespace, *, in_strips: bool | None, approximate: bool = False
) -> Measurement:
    """One frame by the released per-frame decoder, or `--decoder video`, the temporal one.

    `in_strips`: None leaves it to the decoder, as in the program.
    """
    device = arguments.device
    if in_strips is not None:
        decoders.WHOLE_VALUES = 0 if in_strips else sys.maxsize
        decoders.SHARE = 0.0 if in_strips else float("inf")
    options = {
        "3d": {"conv": "none"},
        "video": {"conv": "volume", "condition_channels": 128},
    }[arguments.decoder]

    def build() -> TemporalDecoder:
        autoencoder = AutoencoderKL(**AUTOENCODER_CONFIG, block_out_channels=(128, 256, 512))
        return TemporalDecoder(autoencoder, TemporalDecoderOptions(**options, norm_stats="clip"))

    model = ready_(filled(build, device, torch.float32), device, torch.float32)
    cols, rows = arguments.decoder_size
    draw = torch.Generator().manual_seed(2)
    latents, low_res = (torch.randn(1, 1, c, rows, cols, generator=draw) for c in (4, 3))
    inputs = latents.to(device) * model.spatial.config.scaling_factor, low_res.to(device)
    if device.type == "cuda":
        model.decode(*inputs)
    run = partial(model.decode, *inputs, approximate=approximate)
    found = measured(lambda: outputs.append(run()), model, device)
    torch.save(outputs[0].cpu(), arguments.picture)
    return found


outputs: list[Tensor] = []


def multiply(arguments: argparse.Namespace) -> Measurement:
    """The best of ten products of two square matrices."""
    device, dtype = arguments.device, arguments.dtype
    a, b = (torch.randn(CUBE, CUBE, device=device, dtype=dtype) for _ in range(2))
    return min(
        (measured(lambda: a @ b, None, device) for _ in range(10)), key=lambda m: m["seconds"]
    )


PARTS: dict[str, Callable[[argparse.Namespace], Measurement]] = {
    "unet": lambda arguments: unet(arguments, ours=True),
    "diffusers": lambda arguments: unet(arguments, ours=False),
    "matmul": multiply,
    "decoder": lambda arguments: decode(arguments, in_strips=False),
    "strips": lambda arguments: decode(arguments, in_strips=True),
    "chosen": lambda arguments: decode(arguments, in_strips=None),
    "approximate": lambda arguments: decode(arguments, in_strips=None, approximate=True),
}
ON_CPU = ("unet", "diffusers", "matmul", "decoder", "strips", "approximate")
ON_CUDA = ("unet", "matmul")


def alone(part: str, arguments: list[str]) -> Measurement:
    """Measure one part in a process of its own and print its line."""
    command = [sys.executable, __file__, *arguments, "--part", part]
    found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    print(
        f"{part:11} {found['seconds']:8.2f} s {found['flop'] / 1e12:8.3f} TFLOP "
        f"{found['flop'] / found['seconds'] / 1e9:9.1f} GFLOP/s "
        f"weights {found['weights'] / GIB:5.2f} GiB, peak {found['peak'] / GIB:5.2f} GiB",
        flush=True,
    )
    return found


def rate(found: Measurement) -> float:
    """FLOP per second."""
    return found["flop"] / found["seconds"]


def bars(found: dict[str, Measurement], pictures: list[Tensor], dtype: torch.dtype) -> list[Bar]:
    """Compare what was measured with what is promised."""
    is_half = dtype != torch.float32
    made = []
    if {"unet", "diffusers", "matmul"} <= set(found):
        faster = rate(found["unet"]) / rate(found["diffusers"])
        extra = (found["unet"]["peak"] - found["unet"]["weights"]) / GIB
        limit = 2.5 if is_half else 1.3
        made = [
            Bar(name="rate over diffusers' in float32", value=faster, limit=limit, at_least=True),
            Bar(name="peak beside the U-Net's weights, GiB", value=extra, limit=1.5),
        ]
        share = rate(found["unet"]) / rate(found["matmul"])
        if is_half:
            made.append(Bar(name="share of the product's", value=share, limit=0.6, at_least=True))
        else:
            print(f"      share of the matrix product's rate: {share:.3f}")
    if {"decoder", "strips"} <= set(found):
        part = found["strips"]["peak"] / found["decoder"]["peak"]
        difference = float((pictures[0] - pictures[1]).abs().max() / pictures[0].abs().max())
        made += [
            Bar(name="peak of strips over whole maps", value=part, limit=0.5),
            Bar(name="difference over the largest value", value=difference, limit=1e-4),
        ]
    for part, other in (("strips", "decoder"), ("approximate", "strips")):
        if {part, other} <= set(found):
            ratio = found[part]["seconds"] / found[other]["seconds"]
            print(f"      {part} over {other}: {ratio:.2f} times the time")
    return made


def throughput(given: list[str], peak: float) -> dict[str, Measurement]:
    """On a GPU: frames per second, memory and share of the peak rate at two sizes of output."""
    made = {}
    for name, (cols, rows) in OUTPUTS.items():
        size = f"{cols}x{rows}"
        step = alone("unet", [*given, "--size", size, "--frames", "8"])
        decoder = alone("chosen", [*given, "--decoder-size", size])
        seconds = STEPS * step["seconds"] / NEW_FRAMES + decoder["seconds"]
        made[name] = {
            "frames_per_second": 1 / seconds,
            "peak": max(step["peak"], decoder["peak"]),
            "share_of_peak": rate(step) / peak,
        }
        print(
            f"{name}: {1 / seconds:.3f} frames/s, {made[name]['share_of_peak']:.2f} of the peak, "
            f"{made[name]['peak'] / GIB:.2f} GiB",
            flush=True,
        )
    return made


def size(text: str) -> tuple[int, int]:
    """COLUMNSxROWS."""
    cols, rows = text.split("x")
    return int(cols), int(rows)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--size", type=size, default=(64, 64), help="latent COLUMNSxROWS")
    parser.add_argument("--decoder-size", type=size, default=(320, 180))
    parser.add_argument("--decoder", choices=("3d", "video"), default="3d")
    parser.add_argument("--device", type=choose_device, default="auto")
    parser.add_argument("--dtype", default="auto", help="of our U-Net and the matrix product")
    parser.add_argument("--batched", action="store_true", help="both guidance halves in one call")
    parser.add_argument("--parts", nargs="+", choices=PARTS)
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, default=Path("runs/full_size.json"))
    arguments = parser.parse_args()
    arguments.dtype = choose_dtype(arguments.dtype, arguments.device)
    arguments.parts = arguments.parts or (ON_CUDA if arguments.device.type == "cuda" else ON_CPU)
    return arguments


def main() -> int:
    """Measure every part, compare and write."""
    arguments = parse()
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    pictures = {part: arguments.out.with_name(f"{arguments.out.stem}_{part}.pt") for part in PARTS}
    if arguments.part:
        keep_freed_memory()
        arguments.picture = pictures[arguments.part]
        print(json.dumps(PARTS[arguments.part](arguments)))
        return 0
    print(f"{arguments.device}, {arguments.dtype}, {torch.get_num_threads()} threads")
    given, is_cuda = sys.argv[1:], arguments.device.type == "cuda"
    found = {part: alone(part, given) for part in arguments.parts}
    compared = [
        torch.load(pictures[part], weights_only=True)
        for part in ("decoder", "strips")
        if pictures[part].is_file()
    ]
    kept = [] if is_cuda else bars(found, compared, arguments.dtype)
    print("\n".join(map(str, kept)))
    written: dict[str, object] = {"parts": found, "bars": {bar.name: bar.value for bar in kept}}
    if is_cuda:
        product = found.get("matmul") or alone("matmul", given)
        written["outputs"] = throughput(given, rate(product))
    arguments.out.write_text(json.dumps(written, indent=1))
    for path in pictures.values():
        path.unlink(missing_ok=True)
    return 0 if all(bar.passed for bar in kept) else 1


if __name__ == "__main__":
    sys.exit(main())
