"""`legato train frames` and `legato train dreambooth`: an image model learns new pictures.

The result is an image model of the same topology: temporal layers that were trained on the old one
act on it (`legato generate --spatial`; Blattmann et al. 2023, arXiv:2304.08818, section 4.2.1).
"""

from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from accelerate import PartialState
from safetensors.torch import load_file

from legato.device import keep_freed_memory
from legato.errors import InputError
from legato.models.image_model import ImageModel, load_image_model
from legato.models.text import WordEncoder
from legato.models.text_encoder import ClipPair, ClipText
from legato.models.trainable_text import TrainableText
from legato.pipelines.limits import all_above_zero, all_within, none_empty, require_needed
from legato.tensor_file import save_tensors
from legato.training.export import export_image
from legato.training.picture_stage import PictureOptions, PictureTask, sampled
from legato.training.pictures import (
    HELD_BACK,
    PictureBatchOptions,
    Pictures,
    PictureSamples,
    Prior,
    held_back_batches,
    joined,
)
from legato.training.run_record import begin_run, beginning
from legato.training.shard_batches import Share, numbered_batches
from legato.training.trainer import Log, TrainerOptions, silent, train

PRIOR = "prior.safetensors"
PRIOR_SEED = 1


@dataclass(frozen=True, kw_only=True)
class TuneOptions:
    """`legato train frames`: tune an image model on single frames of the videos whose motion it is
    to learn afterwards, as Video LDM does before its temporal layers. The same command goes on.
    """

    data: tuple[Path, ...]
    """Folders of images, NAME.txt beside NAME.png being the caption, or of shards of clips
    (`legato train shards`), of which single frames are taken."""
    held_back: Path | None = None
    """Such a folder that is not learned from, for validation. Default: the first of `data`."""
    model: str = "driving"
    """What to start from: an installed model, or a folder of Stable Diffusion's 1.x or 2.x layout;
    of a generating model the image model is taken."""
    prompt: str = ""
    """Stands before every caption."""
    out: Path = Path("runs/frames")
    """Folder of checkpoints, logs, picture grids and the exported model."""
    width: int | None = None
    """Columns of the pictures. Default: the model's own."""
    height: int | None = None
    """Rows of the pictures. Default: the model's own."""
    steps: int = 5000
    """Optimizer steps."""
    batch_size: int = 8
    """Pictures of a step over all processes; gradients are accumulated."""
    pictures_at_once: int = 8
    """Pictures that one process holds."""
    learning_rate: float = 1e-5
    """Peak rate. The model `driving` is small and takes 1e-4."""
    ema_decay: float = 0.999
    """Decay of the averaged weights, which are what is exported."""
    prompt_dropout: float = 0.1
    """Share of pictures whose prompt is dropped, for guidance."""
    gradient_checkpointing: bool = False
    """Compute activations twice instead of keeping them."""
    num_workers: int = 2
    """Processes that read pictures; 0: the training itself."""
    validate_every: int = 500
    """Steps between validations, each with a checkpoint."""
    seed: int = 0
    """Seed of batches and noise."""
    max_minutes: float | None = None
    """Stop after this long, with a checkpoint; the same command goes on."""

    def __post_init__(self) -> None:
        none_empty(self, ("data",))
        counts = ("steps", "batch_size", "pictures_at_once", "validate_every", "width", "height")
        all_within(self, counts, 1)
        all_within(self, ("num_workers", "seed", "max_minutes"), 0)
        all_within(self, ("ema_decay", "prompt_dropout"), 0, 1)
        all_above_zero(self, ("learning_rate",))

    @property
    def learning(self) -> PictureOptions:
        """What learns."""
        return PictureOptions()


@dataclass(frozen=True, kw_only=True)
class DreamBoothOptions(TuneOptions):
    """`legato train dreambooth`: teach an image model a new word for what a few pictures show.
    It keeps what it knew by learning from its own pictures beside them. The same command goes on.
    """

    prompt: str = field()  # required, unlike that of `TuneOptions`
    """Names what is new, such as 'a photo of a sks dog', before every caption. Words that a closed
    vocabulary lacks are added to it."""
    prior_prompt: str = ""
    """The same without what is new, such as 'a photo of a dog'."""
    prior_pictures: int = 256
    """Pictures that the model makes of it before it learns; 0: it may forget."""
    prior_weight: float = 1.0
    """Weight of their loss."""
    trains_text: bool = True
    """Whether the text encoder learns too."""
    out: Path = Path("runs/dreambooth")
    steps: int = 800
    batch_size: int = 1
    pictures_at_once: int = 1
    learning_rate: float = 1e-6
    ema_decay: float = 0.99
    prompt_dropout: float = 0.0
    validate_every: int = 200

    def __post_init__(self) -> None:
        super().__post_init__()
        all_within(self, ("prior_pictures", "prior_weight"), 0)
        if self.prior_prompt and not self.prior_pictures:
            raise InputError(
                f"prior_prompt={self.prior_prompt!r} and prior_pictures=0",
                why="the prompt is of the prior's pictures",
                fix="leave it out, or have some made",
            )
        has_prior = self.prior_pictures > 0
        require_needed(self, [("prior_weight", "--prior-pictures above 0", has_prior)])

    @property
    def learning(self) -> PictureOptions:
        """What learns."""
        return PictureOptions(trains_text=self.trains_text, prior_weight=self.prior_weight)


def train_frames(options: TuneOptions, *, log: Log = silent) -> Path:
    """Tune the U-Net on single pictures and export an image model; return its folder.

    Raises:
        InputError: a folder holds no pictures, or a size cannot be made.
        ModelError: there is no such image model.
    """
    return _train(options, None, log)


def train_dreambooth(options: DreamBoothOptions, *, log: Log = silent) -> Path:
    """Tune U-Net and text encoder on a few pictures and a prior; return the exported folder.

    Raises:
        InputError: a folder holds no pictures, or a size cannot be made.
        ModelError: there is no such image model.
    """
    return _train(options, options, log)


def _train(options: TuneOptions, booth: DreamBoothOptions | None, log: Log) -> Path:
    keep_freed_memory()
    here = PartialState(cpu=not torch.cuda.is_available())
    say = log if here.is_main_process else silent
    model = load_image_model(options.model, here.device, torch.float32)
    size = model.size_of(options.width, options.height)
    pictures, validated = Pictures(options.data), Pictures((options.held_back or options.data[0],))
    words = _words(options, booth, model, pictures, validated)
    text = TrainableText(words).to(here.device)
    model.unet.set_gradient_checkpointing(options.gradient_checkpointing)
    share = Share(
        process=here.process_index,
        num_processes=here.num_processes,
        clips_at_once=options.pictures_at_once,
        num_workers=options.num_workers,
    )
    trainer = _trainer(options, share)
    kinds = PictureBatchOptions(
        size=size,
        prompt=options.prompt,
        prompt_dropout=options.prompt_dropout,
        seed=options.seed,
    )
    with beginning(options.out):
        begin_run("dreambooth" if booth else "frames", options, say)
        held_back, prior = held_back_batches(validated, kinds), None
        if booth is not None and booth.prior_pictures:
            say(f"{booth.prior_pictures} pictures of the prior")
            prior = _prior(booth, model, text, pictures, size, here.main_process_first())
    task = PictureTask(model, text, held_back, options.learning, prior=prior)
    samples = PictureSamples(pictures, kinds, prior)
    finished = train(
        task,
        lambda step: numbered_batches(samples, options.batch_size, share, step, log=say),
        trainer,
        folder=options.out,
        max_minutes=options.max_minutes,
        log=say,
    )
    if not finished:
        say("time is up; the same command goes on")
    target = options.out / "model"
    if here.is_main_process:
        export_image(replace(model, text=words), text, target)
    here.wait_for_everyone()
    return target


def _words(
    options: TuneOptions,
    booth: DreamBoothOptions | None,
    model: ImageModel,
    pictures: Pictures,
    validated: Pictures,
) -> WordEncoder | ClipText | ClipPair:
    """Return what embeds prompts; a closed vocabulary grows by those of a new word.

    Raises:
        InputError: a caption holds another word that it lacks.
    """
    words = model.text
    if not isinstance(words, WordEncoder):
        return words
    if booth is not None:
        words = words.with_words_of(booth.prompt)
        pictures.require_known(words, booth.prior_prompt, booth.prior_pictures)
    pictures.require_known(words, options.prompt)
    validated.require_known(words, options.prompt, HELD_BACK)
    return words


def _trainer(options: TuneOptions, share: Share) -> TrainerOptions:
    return TrainerOptions(
        steps=options.steps,
        learning_rate=options.learning_rate,
        warm_up=min(100, max(options.steps // 10, 1)),
        ema_decay=options.ema_decay,
        validate_every=options.validate_every,
        accumulation=share.accumulation(options.batch_size),
        seed=options.seed,
    )


def _prior(
    options: DreamBoothOptions,
    model: ImageModel,
    text: TrainableText,
    pictures: Pictures,
    size: tuple[int, int],
    one_by_one: AbstractContextManager[None],
) -> Prior:
    """Return what the untouched model shows, made once and kept in the folder of the run."""
    captions = [
        joined(options.prior_prompt, pictures.caption(k % len(pictures)))
        for k in range(options.prior_pictures)
    ]
    shape = (model.latent_channels, size[1] // model.scale, size[0] // model.scale)
    path = options.out / PRIOR
    with one_by_one:
        if path.exists():
            latents = load_file(path)["latents"]
        else:
            latents = sampled(model, text, captions, shape=shape, seed=PRIOR_SEED)[:, 0]
            path.parent.mkdir(parents=True, exist_ok=True)
            save_tensors({"latents": latents}, path)
    if latents.shape != (len(captions), *shape):
        raise InputError(
            f"{path}",
            why="it was made for another size or number of pictures",
            fix="remove it, or use another folder with --out",
        )
    return Prior(latents=latents, captions=captions)
