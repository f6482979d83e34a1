"""Temporally consistent video tools built on image diffusion models.

The public names are loaded when they are first used: `import legato` costs nothing.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from legato.errors import DecodeError as DecodeError
    from legato.errors import InputError as InputError
    from legato.errors import Interrupted as Interrupted
    from legato.errors import LegatoError as LegatoError
    from legato.errors import ModelError as ModelError
    from legato.errors import ResourceError as ResourceError
    from legato.evaluation.compare import CompareOptions as CompareOptions
    from legato.evaluation.compare import compare as compare
    from legato.evaluation.damage import DegradeOptions as DegradeOptions
    from legato.evaluation.damage import degrade as degrade
    from legato.evaluation.evaluate import evaluate as evaluate
    from legato.evaluation.evaluate_options import EvaluateOptions as EvaluateOptions
    from legato.pipelines.batch import upscale_folder as upscale_folder
    from legato.pipelines.forecast import plan as plan
    from legato.pipelines.generate import generate as generate
    from legato.pipelines.generate_options import GenerateOptions as GenerateOptions
    from legato.pipelines.preview import preview as preview
    from legato.pipelines.restore_options import RestoreOptions as RestoreOptions
    from legato.pipelines.run_options import RunOptions as RunOptions
    from legato.pipelines.translate import translate as translate
    from legato.pipelines.translate_options import TranslateOptions as TranslateOptions
    from legato.pipelines.upscale import upscale as upscale
    from legato.pipelines.upscale_options import UpscaleOptions as UpscaleOptions
    from legato.video.codecs import CodecOptions as CodecOptions
    from legato.video.conservation import verify as verify
    from legato.video.probe import probe as probe
    from legato.video.read import ReadOptions as ReadOptions

__version__ = "0.1.0"

_HOMES = {
    "CodecOptions": "legato.video.codecs",
    "CompareOptions": "legato.evaluation.compare",
    "DecodeError": "legato.errors",
    "DegradeOptions": "legato.evaluation.damage",
    "EvaluateOptions": "legato.evaluation.evaluate_options",
    "GenerateOptions": "legato.pipelines.generate_options",
    "InputError": "legato.errors",
    "Interrupted": "legato.errors",
    "LegatoError": "legato.errors",
    "ModelError": "legato.errors",
    "ReadOptions": "legato.video.read",
    "ResourceError": "legato.errors",
    "RestoreOptions": "legato.pipelines.restore_options",
    "RunOptions": "legato.pipelines.run_options",
    "TranslateOptions": "legato.pipelines.translate_options",
    "UpscaleOptions": "legato.pipelines.upscale_options",
    "compare": "legato.evaluation.compare",
    "degrade": "legato.evaluation.damage",
    "evaluate": "legato.evaluation.evaluate",
    "generate": "legato.pipelines.generate",
    "plan": "legato.pipelines.forecast",
    "preview": "legato.pipelines.preview",
    "probe": "legato.video.probe",
    "translate": "legato.pipelines.translate",
    "upscale": "legato.pipelines.upscale",
    "upscale_folder": "legato.pipelines.batch",
    "verify": "legato.video.conservation",
}
__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> Any:  # noqa: ANN401  (any public name)
    if name not in _HOMES:
        raise AttributeError(f"module 'legato' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
