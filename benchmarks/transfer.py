"""Temporal layers move to a fine-tuned image model: its look is kept, and it moves as before.

    python benchmarks/transfer.py [--look sepia] [--clips 16] [--steps 400] [--pictures 192]
        [--out runs/transfer]

The driving image model learns a look that it has never seen (`legato train frames` on renders that
are drawn over: few tones of sepia and dark outlines, which the autoencoder can hardly show; dark
outlines and red for blue, to which it is nearer; patches of paint and red for blue, which it can
show). The bundled temporal layers, which do not learn,
act on it as `legato generate --spatial` does. Motion is compared with that of the untouched model,
same prompts and seeds, its clips drawn over the same way: so that both are seen through the same
look. A further row shows those through the autoencoder, which has never seen the look either and
does not learn it. Exit code 1: a bar is missed.
"""

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8
from numpy import ndarray

from legato.evaluation.clips import read_clip
from legato.evaluation.driving_state import nearing
from legato.evaluation.frechet import frechet_distance, random_features
from legato.evaluation.report import Bar
from legato.evaluation.steadiness import correspondences, own_flicker
from legato.flow.dis import DisFlow
from legato.models.generator_folder import load_generator
from legato.models.micro_conditioning import ClipConditions
from legato.pipelines.clip_sampler import Given
from legato.pipelines.events import ignore
from legato.pipelines.generate import generate
from legato.pipelines.generate_options import GenerateOptions
from legato.pipelines.prepare_generation import prepare
from legato.pipelines.run_options import RunOptions
from legato.training.batches import unit_range
from legato.training.driving.clips import HELD_BACK_FROM
from legato.training.driving.labels import draw_labels
from legato.training.driving.render import World
from legato.training.image_recipes import TuneOptions, train_frames
from legato.video.images import encode_image

TONES = 12
INK, PAPER = np.array((34, 18, 40.0)), np.array((255, 226, 160.0))
KEY_FRAMES = 8
WITHIN = 0.2
FIRST_SEED = 40_000
Clips = UInt8[ndarray, "N T H W 3"]


def in_sepia(frame: UInt8[ndarray, "H W 3"]) -> UInt8[ndarray, "H W 3"]:
    """Return a frame in few tones between ink and paper, with dark outlines."""
    luma = luma_of(frame)
    tones = np.round(np.sqrt(luma / 255) * (TONES - 1)) / (TONES - 1) * outlines(luma)
    return np.asarray((INK + tones[..., None] * (PAPER - INK)).round().astype(np.uint8))


def in_ink(frame: UInt8[ndarray, "H W 3"]) -> UInt8[ndarray, "H W 3"]:
    """Return a frame with red and blue exchanged and dark outlines."""
    colours = frame[..., ::-1] * outlines(luma_of(frame))[..., None]
    return np.asarray(colours.round().astype(np.uint8))


def in_paint(frame: UInt8[ndarray, "H W 3"]) -> UInt8[ndarray, "H W 3"]:
    """Return a frame with red and blue exchanged, in patches as of a brush."""
    return np.asarray(cv2.medianBlur(frame, 5)[..., ::-1])


def luma_of(frame: UInt8[ndarray, "H W 3"]) -> Float[ndarray, "H W"]:
    """Return brightness without specks, 0 to 255."""
    luma = cv2.cvtColor(cv2.medianBlur(frame, 3), cv2.COLOR_RGB2GRAY)
    return np.asarray(luma, np.float32)


def outlines(luma: Float[ndarray, "H W"]) -> Float[ndarray, "H W"]:
    """Return how bright each pixel stays, 0.2 to 1."""
    slope = np.hypot(cv2.Sobel(luma, cv2.CV_32F, 1, 0), cv2.Sobel(luma, cv2.CV_32F, 0, 1))
    return np.asarray(1 - 0.8 * np.clip(slope / 255 - 0.4, 0, 1))


LOOKS: dict[str, Callable[[ndarray], ndarray]] = {
    "sepia": in_sepia,
    "ink": in_ink,
    "paint": in_paint,
}


def render(
    folder: Path, first_seed: int, count: int, drawn_over: Callable[[ndarray], ndarray]
) -> Path:
    """Write plain pictures, and the same drawn over, with their labels as captions."""
    for name in ("plain", "look"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for seed in range(first_seed, first_seed + count):
        if (folder / "look" / f"{seed}.txt").exists():
            continue
        world = World(seed)
        frame, _ = world.frame(float(np.random.default_rng(seed).uniform(0, 90)))
        for name, picture in (("plain", frame), ("look", drawn_over(frame))):
            (folder / name / f"{seed}.png").write_bytes(encode_image(picture, None, ".png"))
        (folder / "look" / f"{seed}.txt").write_text(", ".join(world.labels.words))
    return folder


def prompt_of(number: int) -> str:
    """Return the labels of a clip."""
    return ", ".join(draw_labels(np.random.default_rng((number, 7))).words)


def options_of(number: int, spatial: Path | None) -> GenerateOptions:
    """Return what makes the key frames of a clip."""
    return GenerateOptions(
        frames=KEY_FRAMES,
        interpolations=0,
        seed=number,
        spatial=None if spatial is None else str(spatial),
    )


def moving(folder: Path, count: int, spatial: Path | None) -> Clips:
    """Return clips of the bundled model, on its own image model or on another."""
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for number in range(count):
        target = folder / f"{number}.mkv"
        if not target.exists():
            generate(prompt_of(number), target, options_of(number, spatial))
        made.append(np.stack(list(read_clip(target))))
    return np.stack(made)


def unmoving(folder: Path, count: int, spatial: Path) -> Clips:
    """Return clips of frames that the tuned image model makes each by itself."""
    kept = folder / "alone.npy"
    if kept.exists():
        return np.asarray(np.load(kept))
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for number in range(count):
        job = prepare(
            prompt_of(number),
            folder / f"{number}.mkv",
            options_of(number, spatial),
            RunOptions(),
            ignore,
        )
        given = Given(
            latents=torch.zeros(1, KEY_FRAMES, *job.generation.shape),
            mask=torch.zeros(KEY_FRAMES, dtype=torch.bool),
            ticks=[range(KEY_FRAMES)],
            purpose="key frames",
        )
        with job.model.unet.disabled():
            latents = job.generation.sampler(job.model.unet, given, told=ClipConditions())
        frames = ((job.model.decode(latents)[0].clamp(-1, 1) + 1) * 127.5).round().byte()
        made.append(frames.permute(0, 2, 3, 1).cpu().numpy())
    np.save(kept, np.stack(made))
    return np.stack(made)


@torch.no_grad()
def through_autoencoder(clips: Clips) -> Clips:
    """Return clips as the driving model's latents can show them."""
    model = load_generator("driving", torch.device("cpu"), torch.float32)
    shown = []
    for clip in clips:
        frames = unit_range(torch.from_numpy(clip.transpose(0, 3, 1, 2).copy()))
        decoded = model.decode(model.encode(frames[None]))[0].clamp(-1, 1)
        shown.append(((decoded + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy())
    return np.stack(shown)


def motion(clips: Clips) -> dict[str, float]:
    """Return how clips move: ahead, at all, and what changes though flow does not say so."""
    ahead, lengths, unrest = [], [], []
    estimate = DisFlow("medium")
    for clip in clips:
        ahead.append(float(np.median(nearing(clip))))
        frames = unit_range(torch.from_numpy(clip.transpose(0, 3, 1, 2).copy()))
        lengths.append(estimate(frames)[0].norm(dim=1).mean().item())
        unrest.append(own_flicker(clip, correspondences(clip)) / clip.mean(axis=3).std())
    return {
        "nearing, px": float(np.mean(ahead)),
        "optical flow, px": float(np.mean(lengths)),
        "flicker over contrast": float(np.mean(unrest)),
    }


def look(clips: Clips, renders: dict[str, Clips]) -> dict[str, float]:
    """Return distances of all frames from renders in the look and from plain ones."""
    features = random_features(clips, "frame")
    scale = random_features(np.concatenate(list(renders.values())), "frame")
    return {
        f"frame distance from {name}": frechet_distance(
            random_features(real, "frame"), features, scale=scale
        )
        for name, real in renders.items()
    }


def pictures(folder: Path) -> Clips:
    """Return a folder's pictures as clips of one frame."""
    return np.stack([list(read_clip(path)) for path in sorted(folder.glob("*.png"))])


def bars(rows: dict[str, dict[str, float]]) -> list[Bar]:
    """Return the bars: the look is kept, and motion is that of the untouched model."""
    moved, drawn = rows["tuned, layers on"], rows["plain, drawn over"]
    apart = [moved[f"frame distance from {name}"] for name in ("look", "plain")]
    found = [
        Bar(name="distance from look over that from plain", value=apart[0] / apart[1], limit=1)
    ]
    for name in ("nearing, px", "optical flow, px", "flicker over contrast"):
        value = abs(moved[name] / max(drawn[name], 1e-6) - 1)
        found.append(Bar(name=f"{name}: share off the untouched model", value=value, limit=WITHIN))
    return found


def main() -> int:
    """Tune, generate, measure; print the table and bars, save them as JSON."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--look", choices=LOOKS, default="sepia")
    parser.add_argument("--clips", type=int, default=16)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--pictures", type=int, default=192)
    parser.add_argument("--max-minutes", type=float)
    parser.add_argument("--out", type=Path, default=Path("runs/transfer"))
    arguments = parser.parse_args()
    out: Path = arguments.out / arguments.look  # what is there is used again
    drawn_over = LOOKS[arguments.look]
    learned = render(out / "learned", FIRST_SEED, arguments.pictures, drawn_over)
    held_back = render(out / "held_back", HELD_BACK_FROM, 96, drawn_over)
    options = TuneOptions(
        data=(learned / "look",),
        held_back=held_back / "look",
        out=out / "tuned",
        steps=arguments.steps,
        learning_rate=2e-4,
        ema_decay=0.98,
        num_workers=0,
        validate_every=200,
        max_minutes=arguments.max_minutes,
    )
    tuned = train_frames(options, log=say)
    renders = {name: pictures(held_back / name) for name in ("look", "plain")}
    plain = moving(out / "clips_plain", arguments.clips, None)
    drawn = np.stack([[drawn_over(frame) for frame in clip] for clip in plain])
    sets: dict[str, Callable[[], Clips]] = {
        "plain": lambda: plain,
        "plain, drawn over": lambda: drawn,
        "the same through the autoencoder": lambda: through_autoencoder(drawn),
        "tuned, layers on": lambda: moving(out / "clips_tuned", arguments.clips, tuned),
        "tuned, layers off": lambda: unmoving(out / "clips_alone", arguments.clips, tuned),
    }
    rows = {}
    for name, make in sets.items():
        clips = make()
        rows[name] = look(clips, renders) | motion(clips)
        print(f"{name:<32}", *(f"{k} {v:.3f};" for k, v in rows[name].items()), flush=True)
    half = len(renders["look"]) // 2
    floor = look(renders["look"][half:], {"look": renders["look"][:half]})
    print(f"floor of the frame distance: {floor['frame distance from look']:.3f}")
    kept = bars(rows)
    print(*kept, sep="\n")
    said = {"rows": rows, "floor": floor, "bars": list(map(asdict, kept))}
    (out / "transfer.json").write_text(json.dumps(said, indent=1))
    return 0 if all(bar.passed for bar in kept) else 1


def say(line: str) -> None:
    """Tell how training goes."""
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
