"""Models from folders: every part built from its configuration and filled strictly."""

from dataclasses import replace
from typing import Any, TypeVar

import torch
from diffusers import AutoencoderKL, ControlNetModel, UNet2DConditionModel
from torch import Tensor, nn

from legato.errors import InputError, ModelError
from legato.models.box_layout import BoxLayout
from legato.models.decoder import TemporalDecoder, TemporalDecoderOptions
from legato.models.folder import TOPOLOGY, ModelFolder
from legato.models.inflate import VideoModel, check_state, inflate
from legato.models.manifest import REFILL, Manifest, UpscalerDefaults
from legato.models.offload import Offload
from legato.models.spec import find_folder
from legato.models.text import WordEncoder
from legato.models.text_encoder import ClipText
from legato.models.tiny_autoencoder import FACTOR, TinyAutoencoder
from legato.models.upscaler import UpscalerModel

Part = TypeVar("Part", bound=nn.Module)

SCHEDULE = "scheduler_config.json"
PER_FRAME = UpscalerDefaults(guidance_scale=9.0, overlap=0)
"""Of a plain image upscaler: diffusers' defaults; its frames are independent."""
BUILDERS: dict[str, Any] = {
    "UNet2DConditionModel": UNet2DConditionModel.from_config,
    "AutoencoderKL": AutoencoderKL.from_config,
    "ControlNetModel": ControlNetModel.from_config,
    "TinyAutoencoder": TinyAutoencoder.from_config,
    "WordEncoder": WordEncoder.from_config,
    "BoxLayout": BoxLayout.from_config,
}
NOT_UNDERSTOOD = (
    AttributeError,
    LookupError,
    ArithmeticError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""What building a network from a damaged configuration may raise."""
OLD_ATTENTION_NAMES = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
"""Of an autoencoder's attention: old diffusers name -> new."""


def load_upscaler(name_or_path: str, device: torch.device, dtype: torch.dtype) -> UpscalerModel:
    """Load an upscaling model, frozen and in evaluation mode.

    Args:
        name_or_path: name in `SPECS`, or path of a folder; one of diffusers without `legato.json`
            works frame by frame.
        device: where to put it.
        dtype: precision of the weights.

    Raises:
        ModelError: it is missing, damaged, or not an upscaling model.
    """
    root = find_folder(name_or_path)
    folder = ModelFolder(root)
    if folder.manifest is not None:
        require_job(folder.manifest, "upscale")
    unet, autoencoder = load_unet(folder), load_autoencoder(folder)
    schedule = folder.config("scheduler", SCHEDULE)
    low_res_schedule = folder.config("low_res_scheduler", SCHEDULE)
    manifest = checked_manifest(folder, unet, autoencoder, schedule)
    ready_(unet, device, dtype)
    ready_(autoencoder, device, decoder_dtype(autoencoder, dtype))
    return UpscalerModel(
        name=manifest.name,
        licence=manifest.licence,
        sha256=manifest.fingerprint if folder.manifest else "",
        scale=manifest.scale,
        defaults=manifest.upscaling,
        unet=unet,
        autoencoder=autoencoder,
        text=load_text(folder, device, dtype),
        schedule=schedule,
        low_res_schedule=low_res_schedule,
    )


def offloaded(
    model: UpscalerModel, name_or_path: str, device: torch.device, dtype: torch.dtype
) -> UpscalerModel:
    """Return a loaded model of which only the part at work keeps its weights in memory.

    Args:
        model: as `load_upscaler` returned it for the other arguments.
        name_or_path: where its weights are read from again.
        device: where to put them.
        dtype: their precision.
    """
    folder = ModelFolder(find_folder(name_or_path))
    unet, autoencoder = model.unet, model.autoencoder

    def fill_unet() -> None:
        fill_part_(unet.spatial, folder.weights("unet"), "unet")
        if folder.has("temporal"):
            unet.load_temporal_(folder.weights("temporal"), folder.config("temporal"))
        ready_(unet, device, dtype)

    def fill_autoencoder() -> None:
        _fill_autoencoder(autoencoder, folder)
        ready_(autoencoder, device, decoder_dtype(autoencoder, dtype))

    return replace(model, offload=Offload({unet: fill_unet, autoencoder: fill_autoencoder}))


def require_job(manifest: Manifest, job: str) -> None:
    """Refuse a model that is made for something else.

    Raises:
        ModelError: it is.
    """
    if manifest.job != job:
        raise ModelError(
            f"model {manifest.name!r}", why=f"it is made to {manifest.job}", fix=f"use one to {job}"
        )


def load_unet(folder: ModelFolder, *, image: ModelFolder | None = None) -> VideoModel:
    """Return the U-Net of a folder with its temporal layers, if it has any, on the CPU.

    Args:
        folder: gives the temporal layers, and the image U-Net unless another folder does.
        image: a folder whose image U-Net the temporal layers are attached to instead.

    Raises:
        ModelError: a part is missing, damaged or does not fit.
    """
    unet = load_image_unet(image or folder)
    if not folder.has("temporal"):
        return inflate(unet, "image")
    return load_layers(folder, "temporal", unet)


def load_image_unet(folder: ModelFolder, part: str = "unet") -> UNet2DConditionModel:
    """Return a U-Net of a folder without temporal layers, on the CPU.

    Raises:
        ModelError: it is missing, damaged or does not fit.
    """
    if folder.has("temporal") and not folder.has(part):
        raise ModelError(
            f"{folder.root} holds temporal layers alone",
            why="they act on an image model, which is not part of it",
            fix="name an image model for them; legato models match shows which fit",
        )
    unet = build_part(folder, part, {"UNet2DConditionModel"})
    fill_part_(unet, folder.weights(part), part)
    assert isinstance(unet, UNet2DConditionModel)
    return unet


def load_layers(folder: ModelFolder, part: str, unet: UNet2DConditionModel) -> VideoModel:
    """Return a U-Net with the temporal layers of a part of the folder.

    Raises:
        ModelError: they are missing, damaged, or belong to another topology.
    """
    config = folder.config(part)
    try:
        with torch.device("meta"):
            model = inflate(unet, config["family"], **config["options"])
    except (InputError, KeyError, TypeError) as error:
        raise _misunderstood(folder, part, error) from error
    model.load_temporal_(folder.weights(part), config)
    return model


def load_layers_alone(folder: ModelFolder) -> VideoModel:
    """Return temporal layers that were saved alone, on a U-Net of their topology without weights.

    Raises:
        ModelError: they are missing, damaged, or do not fit that topology.
    """
    try:
        with torch.device("meta"):
            unet = UNet2DConditionModel.from_config(folder.config("temporal", TOPOLOGY))
    except NOT_UNDERSTOOD as error:
        raise _misunderstood(folder, "temporal", error) from error
    assert isinstance(unet, UNet2DConditionModel)
    return load_layers(folder, "temporal", unet)


def load_autoencoder(
    folder: ModelFolder, *, temporal: bool = True
) -> TinyAutoencoder | TemporalDecoder:
    """Return the autoencoder of a folder, on the CPU; one of diffusers with its temporal layers.

    Args:
        folder: of the model.
        temporal: whether to take temporal layers of the decoder, if it has any.

    Raises:
        ModelError: a part is missing, damaged or does not fit.
    """
    model = build_part(folder, "vae", {"AutoencoderKL", "TinyAutoencoder"})
    state = folder.weights("vae")
    if isinstance(model, TinyAutoencoder):
        if not any(key.startswith("encoder.") for key in state):
            model.encoder = None  # type: ignore[assignment]
        fill_part_(model, state, "vae")
        return model
    assert isinstance(model, AutoencoderKL)
    if not temporal or not folder.has("temporal_decoder"):
        decoder = TemporalDecoder(model, TemporalDecoderOptions(conv="none"))
        fill_part_(model, with_new_attention_names(state), "vae")
        return decoder
    config = folder.config("temporal_decoder")
    try:
        with torch.device("meta"):
            decoder = TemporalDecoder(model, TemporalDecoderOptions(**config["options"]))
    except (KeyError, TypeError) as error:
        raise _misunderstood(folder, "temporal_decoder", error) from error
    _fill_autoencoder(decoder, folder)
    return decoder


def _fill_autoencoder(model: TinyAutoencoder | TemporalDecoder, folder: ModelFolder) -> None:
    state = folder.weights("vae")
    if isinstance(model, TinyAutoencoder):
        fill_part_(model, state, "vae")
        return
    fill_part_(model.spatial, with_new_attention_names(state), "vae")
    if folder.has("temporal_decoder"):
        weights = folder.weights("temporal_decoder")
        model.load_temporal_(weights, folder.config("temporal_decoder"))


def load_words(folder: ModelFolder) -> WordEncoder:
    """Return the closed vocabulary of a folder, on the CPU.

    Raises:
        ModelError: it is missing, damaged or does not fit.
    """
    model = build_part(folder, "words", {"WordEncoder"})
    assert isinstance(model, WordEncoder)
    fill_part_(model, folder.weights("words"), "words")
    return model


def load_text(
    folder: ModelFolder, device: torch.device, dtype: torch.dtype
) -> WordEncoder | ClipText:
    """Return what embeds prompts for a folder's image model.

    Raises:
        ModelError: it is missing or damaged.
    """
    if folder.has("words"):
        return ready_(load_words(folder), device, dtype)
    return ClipText(folder.root, device, dtype)


def load_layout(folder: ModelFolder) -> BoxLayout:
    """Return what tells a folder's image model of boxes, on the CPU.

    Raises:
        ModelError: it is missing, damaged or does not fit.
    """
    model = build_part(folder, "layout", {"BoxLayout"})
    assert isinstance(model, BoxLayout)
    fill_part_(model, folder.weights("layout"), "layout")
    return model


def with_new_attention_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename the parameters of an autoencoder's attention as diffusers does since 0.17."""
    renamed = {}
    for key, value in state.items():
        parts = key.split(".")
        if "attentions" in parts:
            key = ".".join(OLD_ATTENTION_NAMES.get(part, part) for part in parts)
        renamed[key] = value
    return renamed


def ready_(part: Part, device: torch.device, dtype: torch.dtype) -> Part:
    """Move a network, freeze it, and lay its convolutions out channels-last, in place."""
    part.to(device=device, dtype=dtype).eval().requires_grad_(False)
    for parameter in part.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    return part


def build_part(folder: ModelFolder, part: str, wanted: set[str]) -> nn.Module:
    """Return the network that a part's configuration describes, on the meta device.

    Raises:
        ModelError: it is missing, or describes something that is not wanted.
    """
    config = folder.config(part)
    name = config.get("_class_name")
    if name not in wanted:
        raise ModelError(
            f"{folder.path(part)} is a {name}",
            why=f"there must be a {' or '.join(sorted(wanted))}",
            fix="use a model folder of the right kind",
        )
    try:
        with torch.device("meta"):
            model: nn.Module = BUILDERS[name](config)
    except NOT_UNDERSTOOD as error:
        raise _misunderstood(folder, part, error) from error
    return model


def fill_part_(model: nn.Module, state: dict[str, Tensor], part: str) -> None:
    """Give a network the weights of a part.

    Raises:
        ModelError: they do not fit.
    """
    check_state(state, model.state_dict(), what=f"weights of {part}")
    model.load_state_dict(state, assign=True)


def checked_manifest(
    folder: ModelFolder,
    unet: VideoModel,
    autoencoder: TinyAutoencoder | TemporalDecoder,
    schedule: dict[str, Any],
) -> Manifest:
    """Return a folder's `legato.json`, or what stands for it, once the parts belong together.

    Raises:
        ModelError: they do not.
    """
    latent, scale = latent_facts(autoencoder)
    manifest = folder.manifest or Manifest(
        name=folder.root.name,
        family="image",
        licence="unknown",
        scale=scale,
        prediction_type=schedule.get("prediction_type", "epsilon"),
        defaults=PER_FRAME,
    )
    shape: Any = unet.spatial.config
    predicts = schedule.get("prediction_type", "epsilon")
    facts = (
        ("the U-Net's input channels", shape.in_channels, latent + 3),
        ("the U-Net's output channels", shape.out_channels, latent),
        ("the decoder's scale", scale, manifest.scale),
        ("what the scheduler predicts", predicts, manifest.prediction_type),
    )
    for name, value, needed in facts:
        if value != needed:
            raise ModelError(
                f"model {manifest.name!r}: {name} is {value}",
                why=f"the other parts need {needed}",
                fix="use parts that belong together",
            )
    if manifest.upscaling.max_noise_level >= (shape.num_class_embeds or 0):
        raise ModelError(
            f"model {manifest.name!r}: num_class_embeds is {shape.num_class_embeds}",
            why=f"noise levels go up to {manifest.upscaling.max_noise_level}",
            fix="use a U-Net that was trained with noise levels as class labels",
        )
    return manifest


def latent_facts(autoencoder: TinyAutoencoder | TemporalDecoder) -> tuple[int, int]:
    """Return (channels, pixels per cell each way) of the latents."""
    if isinstance(autoencoder, TinyAutoencoder):
        return autoencoder.config.latent_channels, FACTOR
    config = autoencoder.spatial.config
    return config.latent_channels, 2 ** (len(config.block_out_channels) - 1)


def decoder_dtype(
    autoencoder: TinyAutoencoder | TemporalDecoder, dtype: torch.dtype
) -> torch.dtype:
    """Return float32 where the autoencoder asks for it: in bfloat16 it costs 3 dB, see 0016."""
    if isinstance(autoencoder, TinyAutoencoder):
        return dtype
    return torch.float32 if autoencoder.spatial.config.get("force_upcast", True) else dtype


def _misunderstood(folder: ModelFolder, part: str, error: Exception) -> ModelError:
    reason = " ".join(str(error).split()) or type(error).__name__
    return ModelError(
        f"{folder.path(part) / 'config.json'} is not understood", why=reason[:200], fix=REFILL
    )
