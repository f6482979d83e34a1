"""Attention to a text that stays the same from step to step: it is read once.

Keys and values of a cross-attention depend on the text alone, never on the picture or the timestep.
Where all tokens of a text are equal, as in the embedded model's empty prompt, every key weighs the
same whatever the picture asks: what is read is then one vector per clip, known beforehand.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol, runtime_checkable

import torch
from diffusers.models.attention_processor import Attention, AttnProcessor2_0
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

TEXTS_KEPT = 3
"""A prompt, a negative prompt, and both in one batch."""


@dataclass(frozen=True, slots=True)
class StaticText:
    """What one attention needs of the text of each clip."""

    keys: Float[Tensor, "B N C"]
    values: Float[Tensor, "B N C"]
    read: Float[Tensor, "B 1 C"] | None
    """What is read whatever is asked; None: it depends on the picture."""


@runtime_checkable
class Reader(Protocol):
    """What a processor needs of the model it belongs to."""

    static_text: Mapping[str, StaticText]


class StaticTextProcessor:
    """Attention processor of diffusers that takes keys and values from its owner, if it has them.

    The same numbers as `AttnProcessor2_0`, which does the work everywhere else.
    """

    def __init__(self, owner: Reader, path: str) -> None:
        self.owner, self.path = owner, path
        self.plain = AttnProcessor2_0()

    def __call__(
        self,
        attn: Attention,
        hidden_states: Float[Tensor, "BT P C"],
        encoder_hidden_states: Float[Tensor, "BT N D"] | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
    ) -> Float[Tensor, "BT P C"]:
        """Return what the tokens of each frame read from their clip's text, projected."""
        known = self.owner.static_text.get(self.path)
        out: Tensor
        if known is None or encoder_hidden_states is None or attention_mask is not None:
            out = self.plain(attn, hidden_states, encoder_hidden_states, attention_mask, temb)
            return out
        num_frames = len(hidden_states) // len(known.keys)
        if known.read is not None:
            return known.read.repeat_interleave(num_frames, 0).expand_as(hidden_states)
        k, v = (x.repeat_interleave(num_frames, 0) for x in (known.keys, known.values))
        q, k, v = (
            x.view(len(x), x.shape[1], attn.heads, -1).transpose(1, 2)
            for x in (attn.to_q(hidden_states), k, v)
        )
        out = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        return attn.to_out[0](out)  # type: ignore[no-any-return]


@dataclass
class TextMemory:
    """Keys and values of the last texts; nothing in it outlives the weights it was made with."""

    attentions: dict[str, Attention] = field(default_factory=dict)
    """Those that read text, by their path in the image model."""
    _kept: list[tuple[Tensor, tuple[object, ...], dict[str, StaticText]]] = field(
        default_factory=list
    )

    @torch.no_grad()
    def __call__(self, text: Float[Tensor, "B N D"]) -> Mapping[str, StaticText]:
        """Return what each attention needs of a text; computed anew where text or weights differ.

        Texts are compared by their numbers: a tensor that was changed in place is another text.
        """
        state = tuple(_state(p) for a in self.attentions.values() for p in a.parameters())
        for index, (known, made_with, found) in enumerate(self._kept):
            if made_with == state and _is_same(known, text):
                self._kept.append(self._kept.pop(index))
                return found
        found = {path: _static(a, text) for path, a in self.attentions.items() if _is_plain(a)}
        self._kept = [*self._kept[1 - TEXTS_KEPT :], (text.clone(), state, found)]
        return found

    def __getstate__(self) -> dict[str, object]:
        """Leave what can be computed again out of copies and files."""
        return {"attentions": self.attentions, "_kept": []}


def attach_static_text(
    owner: Reader, spatial: nn.Module
) -> tuple[TextMemory, list[Callable[[], None]]]:
    """Let the cross-attentions of an image model read static text; return what undoes it.

    Models that change the text before their attentions see it are left alone.
    """
    if getattr(spatial, "encoder_hid_proj", None) is not None:
        return TextMemory(), []
    found = {
        path: module
        for path, module in spatial.named_modules()
        if isinstance(module, Attention) and _reads_text(module)
    }
    for path, module in found.items():
        module.set_processor(StaticTextProcessor(owner, path))
    return TextMemory(found), [partial(a.set_processor, AttnProcessor2_0()) for a in found.values()]


def _reads_text(attn: Attention) -> bool:
    """Whether this is a cross-attention of the common kind and nobody has changed it."""
    extras = (attn.spatial_norm, attn.group_norm, attn.norm_q, attn.norm_k, attn.norm_cross)
    is_bare = not any(extra is not None for extra in extras) and not attn.residual_connection
    is_cross: bool = attn.is_cross_attention and type(attn.processor) is AttnProcessor2_0
    return is_cross and is_bare and attn.rescale_output_factor == 1 and not attn.dropout


def _is_plain(attn: Attention) -> bool:
    """Whether the projections are still plain layers: adapters may wrap them at any time."""
    return all(type(layer) is nn.Linear for layer in (attn.to_k, attn.to_v, attn.to_out[0]))


def _static(attn: Attention, text: Float[Tensor, "B N D"]) -> StaticText:
    keys, values = attn.to_k(text), attn.to_v(text)
    is_one = bool((text == text[:, :1]).all())
    return StaticText(keys, values, attn.to_out[0](values[:, :1]) if is_one else None)


def _state(parameter: Tensor) -> tuple[int, int]:
    """Return what changes when a parameter's numbers do."""
    return parameter.data_ptr(), parameter._version


def _is_same(one: Tensor, other: Tensor) -> bool:
    alike = one.shape == other.shape and one.dtype == other.dtype and one.device == other.device
    return alike and torch.equal(one, other)
