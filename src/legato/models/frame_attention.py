"""Self-attention that sees the frames of a clip: one processor, and the interface of what it does.

A *frame attention* is a function of a call's queries, keys and values, with the frames as an axis,
and of the state that all processors of a model share. The processor does the rest as diffusers
does: norms, projections, heads, residual. The batch axis of a U-Net is (half, frame): halves of
classifier-free guidance never mix.
"""

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import torch
from diffusers.models.attention_processor import Attention
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from legato.models.attention_sites import SelfAttentionSite
from legato.models.reference import Reference
from legato.models.token_correspondence import ByTokens


@dataclass(kw_only=True)
class ClipState:
    """What the processors of one model know of the call to come; changed between calls."""

    num_frames: int = 0
    """Frames of each half; 0 leaves the image model alone."""

    step: int = 0
    """Of the denoising loop."""

    correspondences: ByTokens = field(default_factory=dict)
    """Between the clip's frames."""

    reference: Reference | None = None
    """What the U-Net held in the reference pass."""


@dataclass(frozen=True, kw_only=True)
class FrameTokens:
    """One call of one self-attention on `B` halves of `T` frames of `N` tokens."""

    name: str
    """Dotted name of the module."""
    query: Float[Tensor, "B T N heads d"]
    key: Float[Tensor, "B T N heads d"]
    value: Float[Tensor, "B T N heads d"]
    hidden: Float[Tensor, "B T N C"]
    """What queries, keys and values were projected from."""
    project: Callable[[Tensor], tuple[Tensor, Tensor]]
    """The module's input at another time, as captured, to its (query, key)."""


@runtime_checkable
class FrameAttention(Protocol):
    """How the frames of a clip attend to each other."""

    def __call__(self, tokens: FrameTokens, state: ClipState) -> Float[Tensor, "B T N heads d"]:
        """Return what each token reads."""
        ...


class FrameProcessor:
    """Attention processor of diffusers that lets a frame attention stand in for one module's own.

    Args:
        name: of the module, e.g. for the reference.
        attention: what is computed.
        state: shared by the processors of a model.
        before: the processor that it stands in for; it computes what is not self-attention of a
            clip's frames.
    """

    def __init__(
        self, name: str, attention: FrameAttention, state: ClipState, before: Callable[..., Tensor]
    ) -> None:
        self.name, self.attention, self.state, self.before = name, attention, state, before

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
        **kwargs: object,
    ) -> Tensor:
        """Return the module's output, as diffusers' processors do."""
        frames = self.state.num_frames
        if encoder_hidden_states is not None or attention_mask is not None or not frames:
            return self.before(
                attn, hidden_states, encoder_hidden_states, attention_mask, temb, **kwargs
            )
        tokens = frame_tokens(self.name, attn, hidden_states, frames, temb)
        out = rearrange(self.attention(tokens, self.state), "b t n heads d -> (b t) n (heads d)")
        for layer in attn.to_out:  # projection and dropout
            out = layer(out)
        if hidden_states.ndim == 4:
            out = out.transpose(1, 2).reshape(hidden_states.shape)
        if attn.residual_connection:
            out = out + hidden_states
        return out if attn.rescale_output_factor == 1 else out / attn.rescale_output_factor


def frame_tokens(
    name: str, attn: Attention, hidden_states: Tensor, num_frames: int, temb: Tensor | None
) -> FrameTokens:
    """Normalise and project a module's input, with its frames as an axis."""

    def normalised(x: Tensor) -> Float[Tensor, "rows N C"]:
        if attn.spatial_norm is not None:
            x = attn.spatial_norm(x, temb)
        x = x.flatten(2).transpose(1, 2) if x.ndim == 4 else x
        return x if attn.group_norm is None else attn.group_norm(x.mT).mT

    def split(x: Float[Tensor, "rows N D"], norm: nn.Module | None) -> Tensor:
        heads = rearrange(x, "(b t) n (h d) -> b t n h d", t=num_frames, h=attn.heads)
        return heads if norm is None else norm(heads)

    def project(x: Tensor) -> tuple[Tensor, Tensor]:
        x = normalised(x)
        return split(attn.to_q(x), attn.norm_q), split(attn.to_k(x), attn.norm_k)

    tokens = normalised(hidden_states)
    query, key = split(attn.to_q(tokens), attn.norm_q), split(attn.to_k(tokens), attn.norm_k)
    return FrameTokens(
        name=name,
        query=query,
        key=key,
        value=split(attn.to_v(tokens), None),
        hidden=rearrange(tokens, "(b t) n c -> b t n c", t=num_frames),
        project=project,
    )


def install(
    unet: nn.Module,
    sites: Iterable[SelfAttentionSite],
    attention: FrameAttention,
    state: ClipState,
) -> Callable[[], None]:
    """Let a frame attention act at chosen self-attentions; return what takes it off again.

    Every other processor, such as an image adapter's, stays.
    """
    undo = ExitStack()
    for site in sites:
        module = unet.get_submodule(site.path)
        assert isinstance(module, Attention)
        before = module.processor
        module.set_processor(FrameProcessor(site.path, attention, state, before))
        undo.callback(module.set_processor, before)
    return undo.close


def attend(
    query: Float[Tensor, "B N heads d"],
    key: Float[Tensor, "B M heads d"],
    value: Float[Tensor, "B M heads e"],
    *,
    temperature: float = 1.0,
    mask: Tensor | None = None,
) -> Float[Tensor, "B N heads e"]:
    """Return softmax(q k^T / (temperature sqrt d)) v per head, without the matrix in memory.

    Args:
        query: of the tokens that read.
        key: of those that are read from.
        value: what is read.
        temperature: above 1 reads more evenly.
        mask: bool, `B 1 N M`, True where reading is allowed.
    """
    scale = 1 / (temperature * query.shape[-1] ** 0.5)
    q, k, v = (x.transpose(1, 2) for x in (query, key, value))
    out: Tensor = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale)
    return out.transpose(1, 2)


def within_frames(
    query: Float[Tensor, "B T N heads d"],
    key: Float[Tensor, "B T M heads d"],
    value: Float[Tensor, "B T M heads e"],
    *,
    temperature: float = 1.0,
) -> Float[Tensor, "B T N heads e"]:
    """Return the attention of every frame to its own keys."""
    q, k, v = (x.flatten(0, 1) for x in (query, key, value))
    out = attend(q, k, v, temperature=temperature)
    return rearrange(out, "(b t) n h d -> b t n h d", b=len(query))


def to_shared(
    query: Float[Tensor, "B T N heads d"],
    key: Float[Tensor, "B M heads d"],
    value: Float[Tensor, "B M heads e"],
) -> Float[Tensor, "B T N heads e"]:
    """Return the attention of every frame to one list of keys, which is not repeated for them."""
    out = attend(query.flatten(1, 2), key, value)
    return rearrange(out, "b (t n) h d -> b t n h d", t=query.shape[1])


def chosen_tokens(x: Float[Tensor, "B T N heads d"], index: Tensor) -> Float[Tensor, "B M heads d"]:
    """Return the tokens at indices that count through all frames."""
    return torch.index_select(x.flatten(1, 2), 1, index)
