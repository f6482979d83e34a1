"""The paper's comparisons of training: which layers, on what image model, who judges the decoder.

    python benchmarks/comparisons.py [--arms A ...] [--lpips FILE] [--clips 192] [--seeds 0 1 2]
        [--renders runs/driving/held_back] [--out runs/comparisons]

Blattmann et al. 2023, arXiv:2304.08818, the driving ablation. Denoisers learn renders of half the
size, 32x64 pixels, so that a CPU shows them thousands of clips: layers of convolutions and
attention, or of attention alone with as many parameters, on an image model that learned the same
worlds before and stays as it is; or everything at once from nothing, for as many steps with clips,
and for as many frames as image model and layers saw together, which the paper lacks. Decoders of
whole size learn on from the bundled one. Distances are those of `driving.py`, each sampling seed an
equal share of the clips. What an arm has made is used again; `--arms` of several processes may run
side by side once `image` is there.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from driving import distances, reconstruction
from einops import rearrange
from jaxtyping import UInt8
from numpy import ndarray
from torch import Tensor

from legato.device import keep_freed_memory
from legato.diffusion.noise import INDEPENDENT
from legato.evaluation.lpips import load_lpips
from legato.models.decoder import TemporalDecoder
from legato.models.inflate import VideoModel, inflate
from legato.models.micro_conditioning import ClipConditions
from legato.pipelines.clip_sampler import ClipSampler, Given
from legato.pipelines.generate_options import GenerateOptions
from legato.training.batches import unit_range
from legato.training.discriminator import PatchDiscriminator
from legato.training.driving.clips import (
    HELD_BACK_FROM,
    KEY_FRAMES,
    BatchOptions,
    ClipOptions,
    PackedClips,
    frames_between,
    pack_clips,
)
from legato.training.driving.export import load_driving
from legato.training.driving.model import DECODER, DrivingModel, build_driving
from legato.training.driving.recipe import CROP, encode_clips, held_back_pictures, moving
from legato.training.driving.stages import ImageTask
from legato.training.generator_stages import (
    DecoderOptions,
    DecoderTask,
    DenoisingOptions,
    DenoisingTask,
    VideoLdm,
)
from legato.training.losses import PixelLoss, PixelLossWeights
from legato.training.trainer import TrainerOptions, train

LEARNED, FIRST_SEED = 800, 50_000
"""Worlds that are learned from, and the seed of the first."""
CLIPS, PICTURES = 4, 32
"""Of a batch: as many frames."""
SAMPLING_STEPS = 16
VALIDATED = 16
WIDER = 6
"""Width of attention's feed-forwards, for 4, that makes up for the convolutions: 2% more in all."""


@dataclass(frozen=True, kw_only=True)
class DenoiserArm:
    """How a denoiser of clips is made."""

    layers: dict[str, Any] = field(default_factory=dict)
    """Options of its temporal layers."""
    is_pretrained: bool = True
    """Whether the image model has learned before, and stays as it is."""
    is_longer: bool = False
    """Whether it learns for the image model's steps too."""


DENOISERS = {
    "convolutions and attention": DenoiserArm(),
    "attention only": DenoiserArm(layers={"conv": False, "ff_multiple": WIDER}),
    "end to end": DenoiserArm(is_pretrained=False),
    "end to end, longer": DenoiserArm(is_pretrained=False, is_longer=True),
}


class TwiceJudged(DecoderTask):
    """A decoder that also meets a discriminator of single frames."""

    def __init__(
        self,
        autoencoder: TemporalDecoder,
        pixel_loss: PixelLoss,
        held_back: list[dict[str, Any]],
        options: DecoderOptions,
    ) -> None:
        super().__init__(autoencoder, pixel_loss, held_back, options)
        self.of_frames = PatchDiscriminator(2)
        self.module.add_module("of_frames", self.of_frames)

    def judged(
        self, loss: Tensor, decoded: Tensor, frames: Tensor
    ) -> tuple[Tensor, dict[str, float]]:
        """Return what both discriminators add to the loss."""
        of_clips, parts = super().judged(loss, decoded, frames)
        real, made = (rearrange(x, "b t c h w -> (b t) c h w") for x in (frames, decoded))
        of_frames, more = self.opinion(self.of_frames, loss, real, made)
        return of_clips + of_frames, parts | {f"{name}_of_frames": v for name, v in more.items()}


JUDGES = {"clips judged": DecoderTask, "clips and frames judged": TwiceJudged}
"""How a decoder learns."""
BEFORE = ("truth", "image")
"""The truth through the autoencoder, and the image model frame by frame."""
ARMS = (*BEFORE, *DENOISERS, "bundled decoder", *JUDGES)


@dataclass(kw_only=True)
class Comparison:
    """The clips, how long arms learn, and where they lie."""

    arguments: argparse.Namespace
    clips: PackedClips
    held_back: PackedClips
    autoencoder: DrivingModel

    @property
    def out(self) -> Path:
        """The folder of all arms."""
        out: Path = self.arguments.out
        return out

    @property
    def small(self) -> tuple[PackedClips, PackedClips]:
        """Clips of half the size, to learn from and held back, with their latents."""
        found = [
            shrunk(self.out / "small" / name, clips)
            for name, clips in (("learned", self.clips), ("held_back", self.held_back))
        ]
        for clips in found:
            encode_clips(self.autoencoder, clips)
        return found[0], found[1]

    def trainer(self, steps: int, rate: float) -> TrainerOptions:
        """Return how an arm learns."""
        return TrainerOptions(
            steps=steps, learning_rate=rate, warm_up=100, ema_decay=0.995, validate_every=steps
        )


def shrunk(folder: Path, clips: PackedClips) -> PackedClips:
    """Return packed clips at half their size, written to a folder unless they are there."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("words", "places", "boxes"):
        np.save(folder / f"{name}.npy", getattr(clips, name)[: len(clips.frames)])
    if not (folder / "frames.npy").exists():
        half = {"dsize": None, "fx": 0.5, "fy": 0.5, "interpolation": cv2.INTER_AREA}
        frames = [[cv2.resize(frame, **half) for frame in clip] for clip in clips.frames]
        np.save(folder / "frames.npy", np.array(frames))
    return PackedClips(folder)


def image_model(comparison: Comparison) -> DrivingModel:
    """Return an image model that knows nothing yet, with the bundled autoencoder."""
    torch.manual_seed(0)
    model = build_driving()
    model.vae = comparison.autoencoder.vae
    return model


def learn_pictures(comparison: Comparison) -> DrivingModel:
    """Return the image model that has learned frames of the clips."""
    model, (clips, held_back) = image_model(comparison), comparison.small
    options = BatchOptions(batch_size=PICTURES, layout_dropout=1.0)
    folder = comparison.out / "image"
    folder.mkdir(exist_ok=True)
    train(
        ImageTask(model, held_back_pictures(held_back)),
        lambda step: clips.pictures(step, options),
        comparison.trainer(comparison.arguments.image_steps, 4e-4),
        folder=folder,
        log=say,
    )
    return model


def of_denoiser(comparison: Comparison, name: str) -> dict[str, float]:
    """Train one of `DENOISERS` and return what was measured."""
    how, (clips, held_back) = DENOISERS[name], comparison.small
    model = learn_pictures(comparison) if how.is_pretrained else image_model(comparison)
    unet = inflate(model.unet, "video_ldm", initial_mix=0.0, **how.layers)
    ldm = VideoLdm(unet, TemporalDecoder(model.vae, DECODER), model.words, model.schedule)
    options = DenoisingOptions(trains_spatial=not how.is_pretrained)
    task = DenoisingTask(ldm, validated(held_back), options)
    if not how.is_pretrained:
        task.module["words"] = model.words.requires_grad_()
    steps = comparison.arguments.steps + how.is_longer * comparison.arguments.image_steps
    folder = comparison.out / name
    folder.mkdir(exist_ok=True)
    batches = BatchOptions(batch_size=CLIPS)
    with minutes_of() as spent:
        train(
            task,
            lambda step: clips.key_frames(step, batches),
            comparison.trainer(steps, 4e-4),
            folder=folder,
            log=say,
        )
    with torch.no_grad():
        loss = task.validate()[0]["alone"]
    learned = sum(p.numel() for p in task.module.parameters() if p.requires_grad)
    figures = {"learned, M": learned / 1e6, "minutes": spent[0], "v loss": loss}
    return figures | of_samples(comparison, model, unet, name)


def validated(held_back: PackedClips) -> list[dict[str, Tensor]]:
    """Return held-back clips of key frames, with their words, in batches."""
    latents = torch.from_numpy(held_back.latents[:VALIDATED, :KEY_FRAMES].astype(np.float32))
    words = torch.from_numpy(held_back.words[:VALIDATED].astype(np.int64))
    parts = zip(latents.split(CLIPS), words.split(CLIPS), strict=True)
    return [{"latents": z, "words": w} for z, w in parts]


@torch.no_grad()
def of_samples(
    comparison: Comparison, model: DrivingModel, unet: VideoModel, name: str
) -> dict[str, float]:
    """Return the distances of samples with the labels of the held-back clips."""
    _, held_back = comparison.small
    total, seeds = len(held_back.frames), comparison.arguments.seeds
    made = []
    with unet.disabled() if name == "image" else nullcontext():
        for number in range(total):
            prompt = model.words(torch.from_numpy(held_back.words[number : number + 1].astype(int)))
            sampler = ClipSampler(
                schedule=model.schedule,
                num_inference_steps=SAMPLING_STEPS,
                solver=GenerateOptions.solver,
                prompt=prompt,
                negative_prompt=prompt,
                guidance_scale=1.0,
                prior=INDEPENDENT,
                seed=seeds[number * len(seeds) // total],
                device=torch.device("cpu"),
                dtype=torch.float32,
            )
            given = Given(
                latents=torch.zeros(1, KEY_FRAMES, *held_back.latents.shape[2:]),
                mask=torch.zeros(KEY_FRAMES, dtype=torch.bool),
                ticks=[range(100 * number, 100 * number + KEY_FRAMES)],
                purpose="key frames",
            )
            latents = sampler(unet, given, told=ClipConditions())
            made.append(levels(model.decode(latents[0])))
    np.save(comparison.out / f"{name}.npy", np.stack(made[:16]))  # to be looked at
    return named(distances(held_back.frames[:, :KEY_FRAMES], {"": made}))


def named(found: dict[str, float]) -> dict[str, float]:
    """Return distances by short names; floors stay by themselves."""
    return {name.removesuffix(", "): value for name, value in found.items()}


def levels(frames: Tensor) -> UInt8[ndarray, "T H W 3"]:
    """Return frames `T 3 H W` in [-1, 1] as 8-bit ones."""
    whole = ((frames.clamp(-1, 1) + 1) * 127.5).round().byte().numpy()
    return rearrange(whole, "t c h w -> t h w c")


@torch.no_grad()
def of_truth(comparison: Comparison, name: str) -> dict[str, float]:
    """Return how far the truth is from itself after the autoencoder: nobody comes nearer."""
    _, held_back = comparison.small
    real = held_back.frames[:, :KEY_FRAMES]
    model = comparison.autoencoder
    made = [
        levels(model.decode(torch.from_numpy(z[:KEY_FRAMES].astype(np.float32))))
        for z in held_back.latents
    ]
    return named(distances(real, {"": made}))


def of_image(comparison: Comparison, name: str) -> dict[str, float]:
    """Train the image model; return what its frames, each for itself, are as clips."""
    with minutes_of() as spent:
        model = learn_pictures(comparison)
    unet = inflate(model.unet, "video_ldm")
    learned = sum(p.numel() for part in (model.unet, model.words) for p in part.parameters())
    figures = {"learned, M": learned / 1e6, "minutes": spent[0]}
    return figures | of_samples(comparison, model, unet, name)


@contextmanager
def minutes_of() -> Iterator[list[float]]:
    """Put into the list, at the end of the block, how many minutes it took; an interrupted training
    tells those of its last run."""
    spent, began = [], time.perf_counter()
    yield spent
    spent.append((time.perf_counter() - began) / 60)


def of_decoder(comparison: Comparison, name: str) -> dict[str, float]:
    """Train a decoder under one of `JUDGES`, unless it is the bundled one; return its figures."""
    arguments = comparison.arguments
    decoder = TemporalDecoder(load_driving("driving").image.vae, DECODER)
    figures: dict[str, float] = {}
    if name in JUDGES:
        options = DecoderOptions(adversarial_weight=0.1, adversarial_start=100)
        distance = load_lpips(arguments.lpips) if arguments.lpips else None
        pixels = PixelLoss(PixelLossWeights.plain(perceptual=0.5), distance)
        torch.manual_seed(0)
        task = JUDGES[name](decoder, pixels, moving(comparison.held_back), options)
        folder = comparison.out / name
        folder.mkdir(exist_ok=True)
        with minutes_of() as spent:
            train(
                task,
                lambda step: comparison.clips.moving(step, batch_size=2, size=CROP, seed=0),
                comparison.trainer(arguments.decoder_steps, 1e-4),
                folder=folder,
                log=say,
            )
        learned = sum(p.numel() for p in decoder.parameters() if p.requires_grad)
        figures = {"learned, M": learned / 1e6, "minutes": spent[0]}
    return figures | of_reconstructions(comparison, decoder, name)


@torch.no_grad()
def of_reconstructions(
    comparison: Comparison, decoder: TemporalDecoder, name: str
) -> dict[str, float]:
    """Return distances, error and flicker of five frames at the full rate."""
    held_back, made, real = comparison.held_back, [], []
    rows: list[dict[str, float]] = []
    with nullcontext() if name in JUDGES else decoder.disabled():
        for number in range(len(held_back.frames)):
            truth = held_back.frames[number, frames_between(held_back.places[number], 0)]
            clip = unit_range(torch.from_numpy(rearrange(truth, "t h w c -> 1 t c h w").copy()))
            real.append(truth)
            made.append(levels(decoder.decode(decoder.encode(clip))[0]))
            rows.append(reconstruction(made[-1], truth))
    means = {key: float(np.mean([row[key] for row in rows])) for key in rows[0]}
    return named(distances(np.stack(real), {"": made})) | means


def measure(comparison: Comparison, name: str) -> dict[str, float]:
    """Return the figures of an arm, those of before if it was measured."""
    path = comparison.out / f"{name}.json"
    if not path.exists():
        kinds: dict[str, Callable[[Comparison, str], dict[str, float]]] = {
            "truth": of_truth,
            "image": of_image,
        } | dict.fromkeys(DENOISERS, of_denoiser)
        figures = kinds.get(name, of_decoder)(comparison, name)
        path.write_text(json.dumps(figures, indent=1))
    found: dict[str, float] = json.loads(path.read_text())
    return found


def main() -> int:
    """Train and measure the arms; print a row for each, keep it as JSON."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--lpips", type=Path, help="weights for the loss of decoders")
    parser.add_argument("--clips", type=int, default=192)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--image-steps", type=int, default=1200)
    parser.add_argument("--steps", type=int, default=900)
    parser.add_argument("--decoder-steps", type=int, default=300)
    parser.add_argument("--renders", type=Path, default=Path("runs/driving/held_back"))
    parser.add_argument("--out", type=Path, default=Path("runs/comparisons"))
    arguments = parser.parse_args()
    keep_freed_memory()
    rendered = ClipOptions(clips=arguments.clips, first_seed=HELD_BACK_FROM)
    learned = ClipOptions(clips=LEARNED, first_seed=FIRST_SEED)
    held_back = PackedClips(pack_clips(arguments.renders, rendered))
    if len(held_back.frames) < arguments.clips:
        parser.error(f"{arguments.renders} holds {len(held_back.frames)} clips: name another")
    held_back.frames = held_back.frames[: arguments.clips]
    comparison = Comparison(
        arguments=arguments,
        clips=PackedClips(pack_clips(arguments.out / "clips", learned)),
        held_back=held_back,
        autoencoder=load_driving("driving").image,
    )
    for name in arguments.arms:
        figures = measure(comparison, name)
        print(f"{name:<28}", *(f"{k} {v:.4g};" for k, v in figures.items()), flush=True)
    return 0


def say(line: str) -> None:
    """Tell how training goes."""
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
