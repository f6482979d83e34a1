"""Counts the bytes of tensors that are alive at once while operators run."""

import weakref

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary


class LiveBytes(TorchDispatchMode):
    """Peak of what the operators inside the block made and has not been let go."""

    def __init__(self):
        super().__init__()
        self.peak = self._live = 0
        self._known = WeakIdKeyDictionary()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        given = {id(x.untyped_storage()) for x in _tensors((args, kwargs or {}))}
        out = function(*args, **(kwargs or {}))
        for x in _tensors(out):
            storage = x.untyped_storage()
            if storage not in self._known and id(storage) not in given:
                self._known[storage] = True
                self._live += storage.nbytes()
                weakref.finalize(storage, self._let_go, storage.nbytes())
        self.peak = max(self.peak, self._live)
        return out

    def _let_go(self, nbytes):
        self._live -= nbytes


def _tensors(tree):
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]
