"""What a U-Net holds inside while it looks at the input: kept by the names of its modules."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from legato.models.attention_sites import SelfAttentionSite, decoder_blocks


@dataclass(frozen=True, kw_only=True)
class Reference:
    """Clones, in the model's precision, of what entered some modules at their latest call."""

    hidden: dict[str, Tensor] = field(default_factory=dict)
    """By name of a self-attention: its tokens `BT N C` (or `BT C h w`), before projection."""

    features: dict[str, Tensor] = field(default_factory=dict)
    """By name of a decoder block: the features `BT C h w` that enter it, without skip tensors. Not
    their Gram matrices, which take N/C times as much."""


class _Keep:
    """Pre-hook that clones a module's first argument."""

    def __init__(self, store: dict[str, Tensor], name: str) -> None:
        self.store, self.name = store, name

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Keep a clone: FreeU scales features in place."""
        value = args[0] if args else kwargs["hidden_states"]
        self.store[self.name] = value.detach().clone()


@contextmanager
def captured(unet: nn.Module, sites: Iterable[SelfAttentionSite]) -> Iterator[Reference]:
    """Within the block, keep what enters the chosen self-attentions and every decoder block."""
    reference = Reference()
    with ExitStack() as stack:
        kept = {site.path: unet.get_submodule(site.path) for site in sites}
        places = ((reference.hidden, kept), (reference.features, decoder_blocks(unet)))
        for store, modules in places:
            for name, module in modules.items():
                hook = _Keep(store, name)
                handle = module.register_forward_pre_hook(hook, with_kwargs=True)
                stack.callback(handle.remove)
        yield reference
