"""Fixtures of this room."""

from functools import cache

import pytest
from clips import clip, options, tiny_model

from legato.models.load import load_upscaler, offloaded
from legato.pipelines import restorers
from legato.pipelines.restorers import Restorers

__all__ = ["clip", "options", "tiny_model"]


@pytest.fixture(scope="session", autouse=True)
def _loaded_and_metered_once():
    """Let the jobs of this room share loaded upscalers and what their activations take."""
    meter, known = Restorers.footprint, {}

    def footprint(self, execution):
        key = (self.model_name, self.options, self.device, execution)
        if key not in known:
            known[key] = meter(self, execution)
        return known[key]

    def loaded_apart(model, name, *how):
        return offloaded(load_upscaler(name, *how), name, *how)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(restorers, "load_upscaler", cache(load_upscaler))
        patch.setattr(restorers, "offloaded", loaded_apart)  # the shared one keeps its weights
        patch.setattr(Restorers, "footprint", footprint)
        yield
