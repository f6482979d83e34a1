"""Parts of a model folder, each built from its configuration and filled strictly."""

from math import inf
from typing import Any, TypeVar

import torch
from diffusers import AutoencoderKL, ControlNetModel, UNet2DConditionModel
from torch import Tensor, nn

from legato.device import KEPT_BYTES, keep_freed_memory, return_freed_memory
from legato.errors import InputError, ModelError, first_sentence
from legato.models.box_layout import BoxLayout
from legato.models.decoder import TemporalDecoder, TemporalDecoderOptions
from legato.models.folder import TOPOLOGY, ModelFolder
from legato.models.inflate import VideoModel, check_state, inflate
from legato.models.linear import use_fast_linear_
from legato.models.manifest import REFILL
from legato.models.pixel_residual import CHANNELS, PixelResidual
from legato.models.text import WordEncoder
from legato.models.text_encoder import ClipText
from legato.models.tiny_autoencoder import FACTOR, TinyAutoencoder

Part = TypeVar("Part", bound=nn.Module)
Autoencoder = TinyAutoencoder | PixelResidual | TemporalDecoder

SCHEDULE = "scheduler_config.json"
LARGE_BYTES = 1 << 30
"""Of parameters: the full-size networks, not the small ones."""
BUILDERS: dict[str, Any] = {
    "UNet2DConditionModel": UNet2DConditionModel.from_config,
    "AutoencoderKL": AutoencoderKL.from_config,
    "ControlNetModel": ControlNetModel.from_config,
    "TinyAutoencoder": TinyAutoencoder.from_config,
    "PixelResidual": PixelResidual.from_config,
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
    return _load(folder, part, UNet2DConditionModel)


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


def load_autoencoder(folder: ModelFolder, *, temporal: bool = True) -> Autoencoder:
    """Return the autoencoder of a folder, on the CPU; one of diffusers with its temporal layers.

    Args:
        folder: of the model.
        temporal: whether to take temporal layers of the decoder, if it has any.

    Raises:
        ModelError: a part is missing, damaged or does not fit.
    """
    model = build_part(folder, "vae", {"AutoencoderKL", "TinyAutoencoder", "PixelResidual"})
    state = folder.weights("vae")
    if isinstance(model, TinyAutoencoder) and not any(key.startswith("encoder.") for key in state):
        model.encoder = None  # type: ignore[assignment]
    if isinstance(model, TinyAutoencoder | PixelResidual):
        fill_part_(model, state, "vae")
        return model
    assert isinstance(model, AutoencoderKL)
    _require_plain_scaling(folder, model.config)
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
    fill_autoencoder_(decoder, folder)
    return decoder


def _require_plain_scaling(folder: ModelFolder, config: Any) -> None:  # noqa: ANN401 - diffusers'
    """Refuse latents that are not the encoder's times a number.

    Raises:
        ModelError: they are shifted, or the number is none.
    """
    factor, path = config.scaling_factor, folder.path("vae") / "config.json"
    if not isinstance(factor, int | float) or not 0 < factor < inf:
        raise ModelError(
            f"{path} has scaling_factor={factor!r}", why="it must be above 0", fix=REFILL
        )
    for name in ("shift_factor", "latents_mean", "latents_std"):
        if config.get(name) is not None:
            raise ModelError(
                f"{path} has {name}={config[name]!r}",
                why="latents are scaled by scaling_factor only",
                fix="use a model of the kind of Stable Diffusion 1.x or 2.x",
            )


def fill_autoencoder_(model: Autoencoder, folder: ModelFolder) -> None:
    """Give an autoencoder the weights of a folder, with those of its temporal layers.

    Raises:
        ModelError: they do not fit.
    """
    state = folder.weights("vae")
    if not isinstance(model, TemporalDecoder):
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
    return _load(folder, "words", WordEncoder)


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
    return _load(folder, "layout", BoxLayout)


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
    """Move a network, freeze it, and make its layers as fast as they get, in place.

    Convolutions are laid out channels-last.
    """
    nn.Module.to(part, device=device, dtype=dtype)  # diffusers' own warns of layers it cannot name
    part.eval().requires_grad_(False)
    use_fast_linear_(part)
    for parameter in part.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    return_freed_memory()  # of the former layout, which nothing later fits into
    weights = sum(parameter.nbytes for parameter in part.parameters())
    if weights > LARGE_BYTES or dtype.itemsize < 4:
        keep_freed_memory(KEPT_BYTES // 2)  # beside much arithmetic or for tensors half as large
    return part


def _load(folder: ModelFolder, part: str, kind: type[Part]) -> Part:
    model = build_part(folder, part, {kind.__name__})
    assert isinstance(model, kind)
    fill_part_(model, folder.weights(part), part)
    return model


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


def is_small(folder: ModelFolder) -> bool:
    """Tell whether a model has the embedded one's autoencoder."""
    return folder.config("vae").get("_class_name") == "TinyAutoencoder"


def latent_facts(autoencoder: Autoencoder) -> tuple[int, int]:
    """Return (channels, pixels per cell each way) of the latents."""
    if isinstance(autoencoder, TinyAutoencoder):
        return autoencoder.config.latent_channels, FACTOR
    if isinstance(autoencoder, PixelResidual):
        return CHANNELS, FACTOR
    config = autoencoder.spatial.config
    return config.latent_channels, 2 ** (len(config.block_out_channels) - 1)


def decoder_dtype(autoencoder: Autoencoder, dtype: torch.dtype) -> torch.dtype:
    """Return float32 where the autoencoder asks for it: in bfloat16 it costs 3 dB, see 0016.

    And where it only adds, which bfloat16 would round.
    """
    if isinstance(autoencoder, TinyAutoencoder):
        return dtype
    if isinstance(autoencoder, PixelResidual):
        return torch.float32
    return torch.float32 if autoencoder.spatial.config.get("force_upcast", True) else dtype


def _misunderstood(folder: ModelFolder, part: str, error: Exception) -> ModelError:
    return ModelError(
        f"{folder.path(part) / 'config.json'} is not understood",
        why=first_sentence(error),
        fix=REFILL,
    )
