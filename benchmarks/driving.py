"""What each part of the driving generator adds, on held-back renders.

    python benchmarks/driving.py [--model driving] [--clips 64] [--seeds 0 1 2] [--steps N]
        [--motion-guidance W] [--upsampler embedded-x4]

Each sampling seed makes an equal share of the clips. Distances are Frechet distances of random
features (`evaluation.frechet`), neither FVD nor FID; their floor is the distance of two halves of
the renders, and that of other rendered worlds with the same words is what few clips leave of a
perfect model. Exit code 1: a bar is missed.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path

import cv2
import numpy as np
import torch
from einops import rearrange
from jaxtyping import UInt8
from numpy import ndarray
from variants import Variant, restore

from legato.device import choose_device, choose_dtype
from legato.diffusion.context import BETWEEN, every_fourth
from legato.diffusion.noise import INDEPENDENT
from legato.diffusion.schedule import Schedule
from legato.diffusion.temporal_guidance import TemporalGuided
from legato.evaluation.driving_state import car_ahead, lane_offset, nearing
from legato.evaluation.frechet import frechet_distance, random_features
from legato.evaluation.report import Bar
from legato.evaluation.steadiness import flicker
from legato.flow.fusion import fuse_coarse
from legato.models.generator import GeneratorModel
from legato.models.generator_folder import load_generator
from legato.models.load import load_upscaler
from legato.models.micro_conditioning import ClipConditions
from legato.pipelines.clip_sampler import ClipSampler, Given
from legato.pipelines.generate_options import GenerateOptions
from legato.pipelines.generation import expected_motion
from legato.pipelines.restore_options import RestoreOptions
from legato.training.batches import unit_range
from legato.training.driving.clips import (
    HELD_BACK_FROM,
    KEY_FRAMES,
    ClipOptions,
    PackedClips,
    frames_between,
    moving_moment,
    pack_clips,
)
from legato.training.driving.labels import VOCABULARY, Labels
from legato.training.driving.render import SIZE, World

OTHERS_FROM = 3_000_000
"""Worlds from this seed on stand in for what a perfect model makes."""
LARGE, FAST = (256, 512), 15
"""Size and frame rate of what an upsampler is to reach."""
LATENT_NOISE = 0.2
"""Standard deviation of the noise under which decoders are compared; the latents' own is 1."""
CONTEXT_GUIDANCE = (1.0, 1.5, 2.0, 3.0)
CLEAR, NEAR_M = 3.0, 25.0
"""Clearness and distance at which lanes and cars ahead are found reliably (docs/driving.md)."""


@dataclass(kw_only=True)
class Bench:
    """The model, the truth, and what was measured."""

    model: GeneratorModel
    clips: PackedClips
    steps: int
    seeds: Sequence[int]
    """Of sampling; each makes an equal share of the clips, one after the other."""
    upsampler: str
    figures: dict[str, float] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Add the time of the block to a stage's."""
        began = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - began

    @property
    def shares(self) -> dict[int, range]:
        """The clips of each seed."""
        total, count = len(self.clips.frames), len(self.seeds)
        return {
            seed: range(total * k // count, total * (k + 1) // count)
            for k, seed in enumerate(self.seeds)
        }

    def seed_of(self, number: int) -> int:
        """Return the seed that makes a clip."""
        return next(seed for seed, share in self.shares.items() if number in share)

    def labels(self, number: int) -> Labels:
        """Return a clip's own labels."""
        words = [VOCABULARY[t - 1] for t in self.clips.words[number] if t]
        return Labels(**dict(zip((x.name for x in fields(Labels)), words, strict=True)))  # type: ignore[arg-type]

    def sampler(self, number: int) -> ClipSampler:
        """Return what samples with a clip's own labels."""
        words = ", ".join(self.labels(number).words)
        return ClipSampler(
            schedule=Schedule.from_config(self.model.schedule),
            num_inference_steps=self.steps,
            solver=GenerateOptions.solver,
            prompt=self.model.encode_prompt(words),
            negative_prompt=self.model.encode_prompt(""),
            guidance_scale=self.model.defaults.guidance_scale,
            prior=INDEPENDENT,
            seed=self.seed_of(number),
            device=self.model.unet.device,
            dtype=self.model.unet.dtype,
        )

    def key_frames(
        self,
        number: int,
        latents: torch.Tensor,
        *,
        given: int,
        temporal: bool = True,
        context_guidance: float | None = None,
    ) -> torch.Tensor:
        """Return the latents `1 T C h w` of a clip whose first so many frames are given.

        How strongly they are followed: as the model does, unless it is said.
        """
        sampler, defaults = self.sampler(number), self.model.defaults
        if context_guidance is None:
            context_guidance = defaults.context_guidance
        network = TemporalGuided.in_share(
            self.model.unet,
            scale=defaults.temporal_guidance if temporal else 0.0,
            share=defaults.temporal_share,
            timesteps=sampler.schedule.timesteps(sampler.num_inference_steps),
        )
        edits = []
        shows_motion = given == 2 or (given == 1 and defaults.speed)
        if temporal and shows_motion and defaults.motion_guidance:  # as `generate` does
            motion = expected_motion(
                self.model,
                latents[0, :given],
                KEY_FRAMES,
                weight=defaults.motion_guidance,
                share=defaults.motion_share,
                metres=defaults.speed / defaults.key_frame_rate,
            )
            edits.append(motion)
        with self.timed("key frames"):
            return sampler(
                network,
                Given(
                    latents=latents,
                    mask=torch.arange(KEY_FRAMES) < given,
                    ticks=[range(100 * number, 100 * number + KEY_FRAMES)],
                    purpose="key frames",
                    guidance=context_guidance,
                    edits=edits,
                ),
                told=ClipConditions(noise_level=torch.tensor(0)),
            )

    def seen(self, latents: torch.Tensor) -> np.ndarray:
        """Return the frames of latents."""
        with self.timed("decoder"):
            return decoded(self.model, latents)

    def between(self, number: int, stage: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the truth's five frames of a stage, through the autoencoder, and the model's."""
        network = self.model.interpolation
        assert network is not None
        truth = self.clips.frames[number, frames_between(self.clips.places[number], stage)]
        latents = encoded(self.model, truth)
        steps = self.model.defaults.interpolation_steps or self.steps
        sampler = replace(self.sampler(number), guidance_scale=1.0, num_inference_steps=steps)
        with self.timed("interpolation"):
            made = sampler(  # as `generate` does
                network,
                Given(
                    latents=latents,
                    mask=every_fourth(BETWEEN + 1),
                    ticks=[range(100 * number, 100 * number + BETWEEN + 1)],
                    purpose=f"interpolation {stage}",
                    start=self.model.defaults.interpolation_start,
                ),
                told=ClipConditions(stage=torch.tensor(stage), noise_level=torch.tensor(0)),
            )
        return decoded(self.model, latents), decoded(self.model, made)


def encoded(model: GeneratorModel, frames: np.ndarray) -> torch.Tensor:
    """Return the latents `1 T C h w` of frames `T H W 3`."""
    pictures = torch.from_numpy(rearrange(frames, "t h w c -> 1 t c h w").copy())
    return model.encode(unit_range(pictures).to(model.unet.device)).cpu()


def decoded(model: GeneratorModel, latents: torch.Tensor) -> np.ndarray:
    """Return the frames `T H W 3` uint8 of latents `1 T C h w`."""
    pictures = model.decode(latents.to(model.unet.device))[0].cpu()
    levels = ((pictures.clamp(-1, 1) + 1) * 127.5).round().byte()
    return rearrange(levels.numpy(), "t c h w -> t h w c")


def fused(model: GeneratorModel, frames: UInt8[ndarray, "T H W 3"]) -> UInt8[ndarray, "T H W 3"]:
    """Return decoded frames at full rate as `generate` gives them out."""
    passes = model.defaults.decoder_fusion
    if not passes:
        return frames
    pictures = unit_range(torch.from_numpy(rearrange(frames, "t h w c -> t c h w").copy()))
    steady = fuse_coarse(pictures, passes=passes, finer_px=model.scale / 2)
    levels = ((steady.clamp(-1, 1) + 1) * 127.5).round().byte()
    return rearrange(levels.numpy(), "t c h w -> t h w c")


def measure_decoder(bench: Bench) -> None:
    """Reconstruction, and how much frames flicker by the decoder of videos and by that of images.

    Of the encoder's latents and, as generated ones are not exact, of the same under noise of their
    own in every frame.
    """
    model = bench.model
    figures: dict[str, list[float]] = {}
    for number in range(len(bench.clips.frames)):
        world = World(HELD_BACK_FROM + number)
        truth, _ = world.clip([10 + k / FAST for k in range(KEY_FRAMES)])
        exact = encoded(model, truth)
        generator = torch.Generator().manual_seed(1000 * bench.seed_of(number) + number)
        noise = torch.randn(exact.shape, generator=generator)
        for deviation in (0.0, LATENT_NOISE):
            latents = exact + deviation * noise
            made = {"video": fused(model, decoded(model, latents))}
            with model.autoencoder.disabled():
                made["image"] = decoded(model, latents)
            for kind, frames in made.items():
                of = f"{kind} decoder, latent noise {deviation:g}"
                for name, value in reconstruction(frames, truth).items():
                    figures.setdefault(f"{name}, {of}", []).append(value)
    bench.figures |= {name: float(np.mean(values)) for name, values in figures.items()}


def reconstruction(
    made: UInt8[ndarray, "T H W 3"], truth: UInt8[ndarray, "T H W 3"]
) -> dict[str, float]:
    """Return how near decoded frames and their changes are to the truth's; levels of 8 bits."""
    ours, true = made.astype(np.float32), truth.astype(np.float32)
    error = np.square(ours - true).mean(axis=(1, 2, 3))
    return {
        "reconstruction, dB": float((20 * np.log10(255) - 10 * np.log10(error)).mean()),
        "flicker": flicker(made, truth),
        "error of changes": float(np.abs(np.diff(ours, axis=0) - np.diff(true, axis=0)).mean()),
    }


def other_world(bench: Bench, number: int) -> UInt8[ndarray, "T H W 3"]:
    """Return a clip of another world with the labels of the clip of that number."""
    world = World(OTHERS_FROM + number, bench.labels(number))
    options = ClipOptions(key_frame_rate=bench.model.defaults.key_frame_rate)
    begin = float(np.random.default_rng((number, 6)).uniform(0, options.latest_seconds))
    return world.clip([begin + k / options.key_frame_rate for k in range(KEY_FRAMES)])[0]


def measure_distances(bench: Bench) -> None:
    """Distances of key frames from the truth, temporal layers on and off, and what bounds them.

    And where one frame is given: the image model's, as `generate` begins, or a true one. Of all
    clips and, of several seeds, of each one's. Then how steady lane and cars are, beside the
    truth's through the autoencoder.
    """
    model, real = bench.model, bench.clips.frames[:, :KEY_FRAMES]
    sets: dict[str, list[np.ndarray]] = {}
    passed = []
    for number, clip in enumerate(real):
        truth = encoded(model, clip)
        passed.append(bench.seen(truth))
        alone = bench.key_frames(number, truth, given=0, temporal=False)
        made = {
            "layers on": bench.key_frames(number, truth, given=0),
            "layers off": alone,
            "image given": bench.key_frames(number, alone, given=1),
            "true frame given": bench.key_frames(number, truth, given=1),
        }
        for name, latents in made.items():
            by_image = model.autoencoder.disabled() if name == "layers off" else nullcontext()
            with by_image:
                sets.setdefault(name, []).append(bench.seen(latents))
    shares = {f", seed {seed}": share for seed, share in bench.shares.items()}
    whole = {"": range(len(real))}
    others = [other_world(bench, number) for number in range(len(real))]
    for of, share in (whole | shares if len(shares) > 1 else whole).items():
        chosen = {name: clips[share.start : share.stop] for name, clips in sets.items()}
        chosen["other worlds"] = others[share.start : share.stop]
        found = distances(real[share.start : share.stop], chosen)
        bench.figures |= {f"{name}{of}": value for name, value in found.items()}
    for name, clips in {"truth's latents": passed, **sets}.items():
        figures = state(clips).items()
        bench.figures |= {f"{figure}, {name}": value for figure, value in figures}


def distances(
    real: np.ndarray, sets: Mapping[str, Sequence[np.ndarray]], *, of: str = ""
) -> dict[str, float]:
    """Return the distances of sets of clips `T H W 3` from real ones, and those ones' floor."""
    found = {}
    for kind in ("video", "frame"):
        truth = random_features(real, kind)
        half = len(truth) // 2
        floor = frechet_distance(truth[:half], truth[half:], scale=truth)
        found[f"{kind} distance{of}, floor"] = floor
        for name, clips in sets.items():
            features = random_features(np.stack(clips), kind)
            found[f"{kind} distance{of}, {name}"] = frechet_distance(truth, features, scale=truth)
    return found


def state(clips: Sequence[np.ndarray]) -> dict[str, float]:
    """Return how steadily clips `T H W 3` of key frames go on, by their pixels."""
    moved, changes, kept = [], [], []
    for clip in clips:
        moved.append(np.median(nearing(clip)))
        offsets, clearness = lane_offset(clip)
        is_clear = (clearness[:-1] > CLEAR) & (clearness[1:] > CLEAR)
        changes += np.abs(np.diff(offsets))[is_clear].tolist()
        is_near = car_ahead(clip) < NEAR_M
        kept += is_near[1:][is_near[:-1]].tolist()
    return {
        "nearing, mean of absolute medians, px": float(np.mean(np.abs(moved))),
        "change of the place in the lane, m": float(np.mean(changes or np.nan)),
        "share of cars ahead that stay": float(np.mean(kept or np.nan)),
    }


def measure_directions(bench: Bench) -> None:
    """How often continuations move as the truth does, one frame and two frames given.

    Every other world reverses, or one frame would give the direction away; a model that has a speed
    drives on from it all the same.
    """
    options = ClipOptions(key_frame_rate=bench.model.defaults.key_frame_rate)
    kept: dict[str, list[bool]] = {}
    for number in range(len(bench.clips.frames)):
        world, is_forward = World(HELD_BACK_FROM + number), number % 2 == 0
        rng = np.random.default_rng((number, 5))
        begin = moving_moment(world, rng, options, is_forward=is_forward)
        if begin is None:
            continue
        times = [begin + k / options.key_frame_rate for k in range(KEY_FRAMES)]
        latents = encoded(bench.model, world.clip(times)[0])
        read = {"truth's latents": bench.seen(latents)}
        for given in (1, 2):
            made = bench.key_frames(number, latents, given=given)
            read[f"S={given}"] = bench.seen(made)[given - 1 :]
        for name, frames in read.items():
            is_kept = bool((np.median(nearing(frames)) > 0) == is_forward)
            kept.setdefault(name, []).append(is_kept)
            kept.setdefault(f"{name}, {'forwards' if is_forward else 'backwards'}", []).append(
                is_kept
            )
    for name, said in kept.items():
        bench.figures[f"direction kept, {name}, share of {len(said)}"] = float(np.mean(said))


def measure_context(bench: Bench) -> None:
    """Distances of key frames that go on from two true ones, by how strongly those are followed."""
    real = bench.clips.frames[:, :KEY_FRAMES]
    sets: dict[str, list[np.ndarray]] = {}
    for number, clip in enumerate(real):
        truth = encoded(bench.model, clip)
        for scale in CONTEXT_GUIDANCE:
            made = bench.key_frames(number, truth, given=2, context_guidance=scale)
            sets.setdefault(f"context guidance {scale:g}", []).append(bench.seen(made))
    bench.figures |= distances(real, sets)


def measure_between(bench: Bench) -> None:
    """Error of the three inner frames against linear blending and holding the last frame.

    All of them start from the latents of two true frames, as in a generated video there is nothing
    else; so the truth too has gone through the autoencoder.
    """
    share = (np.arange(1, BETWEEN) / BETWEEN)[:, None, None, None]
    errors: dict[str, list[float]] = {name: [] for name in ("model", "linear", "hold")}
    for number in range(len(bench.clips.frames)):
        for stage in (0, 1):
            truth, made = bench.between(number, stage)
            ends, inner = truth.astype(np.float32)[[0, -1]], truth[1:-1].astype(np.float32)
            guesses = {
                "model": made[1:-1].astype(np.float32),
                "linear": (1 - share) * ends[0] + share * ends[1],
                "hold": np.broadcast_to(ends[0], inner.shape),
            }
            for name, guess in guesses.items():
                errors[name].append(float(np.abs(guess - inner).mean()))
    for name, values in errors.items():
        bench.figures[f"error of frames between, {name}, 8-bit"] = float(np.mean(values))


def measure_upsampler(bench: Bench) -> None:
    """Distances of enlarged renders from large ones, in windows and every frame by itself.

    The small frames are the large ones reduced and through the model's autoencoder: what is
    generated looks like that at its best.
    """
    device = choose_device("auto")
    model = load_upscaler(bench.upsampler, device, choose_dtype("auto", device))
    alone = RestoreOptions(color="none", consistency="none", seed=bench.seeds[0])
    ways = {
        "windows": Variant(options=replace(alone, consistency=None)),
        "by itself": Variant(options=alone, layers=False, decoder=False),
    }
    large, made = [], dict[str, list[np.ndarray]]({name: [] for name in ways})
    for number in range(len(bench.clips.frames)):
        world = World(HELD_BACK_FROM + number)
        truth, _ = world.clip([10 + k / FAST for k in range(KEY_FRAMES)], LARGE)
        large.append(truth)
        small = np.stack(
            [cv2.resize(x, None, fx=1 / 4, fy=1 / 4, interpolation=cv2.INTER_AREA) for x in truth]
        )
        small = decoded(bench.model, encoded(bench.model, small))
        for name, way in ways.items():
            with bench.timed(f"upsampler, {name}"):
                made[name].append(restore(model, small, way))
    bench.figures |= distances(np.stack(large), made, of=" of enlarged")


PARTS: dict[str, Callable[[Bench], None]] = {
    "decoder": measure_decoder,
    "distances": measure_distances,
    "directions": measure_directions,
    "context": measure_context,
    "between": measure_between,
    "upsampler": measure_upsampler,
}


def bars(figures: dict[str, float]) -> list[Bar]:
    """Return the bars of what was measured."""
    found = []

    def bar(name: str, limit: float, value: Callable[[], float], *, at_least: bool = True) -> None:
        try:
            found.append(Bar(name=name, value=value(), limit=limit, at_least=at_least))
        except (KeyError, ZeroDivisionError):
            return  # that part was not run

    f = figures
    by = "{}, {} decoder, latent noise {:g}".format
    error = "error of frames between, {}, 8-bit".format
    bar("reconstruction, dB", 28, lambda: f[by("reconstruction, dB", "video", 0)])
    bar(
        "flicker by the decoder of images over that of videos",
        2,
        lambda: f[by("flicker", "image", LATENT_NOISE)] / f[by("flicker", "video", LATENT_NOISE)],
    )
    bar(
        "video distance without over with layers",
        5,
        lambda: f["video distance, layers off"] / f["video distance, layers on"],
    )
    bar(
        "frame distance with over without layers",
        1.15,
        lambda: f["frame distance, layers on"] / f["frame distance, layers off"],
        at_least=False,
    )
    enlarged = "{} distance of enlarged, {}".format
    bar(
        "video distance, every frame by itself over windows",
        2,
        lambda: f[enlarged("video", "by itself")] / f[enlarged("video", "windows")],
    )
    for guess in ("linear", "hold"):
        bar(
            f"error between over that of {guess}",
            0.7,
            lambda guess=guess: f[error("model")] / f[error(guess)],  # type: ignore[misc]
            at_least=False,
        )
    for name, value in f.items():
        if name.startswith("direction kept, S=2, share"):
            bar(name, 0.95, lambda value=value: value)  # type: ignore[misc]
    return found


def main() -> int:
    """Measure, print the table and bars, save them as JSON."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--model", default="driving")
    parser.add_argument("--clips", type=int, default=64)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--steps", type=int, help="default: the model's own")
    parser.add_argument("--upsampler", default="embedded-x4")
    parser.add_argument("--motion-guidance", type=float, help="default: the model's own")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--renders", type=Path, default=Path("runs/driving/held_back"))
    parser.add_argument("--out", type=Path, default=Path("runs/driving.json"))
    arguments = parser.parse_args()
    device = choose_device("auto")
    model = load_generator(arguments.model, device, choose_dtype("auto", device))
    size = (model.defaults.height, model.defaults.width)
    if size != SIZE:
        parser.error(f"--model makes {size[0]}x{size[1]} pixels, not 64x128: bars are for these")
    if arguments.motion_guidance is not None:
        led = replace(model.defaults, motion_guidance=arguments.motion_guidance)
        model = replace(model, defaults=led)
    rendered = ClipOptions(clips=arguments.clips, first_seed=HELD_BACK_FROM)
    bench = Bench(
        model=model,
        clips=PackedClips(pack_clips(arguments.renders, rendered)),
        steps=arguments.steps or model.defaults.steps,
        seeds=arguments.seeds,
        upsampler=arguments.upsampler,
    )
    if len(set(arguments.seeds)) < len(arguments.seeds):
        parser.error("--seeds names one twice: name each once")
    if len(bench.clips.frames) < arguments.clips:
        parser.error(f"{arguments.renders} holds {len(bench.clips.frames)} clips: name another")
    bench.clips.frames = bench.clips.frames[: arguments.clips]
    for part in arguments.parts:
        known = set(bench.figures)
        PARTS[part](bench)
        for name in [name for name in bench.figures if name not in known]:
            print(f"{name:<60}{bench.figures[name]:10.3f}", flush=True)
    for name, value in bench.seconds.items():
        print(f"{name + ', seconds in all':<60}{value:10.1f}")
    kept = bars(bench.figures)
    print(*kept, sep="\n")
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    said = {"figures": bench.figures, "seconds": bench.seconds, "bars": list(map(asdict, kept))}
    arguments.out.write_text(json.dumps(said, indent=1))
    return 0 if all(bar.passed for bar in kept) else 1


if __name__ == "__main__":
    sys.exit(main())
