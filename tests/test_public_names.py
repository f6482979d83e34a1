"""Names and defaults that users rely on; a change here belongs into the changelog."""

import inspect
import subprocess
import sys
from pathlib import Path

import legato
from legato.apps.cli import COMMANDS


def test_public_names():
    assert sorted(legato.__all__) == [
        "CodecOptions",
        "CompareOptions",
        "DecodeError",
        "DegradeOptions",
        "EvaluateOptions",
        "GenerateOptions",
        "InputError",
        "Interrupted",
        "LegatoError",
        "ModelError",
        "ReadOptions",
        "ResourceError",
        "RestoreOptions",
        "RunOptions",
        "TranslateOptions",
        "UpscaleOptions",
        "__version__",
        "compare",
        "degrade",
        "evaluate",
        "generate",
        "plan",
        "preview",
        "probe",
        "translate",
        "upscale",
        "upscale_folder",
        "verify",
    ]


def test_every_public_name_can_be_had():
    assert all(getattr(legato, name) is not None for name in legato.__all__)


def test_every_path_may_be_text_for_type_checkers_too():
    values = [getattr(legato, name) for name in legato.__all__]
    functions = [value for value in values if inspect.isfunction(value)]
    parameters = [
        (f.__name__, p) for f in functions for p in inspect.signature(f).parameters.values()
    ]
    assert [(name, p.name) for name, p in parameters if p.annotation is Path] == []


def test_commands():
    expected = ["upscale", "generate", "translate", "plan", "verify", "compare", "evaluate"]
    assert list(COMMANDS) == [*expected, "degrade", "web", "doctor", "models", "train"]


def test_defaults_of_upscaling():
    assert legato.UpscaleOptions().to_json() == {
        "strict": False,
        "keep_interlaced": False,
        "num_inference_steps": None,
        "solver": "ddim",
        "noise_level": None,
        "prompt": "",
        "negative_prompt": "",
        "guidance_scale": None,
        "consistency": None,
        "propagate": None,
        "raft": None,
        "color": "wavelet",
        "fidelity": 0.0,
        "strength": 1.0,
        "seed": 0,
        "tile": None,
        "window": None,
        "approximate": False,
        "compat": "none",
        "codec": "auto",
        "crf": None,
        "scale": None,
        "height": None,
        "start": None,
        "end": None,
        "segment": 32,
        "model": "embedded-x4",
        "caption": None,
    }


def test_defaults_of_generating():
    assert legato.GenerateOptions().to_json() == {
        "frames": None,
        "seconds": None,
        "fps": None,
        "first_frame": None,
        "start": "auto",
        "negative_prompt": "",
        "num_inference_steps": None,
        "interpolation_steps": None,
        "solver": "unipc",
        "guidance_scale": None,
        "context_guidance": None,
        "temporal_guidance": None,
        "temporal_share": None,
        "motion_guidance": None,
        "motion_share": None,
        "speed": None,
        "anchoring": None,
        "context_frames": 2,
        "context_noise": 0,
        "window": None,
        "interpolations": None,
        "width": None,
        "height": None,
        "upsampler": "auto",
        "seed": 0,
        "segment": 32,
        "model": "driving",
        "spatial": None,
        "last_frame": None,
        "reconstruction_guidance": 4.0,
        "motion_bucket": None,
        "motion_lora": None,
        "motion_lora_scale": 1.0,
        "boxes": None,
        "codec": "auto",
        "crf": None,
    }


def test_defaults_of_translating():
    assert legato.TranslateOptions().to_json() == {
        "model": None,
        "prompt": "",
        "prompt_at": [],
        "negative_prompt": "",
        "strength": 0.75,
        "start_from": "noise",
        "solver": "ddpm",
        "num_inference_steps": 20,
        "guidance_scale": None,
        "seed": 0,
        "consistency": "fresco",
        "raft": None,
        "preset": "released",
        "batch_size": 8,
        "min_interval": 5,
        "max_interval": 20,
        "resolution": None,
        "colorize": False,
        "controlnet": None,
        "control_scale": 1.0,
        "hint_model": None,
        "hint": None,
        "lora": None,
        "lora_scale": 1.0,
        "freeu": False,
        "strict": False,
        "keep_interlaced": False,
        "codec": "auto",
        "crf": None,
        "start": None,
        "end": None,
        "segment": 32,
    }


def test_importing_legato_imports_nothing_heavy():
    code = "import sys, legato; print([m for m in ('torch', 'av', 'cv2') if m in sys.modules])"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"
