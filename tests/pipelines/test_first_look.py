"""What is wrong whatever the model says is told before one is loaded, and before torch is."""

import subprocess
import sys
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from tiny_generator import tiny_generator_folder

from legato.errors import InputError
from legato.pipelines import prepare, prepare_generation, prepare_translation
from legato.pipelines.generate import generate
from legato.pipelines.generate_options import GenerateOptions
from legato.pipelines.run_options import RunOptions
from legato.pipelines.survey import require_start
from legato.pipelines.translate import translate
from legato.pipelines.translate_options import TranslateOptions
from legato.pipelines.translation_request import examine
from legato.pipelines.upscale import upscale
from legato.video.images import encode_image
from legato.video.probe import probe
from legato.video.read import ReadOptions


@pytest.fixture(autouse=True)
def _no_model_can_be_loaded(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("a model was loaded")

    monkeypatch.setattr(prepare_generation, "load_generator", refuse)
    monkeypatch.setattr(prepare_translation, "load_image_model", refuse)
    monkeypatch.setattr(prepare, "Restorers", refuse)


@pytest.fixture(scope="module")
def generator(tmp_path_factory):
    return str(tiny_generator_folder(tmp_path_factory.mktemp("generator") / "tiny"))


def test_a_start_behind_the_end(clip, options, tmp_path):
    source, target = clip(), tmp_path / "out.mkv"
    with pytest.raises(InputError, match="no frame in the chosen range"):
        upscale(source, target, options(start="9"))
    asked = TranslateOptions(model="driving", prompt="night", start="9")
    with pytest.raises(InputError, match="no frame in the chosen range"):
        translate(source, target, asked)


def test_pictures_that_are_too_thin_to_be_enlarged_for_a_model(tmp_path):
    thin, wide = tmp_path / "thin.png", tmp_path / "wide.png"
    for path, size in ((thin, (48, 1, 3)), (wide, (2, 32, 3))):
        path.write_bytes(encode_image(np.zeros(size, np.uint8), None, ".png"))
    asked = TranslateOptions(model="driving", prompt="night")
    with pytest.raises(InputError, match=r"is 1x48: .* smaller --resolution"):
        examine(thin, tmp_path / "out.png", asked, RunOptions())
    examine(thin, tmp_path / "out.png", replace(asked, resolution=16), RunOptions())
    examine(wide, tmp_path / "out.png", asked, RunOptions())


def test_frames_behind_the_duration_that_a_file_tells_are_believed(clip):
    facts = replace(probe(clip(frames=10)), duration_seconds=Fraction(1, 10))
    require_start(facts, ReadOptions(), Fraction(2, 10))
    with pytest.raises(InputError, match=r"video of 0\.1 s has none"):
        require_start(facts, ReadOptions(), Fraction(4, 10))


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("first_frame", "nowhere.png", "no such file"),
        ("last_frame", "nowhere.png", "no such file"),
        ("boxes", "nowhere.txt", "no text can be read there"),
        ("width", 30, "multiples of 8"),
        ("height", 1, "multiples of 8"),
    ],
)
def test_what_cannot_be_generated(generator, tmp_path, name, value, said):
    given = tmp_path / value if isinstance(value, str) else value
    with pytest.raises(InputError, match=said):
        generate("", tmp_path / "out.mkv", GenerateOptions(model=generator, **{name: given}))


@pytest.mark.parametrize("job", ["upscale", "translate"])
def test_a_model_that_is_nowhere_does_not_wait_for_torch(clip, tmp_path, job):
    arguments = [job, str(clip()), str(tmp_path / "out.mkv"), "--model", "nowhere"]
    arguments += ["--prompt", "night"] if job == "translate" else []
    code = (
        f"import sys; from legato.apps.cli import main; code = main({arguments});"
        "print(code, 'torch' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout == "3 False\n"
