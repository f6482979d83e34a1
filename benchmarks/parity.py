"""Run every numeric fixture of a folder and print how far Legato is from the reference.

    python benchmarks/parity.py FOLDER [--json FILE]

FOLDER holds fixtures as safetensors files, told apart by their names, and `keys_small.json` where
they need it (the keys and shapes of small networks, whose weights a formula gives). The exit status
is 1 where one differs by more than the tolerance, or where there is nothing to run. Other systems'
fixtures are run by files `parity_NAME.py` beside this one; several may share a fixture.
"""

import argparse
import importlib
import json
import math
import sys
import zlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from legato.diffusion.augmentation import augment
from legato.diffusion.denoiser import Conditions, Denoiser, denoise
from legato.diffusion.latent_propagation import LatentPropagation
from legato.diffusion.prediction import ddim_step, eps_from, x0_from
from legato.diffusion.schedule import Schedule
from legato.flow.propagate import propagate
from legato.models.convert.upscale_a_video import build_decoder, build_unet
from legato.models.decoder import TemporalDecoder
from legato.models.inflate import VideoModel
from legato.pipelines.colour_fix import adain, wavelet
from legato.pipelines.windows import reference_windows

TOLERANCE = 2e-4
"""Of the largest difference, relative to the reference output's largest magnitude."""
DECODED_AT_ONCE = 3
"""Frames that the reference decodes at a time."""
SCHEDULE = Schedule()

Fixture = dict[str, Tensor]
Outputs = dict[str, Tensor]


def formula(key: str, shape: tuple[int, ...]) -> Tensor:
    """Return the closed-form weights of the parameter called `key`."""
    count = math.prod(shape)
    phase = (zlib.crc32(key.encode()) % 62831) / 10000
    index = torch.arange(count, dtype=torch.float64)
    wave = torch.sin(index * 1.618033988749895 + phase * (1 + index.remainder(7)))
    if len(shape) > 1:
        wave = wave * math.sqrt(1.5 / (count // shape[0]))
    else:
        wave = 0.1 * wave + (1 if key.endswith("weight") else 0)
    return wave.reshape(shape).float()


def frames_first(x: Tensor) -> Tensor:
    """B C T h w, as the fixtures have it, to B T C h w and back."""
    return x.transpose(1, 2)


@dataclass(frozen=True)
class Networks:
    """The small networks of a folder."""

    folder: Path
    dtype: torch.dtype = torch.float32
    """Of the U-Net; decoders compute in float32, as `load_upscaler` has them."""

    def weights(self, name: str) -> dict[str, Tensor]:
        """Return a network's parameters under the reference's keys."""
        keys = json.loads((self.folder / "keys_small.json").read_text())[name]["keys"]
        return {key: formula(key, tuple(shape)) for key, shape in keys.items()}

    @cached_property
    def unet(self) -> VideoModel:
        """The U-Net."""
        return build_unet(self.weights("unet_small")).eval().to(self.dtype)

    @cached_property
    def vae_3d(self) -> TemporalDecoder:
        """The decoder without temporal layers."""
        return build_decoder(self.weights("vae_3d_small")).eval()

    @cached_property
    def vae_video(self) -> TemporalDecoder:
        """The temporal decoder."""
        return build_decoder(self.weights("vae_video_small")).eval()


def run_unet(fixture: Fixture, networks: Networks) -> Outputs:
    """One prediction."""
    out = networks.unet(
        frames_first(torch.cat((fixture["sample"], fixture["low_res"]), dim=1)),
        fixture["timestep"],
        fixture["encoder_hidden_states"],
        fixture["class_labels"],
    )
    return {"out": frames_first(out)}


def decode(decoder: TemporalDecoder, z: Tensor, low_res: Tensor) -> Tensor:
    """Decode unscaled latents."""
    return decoder.decode(z * decoder.spatial.config.scaling_factor, low_res)


def run_vae_3d(fixture: Fixture, networks: Networks) -> Outputs:
    """The decoder that sees no low-resolution frames."""
    z, low_res = frames_first(fixture["z"]), frames_first(fixture["low_res"])
    return {"out": frames_first(decode(networks.vae_3d, z, low_res))}


def run_vae_video(fixture: Fixture, networks: Networks) -> Outputs:
    """The temporal, conditioned decoder."""
    z, low_res = frames_first(fixture["z"]), frames_first(fixture["low_res"])
    return {"out": frames_first(decode(networks.vae_video, z, low_res))}


def run_propagation(fixture: Fixture, networks: Networks) -> Outputs:
    """Backward, then forward propagation."""
    x, forward, backward = (
        frames_first(fixture[name]) for name in ("x", "flow_forward", "flow_backward")
    )
    return {"out": frames_first(propagate(x, forward, backward))}


def run_ddim(fixture: Fixture, networks: Networks) -> Outputs:
    """The schedule, and single steps with and without an edit of x_0."""
    timesteps = SCHEDULE.timesteps(len(fixture["timesteps"]))
    out = {
        "timesteps": torch.tensor(timesteps),
        "alphas_cumprod": SCHEDULE.alphas_cumprod,
    }
    for name in fixture:
        if name.startswith("v_"):
            index = int(name.removeprefix("v_"))
            later = timesteps[index + 1] if index + 1 < len(timesteps) else None
            scales = SCHEDULE.scales(later)
            x0, eps = (
                estimate(
                    fixture[name],
                    fixture[f"latents_{index}"],
                    scales=SCHEDULE.scales(timesteps[index]),
                    prediction_type="v_prediction",
                )
                for estimate in (x0_from, eps_from)
            )
            out[f"x0_{index}"] = x0
            out[f"prev_{index}"] = ddim_step(x0, eps, scales=scales)
            out[f"prev_edited_{index}"] = ddim_step(0.9 * x0 + 0.1, eps, scales=scales)
    return out


def run_noise(fixture: Fixture, networks: Networks) -> Outputs:
    """The noised low-resolution clip."""
    level = int(fixture["level"])
    return {"out": augment(fixture["x"], fixture["noise"], level=level, schedule=SCHEDULE)}


def run_color(fixture: Fixture, networks: Networks) -> Outputs:
    """Both colour corrections."""
    content, style = fixture["content"], fixture["style"]
    return {"wavelet": wavelet(content, style), "adain": adain(content, style)}


def run_pipeline(fixture: Fixture, networks: Networks, steps: tuple[int, ...]) -> Outputs:
    """Denoise a clip as the reference does, with propagation at some steps, and decode it."""
    video, noise, latents, forward, backward = (
        frames_first(fixture[name])
        for name in ("video", "noise", "latents", "flow_forward", "flow_backward")
    )
    conditions = Conditions(
        prompt=fixture["prompt"],
        negative_prompt=fixture["negative_prompt"],
        low_res=augment(video, noise, level=120, schedule=SCHEDULE),
        noise_level=120,
        guidance_scale=3.0,
    )
    windows = reference_windows(video.shape[1])
    propagation = LatentPropagation(flow_forward=forward[0], flow_backward=backward[0], steps=steps)
    clean = denoise(
        Denoiser(
            network=networks.unet, conditions=conditions, windows=windows, dtype=networks.dtype
        ),
        latents,
        schedule=SCHEDULE,
        timesteps=SCHEDULE.timesteps(4),
        hooks=([propagation], []),
    )
    decoder = networks.vae_video
    starts = range(0, video.shape[1], DECODED_AT_ONCE)
    pieces = [slice(start, start + DECODED_AT_ONCE) for start in starts]
    decoded = [decoder.decode(clean[:, piece], video[:, piece]).clamp(-1, 1) for piece in pieces]
    return {"latents_out": frames_first(clean), "out": frames_first(torch.cat(decoded, dim=1))}


RUNNERS: dict[str, Callable[[Fixture, Networks], Outputs]] = {
    "unet_small": run_unet,
    "vae_3d_small": run_vae_3d,
    "vae_video_small": run_vae_video,
    "propagation": run_propagation,
    "ddim": run_ddim,
    "noise_augmentation": run_noise,
    "color_fix": run_color,
    "pipeline_plain": lambda fixture, networks: run_pipeline(fixture, networks, ()),
    "pipeline_propagated": lambda fixture, networks: run_pipeline(fixture, networks, (1, 2)),
}
"""Beginning of a fixture's name -> what computes its outputs."""


def find_runners(name: str) -> list[Callable[[Fixture, Networks], Outputs]]:
    """Return what computes the outputs of a fixture: all with the longest beginning that fits.

    A file `parity_NAME.py` has `RUNNERS` too, by the beginning of a fixture's name; they need only
    the fixture.
    """
    folder = Path(__file__).parent
    if str(folder) not in sys.path:  # loaded by its path, as the tests do
        sys.path.insert(0, str(folder))
    found = list(RUNNERS.items())
    for path in sorted(folder.glob("parity_*.py")):
        for beginning, runner in importlib.import_module(path.stem).RUNNERS.items():
            found.append((beginning, partial(_without_networks, runner)))
    fitting = [(beginning, runner) for beginning, runner in found if name.startswith(beginning)]
    longest = max((len(beginning) for beginning, _ in fitting), default=0)
    return [runner for beginning, runner in fitting if len(beginning) == longest]


def _without_networks(
    runner: Callable[[Fixture], Outputs], fixture: Fixture, _: Networks
) -> Outputs:
    return runner(fixture)


@dataclass(frozen=True, kw_only=True)
class Result:
    """How far one output is from the reference's."""

    fixture: str
    output: str
    difference: float
    """Largest absolute difference over the reference's largest magnitude."""
    tolerance: float = TOLERANCE

    @property
    def agrees(self) -> bool:
        """Whether the difference is within the tolerance."""
        return self.difference <= self.tolerance


@torch.no_grad()
def run(folder: Path) -> list[Result]:
    """Run every fixture of a folder that has a runner; an unknown one counts as infinitely far."""
    networks = Networks(folder)
    results = []
    for path in sorted(folder.glob("*.safetensors")):
        fixture = load_file(path)
        runners = find_runners(path.stem)
        if not runners:
            results.append(Result(fixture=path.stem, output="(unknown)", difference=math.inf))
        for runner in runners:
            for name, ours in runner(fixture, networks).items():
                far = difference(ours, fixture[name])
                results.append(Result(fixture=path.stem, output=name, difference=far))
    return results


def difference(ours: Tensor, theirs: Tensor) -> float:
    """Return the largest difference over the reference's largest magnitude."""
    if ours.shape != theirs.shape:
        return math.inf
    ours, theirs = ours.double(), theirs.double()
    return float((ours - theirs).abs().max() / (theirs.abs().max() or 1))


def main(arguments: list[str] | None = None) -> int:
    """Print the table; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--json", type=Path, help="write the results there too")
    options = parser.parse_args(arguments)
    results = run(options.folder)
    print(f"{'fixture':24} {'output':24} {'difference':>10} {'tolerance':>10}")
    for result in results:
        mark = "" if result.agrees else "  TOO LARGE"
        print(
            f"{result.fixture:24} {result.output:24} {result.difference:10.1e} "
            f"{result.tolerance:10.0e}{mark}"
        )
    if options.json:
        options.json.write_text(json.dumps([asdict(result) for result in results], indent=2))
    if not results:
        print(f"no fixtures in {options.folder}")
    return 0 if results and all(result.agrees for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
