"""What `legato train driving` may be told, and the recipe that follows from it."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from legato.diffusion.context import ContextOptions
from legato.diffusion.noise import NoisePrior, PriorKind
from legato.errors import InputError
from legato.pipelines.limits import all_within, in_order, none_empty, require_needed, within
from legato.training.correction_stage import CorrectionOptions
from legato.training.driving.clips import HELD_BACK_FROM, ClipOptions
from legato.training.driving.model import FACTOR, NOTHING, UNET, Told
from legato.training.driving.render import SIZE
from legato.training.driving.stages import AutoencoderOptions
from legato.training.generator_stages import DecoderOptions, DenoisingOptions
from legato.training.losses import PixelLossWeights
from legato.training.trainer import TrainerOptions

DrivingStage = Literal["autoencoder", "image", "key_frames", "interpolation", "decoder"]
ALL: tuple[DrivingStage, ...] = ("autoencoder", "image", "key_frames", "interpolation", "decoder")
MULTIPLE = FACTOR << (len(UNET["block_out_channels"]) - 1)
"""Rows that the autoencoder and each level of the U-Net halve evenly."""
LEAST_ROWS, MOST_ROWS = 64, 512
"""Of pictures: what a crop of the autoencoder's takes, and what the textures have detail for."""
RATE_FACTORS = (0.5, 2.0)
"""Of clips whose layers are told the frame rate."""
DECODER = DecoderOptions(
    trains_spatial=False,
    adversarial_weight=0.0,
    adversarial_start=250,
    latent_noise=0.4,
    flicker_weight=2.0,
)


@dataclass(frozen=True, kw_only=True)
class DrivingRecipe:
    """How the driving model is trained."""

    clips: ClipOptions = field(default_factory=ClipOptions)
    held_back: ClipOptions = field(
        default_factory=lambda: ClipOptions(clips=64, first_seed=HELD_BACK_FROM)
    )
    trainers: dict[DrivingStage, TrainerOptions] = field(
        default_factory=lambda: {
            "autoencoder": TrainerOptions(
                steps=3000, learning_rate=6e-4, validate_every=200, ema_decay=0.995
            ),
            "image": TrainerOptions(
                steps=10000, learning_rate=4e-4, validate_every=400, ema_decay=0.998
            ),
            "key_frames": TrainerOptions(
                steps=6000, learning_rate=4e-4, validate_every=400, ema_decay=0.998
            ),
            "interpolation": TrainerOptions(
                steps=4000, learning_rate=4e-4, validate_every=400, ema_decay=0.998
            ),
            "decoder": TrainerOptions(
                steps=1000, learning_rate=1e-3, validate_every=200, ema_decay=0.99
            ),
        }
    )
    batch_sizes: dict[DrivingStage, int] = field(
        default_factory=lambda: {
            "autoencoder": 8,
            "image": 16,
            "key_frames": 2,
            "interpolation": 4,
            "decoder": 2,
        }
    )
    autoencoder: AutoencoderOptions = field(
        default_factory=lambda: AutoencoderOptions(
            perceptual=0.4, deception=0.15, deceive_from=2500
        )
    )
    denoising: DenoisingOptions = field(default_factory=DenoisingOptions)
    """Of key frames."""
    told: Told = NOTHING
    """What layers for time see beside the clip."""
    correction: CorrectionOptions = field(default_factory=CorrectionOptions)
    decoder: DecoderOptions = DECODER
    pixels: PixelLossWeights = field(default_factory=lambda: PixelLossWeights.plain(perceptual=0.5))

    def rendering(self, change: Callable[[ClipOptions], ClipOptions]) -> "DrivingRecipe":
        """Return the recipe with other clips, to learn from and held back."""
        return replace(self, clips=change(self.clips), held_back=change(self.held_back))


@dataclass(frozen=True, kw_only=True)
class DrivingOptions:
    """`legato train driving`: render driving worlds and train a generating model of them."""

    out: Path = Path("runs/driving")
    """Folder of rendered clips, checkpoints, logs, picture grids and the exported model."""
    stages: tuple[DrivingStage, ...] = ALL
    """Stages to run, in this order; a finished one that is found in `out` is not run again. Name it
    all the same: later ones go on from it."""
    size: int = SIZE[0]
    """Rows of the pictures, half as many as columns: 64, or 128 for 128x256 pixels."""
    clips: int | None = None
    """Clips to render instead of the recipe's number."""
    steps: int | None = None
    """Steps of every stage instead of the recipe's."""
    batch_scale: int = 1
    """The recipe's batches, which suit a CPU, grow by this factor; 12 keeps a large GPU busy."""
    noise_prior: PriorKind = "independent"
    """How the noise of neighbouring key frames hangs together; the model is sampled with the
    same."""
    noise_strength: float = NoisePrior.strength
    """How much, for mixed and progressive noise: the weight of what frames share by that of their
    own."""
    given_shares: tuple[float, float, float] = ContextOptions().shares
    """Shares of clips of which none, one and two first key frames are given."""
    max_context_noise: int = DenoisingOptions.max_context_noise
    """Largest noise on given key frames, as a training timestep, drawn evenly from 0."""
    image_share: float = DenoisingOptions.image_share
    """Share of clips of key frames that are learned as single images; needs --trains-spatial."""
    trains_spatial: bool = DenoisingOptions.trains_spatial
    """Let the image model learn from key frames too, instead of keeping it as it is."""
    sees_frame_rate: bool = Told.sees_frame_rate
    """Tell layers for time the frame rate, and draw each clip's between half and twice the usual
    one, so that `generate --fps` changes what moves how far."""
    sees_noise_level: bool = Told.sees_noise_level
    """Tell layers of key frames how much noise the given ones carry, as `generate --context-noise`
    does; needs --max-context-noise."""
    warm_start: str | None = None
    """Model to start from instead of random numbers: a name such as driving, or a folder, of any
    size. Its encoder stays what it is, for all parts know its latents."""
    max_minutes: float | None = None
    """Stop a stage after this long, with a checkpoint; the same command goes on."""
    lpips_weights: Path | None = None
    """LPIPS weights (SqueezeNet, safetensors) for autoencoder and decoder. Without: L1, beside it
    the autoencoder's discriminator of patches and for the decoder what its own options weigh."""
    decoder_adversarial_weight: float = DECODER.adversarial_weight
    """How much a discriminator of clips counts for the decoder, times its adaptive weight; 0: there
    is none."""
    decoder_adversarial_start: int = DECODER.adversarial_start
    """Steps of the decoder before it counts; it learns from the first one."""

    def __post_init__(self) -> None:
        none_empty(self, ("stages",))
        in_order(self, "stages")
        all_within(self, ("clips", "steps", "batch_scale"), 1)
        all_within(self, ("max_minutes",), 0)
        if self.size % MULTIPLE or not LEAST_ROWS <= self.size <= MOST_ROWS:
            raise InputError(
                f"size={self.size}",
                why=f"networks and renderer take multiples of {MULTIPLE} rows from {LEAST_ROWS} "
                f"to {MOST_ROWS}",
                fix="use 64 or 128",
            )
        all_within(self, ("decoder_adversarial_weight", "decoder_adversarial_start"), 0)
        within("max_context_noise", self.max_context_noise, 0, 999)
        needs = (
            ("noise_strength", "--noise-prior mixed or progressive", self.has_prior),
            (
                "decoder_adversarial_start",
                "--decoder-adversarial-weight above 0",
                self.decoder_adversarial_weight > 0,
            ),
            ("sees_noise_level", "--max-context-noise above 0", self.max_context_noise > 0),
        )
        require_needed(self, needs)
        self.recipe()  # refuses what does not go together

    @property
    def has_prior(self) -> bool:
        """Whether the noise of neighbouring frames hangs together."""
        return self.noise_prior != "independent"

    def denoising(self) -> DenoisingOptions:
        """Return how key frames are taught."""
        none, one, two = self.given_shares
        return DenoisingOptions(
            context=ContextOptions(none=none, one=one, two=two),
            prior=NoisePrior(kind=self.noise_prior, strength=self.noise_strength),
            max_context_noise=self.max_context_noise,
            image_share=self.image_share,
            trains_spatial=self.trains_spatial,
        )

    def decoder(self, steps: int) -> DecoderOptions:
        """Return how the decoder is taught.

        Raises:
            InputError: its discriminator would not count within so many steps.
        """
        weight, start = self.decoder_adversarial_weight, self.decoder_adversarial_start
        if weight and "decoder" in self.stages and start >= steps:
            raise InputError(
                f"decoder_adversarial_weight={weight:g} for {steps} steps",
                why=f"the discriminator counts from step {start} on",
                fix=f"use more --steps, or --decoder-adversarial-start {steps // 4}",
            )
        return replace(DECODER, adversarial_weight=weight, adversarial_start=start)

    def recipe(self) -> DrivingRecipe:
        """Return the recipe with the numbers that were chosen."""
        told = Told(sees_frame_rate=self.sees_frame_rate, sees_noise_level=self.sees_noise_level)
        recipe = replace(DrivingRecipe(), denoising=self.denoising(), told=told)
        size = (self.size, 2 * self.size)
        recipe = recipe.rendering(lambda clips: replace(clips, size=size))
        if told.sees_frame_rate:
            recipe = recipe.rendering(lambda clips: replace(clips, rate_factors=RATE_FACTORS))
        if self.clips is not None:
            recipe = replace(recipe, clips=replace(recipe.clips, clips=self.clips))
        if self.warm_start is not None:
            kept = replace(recipe.autoencoder, trains_encoder=False)
            recipe = replace(recipe, autoencoder=kept)
        if self.steps is not None:
            short = {name: replace(t, steps=self.steps) for name, t in recipe.trainers.items()}
            recipe = replace(recipe, trainers=short)
        recipe = replace(recipe, decoder=self.decoder(recipe.trainers["decoder"].steps))
        sizes = {name: size * self.batch_scale for name, size in recipe.batch_sizes.items()}
        return replace(recipe, batch_sizes=sizes)
