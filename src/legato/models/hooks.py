"""The hooks that act at sites, and how they are put on an image model and taken off again.

Hooks are objects that hold the owner and the key of their layer, never closures: a deep copy or a
pickle of the owner then carries hooks that are bound to the copy.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from legato.models.sites import DECODER_CONVS, Site
from legato.models.temporal_conv import TemporalConv, add_, norm_frames

BLOCK_ARGUMENTS = (
    "attention_mask",
    "encoder_hidden_states",
    "encoder_attention_mask",
    "timestep",
    "cross_attention_kwargs",
)
"""Arguments of a `BasicTransformerBlock` after its tokens; checkpointing omits the names."""

Trunk = Tensor | tuple[Any, ...]
"""What a block returns: the trunk, alone or with the skip tensors behind it."""


@dataclass(frozen=True, kw_only=True)
class ClipContext:
    """What the temporal layers of one call need to know."""

    num_frames: int
    text: Tensor | None = None
    """`B N D`: the text that temporal layers read; may differ from the spatial layers' text."""
    image_only: Tensor | None = None
    """`B T`: True where a frame stays as the image model makes it; it is seen by the others."""
    low_res: Tensor | None = None
    """`BT 3 h w`: the low-resolution frames that condition a decoder."""
    condition_weight: float = 1.0
    """How much of what they say is added."""
    given: Tensor | None = None
    """`BT K h w`: given frames and their mask, which join the temporal convolutions."""
    micro: Tensor | None = None
    """`BT E`: what is added to the time embedding that temporal layers read."""
    window: int | None = None
    """Frames further apart do not attend to each other."""

    def wanted(self, delta: Tensor) -> Tensor:
        """Return a layer's difference `BT ...` with zeros at the frames that are images only."""
        if self.image_only is None:
            return delta
        return delta.masked_fill(self.image_only.reshape(-1, *[1] * (delta.ndim - 1)), 0)


class Owner(nn.Module):
    """What a hook needs of the model it belongs to; no protocol, which sees no submodules."""

    temporal: nn.ModuleDict
    context: ClipContext | None
    skip: frozenset[str]


class SiteHook:
    """Adds the temporal layer `key` of `owner` at one site; does nothing outside a clip."""

    def __init__(self, owner: Owner, key: str) -> None:
        self.owner, self.key = owner, key

    def active(self) -> ClipContext | None:
        """Return the clip's facts, or None where the layer must leave the image model alone."""
        return None if self.key in self.owner.skip else self.owner.context

    def added(
        self, x: Tensor, context: ClipContext, second: Tensor | None, **more: object
    ) -> Tensor:
        """Return x plus the layer's difference; `second` is its time embedding or text."""
        layer = self.owner.temporal[self.key]
        said = {name: value for name, value in more.items() if value is not None}
        return add_(context.wanted(layer(x, context.num_frames, second, **said)), x)


class ResnetPost(SiteHook):
    """Forward hook with keywords on a `ResnetBlock2D`."""

    def __call__(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor
    ) -> Tensor | None:
        """Return the output with the temporal residual."""
        context = self.active()
        if context is None:
            return None
        temb = kwargs.get("temb", args[1] if len(args) > 1 else None)
        if temb is not None and context.micro is not None:
            temb = temb + context.micro.to(temb.dtype)
        layer, still = self.owner.temporal[self.key], context.image_only
        if not isinstance(layer, TemporalConv) or not layer.adds_in_place_to(output):
            return self.added(output, context, temb, given=context.given)
        kept = output[still.flatten()] if still is not None else None
        layer.add_to_(output, context.num_frames, temb, context.given)  # which nobody else holds
        if still is not None and kept is not None:
            output[still.flatten()] = kept
        return output


class TokensPost(SiteHook):
    """Forward hook on a `BasicTransformerBlock`; its text comes from the context."""

    def __call__(self, module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor | None:
        """Return the tokens with the temporal residual."""
        context = self.active()
        if context is None:
            return None
        return self.added(output, context, context.text, window=context.window)


class ConvPost(SiteHook):
    """Forward hook on a decoder's first or last convolution."""

    def __call__(self, module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor | None:
        """Return the output with what the low-resolution frames or neighbouring frames add."""
        context = self.active()
        if context is None:
            return None
        layer = self.owner.temporal[self.key]
        delta: Tensor = layer(output, context.num_frames, context.low_res)
        return add_(delta * context.condition_weight, output)


class AttentionPre(SiteHook):
    """Forward pre-hook with keywords on a `Transformer2DModel`."""

    def __call__(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        """Return the arguments with the temporal residual added to the first."""
        context = self.active()
        if context is None:
            return None
        if args:
            return (self.added(args[0], context, None), *args[1:]), kwargs
        x = kwargs["hidden_states"]
        return args, {**kwargs, "hidden_states": self.added(x, context, None)}


class BlockPost(SiteHook):
    """Forward hook with keywords on a block, or on a `Transformer2DModel` or `ResnetBlock2D`."""

    def __call__(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Trunk
    ) -> Trunk | None:
        """Return the block's output with the residual on the trunk; skip tensors stay."""
        context = self.active()
        if context is None:
            return None
        temb = kwargs.get("temb", args[1] if len(args) > 1 else None)
        if isinstance(output, tuple):
            return (self.added(output[0], context, temb), *output[1:])
        return self.added(output, context, temb)


class PreFeedForward(SiteHook):
    """Stands in for a `BasicTransformerBlock`'s forward to act before its feed-forward."""

    def __init__(self, owner: Owner, key: str, block: BasicTransformerBlock) -> None:
        super().__init__(owner, key)
        self.block = block

    def __call__(self, hidden_states: Tensor, *args: object, **kwargs: object) -> Tensor:
        """Return the block's tokens; where the layer is off, by the block's own forward."""
        block, context = self.block, self.active()
        if context is None:
            plain: Tensor = type(block).forward(block, hidden_states, *args, **kwargs)
            return plain
        given: dict[str, Any] = dict(zip(BLOCK_ARGUMENTS, args, strict=False)) | kwargs
        text, extra = given.get("encoder_hidden_states"), given.get("cross_attention_kwargs") or {}
        read = block.attn1(
            block.norm1(hidden_states),
            encoder_hidden_states=text if block.only_cross_attention else None,
            attention_mask=given.get("attention_mask"),
            **extra,
        )
        x = read + hidden_states
        read = block.attn2(
            block.norm2(x),
            encoder_hidden_states=text,
            attention_mask=given.get("encoder_attention_mask"),
            **extra,
        )
        x = self.added(read + x, context, None)
        out: Tensor = block.ff(block.norm3(x)) + x
        return out


class ClipNorm:
    """Stands in for a `GroupNorm`'s forward: statistics over the clip, not over each frame."""

    def __init__(self, owner: Owner, norm: nn.GroupNorm) -> None:
        self.owner, self.norm = owner, norm

    def __call__(self, input: Tensor) -> Tensor:
        """Normalise `BT C H W`; outside a clip's forward pass, every frame on its own."""
        context = self.owner.context
        if context is None:
            return nn.GroupNorm.forward(self.norm, input)
        return norm_frames(self.norm, input, context.num_frames)


class CheckpointInContext:
    """Gradient checkpointing that repeats a module's forward pass inside its own clip.

    The repetition happens during the backward pass, when the model has long left that clip.
    """

    def __init__(self, owner: Owner) -> None:
        self.owner = owner

    def __call__(self, module: Callable[..., object], *args: object) -> object:
        """Run the module now, forget its activations, and repeat it in the backward pass."""
        context = self.owner.context

        def run(*inputs: object) -> object:
            before, self.owner.context = self.owner.context, context
            try:
                return module(*inputs)
            finally:
                self.owner.context = before

        return checkpoint(run, *args, use_reentrant=False)


def attach(owner: Owner, site: Site, module: nn.Module) -> Callable[[], None]:
    """Put the hook of a site's kind on its module; return what takes it off again."""
    if site.kind == "tblock.pre_ff":
        assert isinstance(module, BasicTransformerBlock)
        return replace_forward(module, PreFeedForward(owner, site.key, module))
    if site.kind == "attn.pre":
        pre = AttentionPre(owner, site.key)
        return module.register_forward_pre_hook(pre, with_kwargs=True).remove
    if site.kind == "tblock.post":
        return module.register_forward_hook(TokensPost(owner, site.key)).remove
    if site.kind in DECODER_CONVS:
        return module.register_forward_hook(ConvPost(owner, site.key)).remove
    hook = ResnetPost if site.kind == "resnet.post" else BlockPost
    return module.register_forward_hook(hook(owner, site.key), with_kwargs=True).remove


def attach_clip_norms(owner: Owner, spatial: nn.Module) -> list[Callable[[], None]]:
    """Let the norms of every `ResnetBlock2D` and the final norm see the whole clip.

    Upscale-A-Video, LaVie and Tune-A-Video were trained so; the norm at a transformer's entry stays
    per frame.
    """
    removers = []
    for path, module in spatial.named_modules():
        inside = isinstance(spatial.get_submodule(path.rpartition(".")[0]), ResnetBlock2D)
        final = path.rpartition(".")[2] == "conv_norm_out"
        if isinstance(module, nn.GroupNorm) and (inside or final):
            removers.append(replace_forward(module, ClipNorm(owner, module)))
    return removers


def replace_forward(module: nn.Module, stand_in: Callable[..., Tensor]) -> Callable[[], None]:
    """Let an object stand in for the forward of this one module; return what undoes it."""
    module.forward = stand_in
    return partial(module.__dict__.pop, "forward", None)
