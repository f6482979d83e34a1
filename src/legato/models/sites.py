"""Where temporal layers attach to an image model: sites found by type.

| kind           | tensor                                                              |
|----------------|---------------------------------------------------------------------|
| `resnet.post`  | output of a `ResnetBlock2D`                                         |
| `tblock.post`  | output tokens of a `BasicTransformerBlock`                          |
| `tblock.pre_ff`| its tokens between cross-attention and feed-forward                 |
| `attn.pre`     | input of a `Transformer2DModel`                                     |
| `attn.post`    | output of a `Transformer2DModel`, or of a down or up block's        |
|                | `ResnetBlock2D` where no transformer follows                        |
| `block.post`   | output of a down, mid or up block, but not its skip tensors         |
| `cond.sft`     | output of a decoder's `conv_in`, where low-resolution frames join   |
| `conv.out`     | output of a decoder's `conv_out`                                    |
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from torch import nn

from legato.errors import ModelError

SiteKind = Literal[
    "resnet.post",
    "tblock.post",
    "tblock.pre_ff",
    "attn.pre",
    "attn.post",
    "block.post",
    "cond.sft",
    "conv.out",
]

DECODER_CONVS: dict[str, str] = {"cond.sft": "decoder.conv_in", "conv.out": "decoder.conv_out"}


@dataclass(frozen=True, kw_only=True)
class Site:
    """One place of an image model that a temporal layer can attach to."""

    kind: SiteKind
    path: str
    """Dotted name of the module inside the image model."""
    channels: int
    """Width of the tensor there."""
    time_embedding: int | None = None
    """Width of the time embedding that reaches it."""
    num_heads: int = 1
    """Attention heads of the spatial block."""
    text_width: int | None = None
    """Width of the text that the spatial block attends to."""

    @property
    def key(self) -> str:
        """Name of the site among the temporal weights (names of modules may not contain dots)."""
        return self.path.replace(".", "/")


def find_sites(spatial: nn.Module, kind: SiteKind) -> Iterator[Site]:
    """Yield the sites of one kind in the order of the image model's modules."""
    if kind == "block.post":
        yield from (_block_site(path, block) for path, block in _blocks(spatial))
        return
    if kind == "attn.post":
        for path, block in _blocks(spatial):
            yield from _behind_attention(path, block)
        return
    for path, module in spatial.named_modules():
        if kind == "resnet.post" and isinstance(module, ResnetBlock2D):
            projection = module.time_emb_proj
            width = None if projection is None else projection.in_features
            yield Site(kind=kind, path=path, channels=module.out_channels, time_embedding=width)
        elif kind.startswith("tblock") and isinstance(module, BasicTransformerBlock):
            yield _token_site(kind, path, module)
        elif kind == "attn.pre" and isinstance(module, Transformer2DModel):
            yield Site(kind=kind, path=path, channels=module.in_channels)
        elif isinstance(module, nn.Conv2d) and path.endswith(DECODER_CONVS.get(kind, " ")):
            yield Site(kind=kind, path=path, channels=module.out_channels)


def _token_site(kind: SiteKind, path: str, block: BasicTransformerBlock) -> Site:
    if kind == "tblock.pre_ff" and (block.norm_type != "layer_norm" or block.attn2 is None):
        raise ModelError(
            f"transformer block {path!r} with norm_type={block.norm_type!r}",
            why="temporal attention goes between cross-attention and feed-forward of a plain block",
            fix="use the family video_ldm, which attaches behind the block",
        )
    return Site(
        kind=kind,
        path=path,
        channels=block.dim,
        num_heads=block.num_attention_heads,
        text_width=block.cross_attention_dim,
    )


def _blocks(spatial: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    for path, block in spatial.named_modules():
        names = path.split(".")
        numbered = len(names) == 2 and names[0] in ("down_blocks", "up_blocks")
        if numbered or path == "mid_block":
            yield path, block


def _block_site(path: str, block: nn.Module) -> Site:
    last: Any = block.get_submodule("resnets")[-1]  # type: ignore[index]
    return Site(
        kind="block.post",
        path=path,
        channels=last.out_channels,
        time_embedding=last.time_emb_proj.in_features,
    )


def _behind_attention(path: str, block: nn.Module) -> Iterator[Site]:
    """Yield one site per layer of a block; the mid block's first ResBlock has none behind it."""
    transformers = [
        (name, module)
        for name, module in block.named_modules()
        if isinstance(module, Transformer2DModel)
    ]
    for name, transformer in transformers:
        text = transformer.transformer_blocks[0].cross_attention_dim
        yield Site(
            kind="attn.post",
            path=f"{path}.{name}",
            channels=transformer.in_channels,
            text_width=text,
        )
    if transformers or path == "mid_block":
        return
    for name, module in block.named_modules():
        if isinstance(module, ResnetBlock2D):
            yield Site(kind="attn.post", path=f"{path}.{name}", channels=module.out_channels)


def fingerprint(sites: list[Site]) -> str:
    """Return a hash of the ordered sites and widths: temporal weights fit where it is equal."""
    lines = (f"{s.kind} {s.path} {s.channels} {s.time_embedding} {s.text_width}" for s in sites)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
