"""`compile`: where it acts, where it is refused, and what a resumed job makes of it."""

from contextlib import nullcontext

import pytest
import torch

from legato.errors import InputError, Interrupted, ResourceError
from legato.pipelines import restorers as module
from legato.pipelines.forecast import plan
from legato.pipelines.restore_options import RestoreOptions
from legato.pipelines.restorers import Restorers
from legato.pipelines.run_options import RunOptions
from legato.pipelines.upscale import upscale

COMPILED = RunOptions(compile=True, dtype="float32")


@pytest.fixture
def compiled(monkeypatch):
    """The networks whose blocks were to be compiled; they stay as they are."""
    found = []
    monkeypatch.setattr(module, "require_compiler", lambda device: None)
    monkeypatch.setattr(module, "compile_blocks_", found.append)
    return found


def test_the_networks_blocks_are_compiled_once(clip, options, compiled, tmp_path):
    upscale(clip(), tmp_path / "plain.mkv", options(), run=RunOptions(dtype="float32"))
    assert not compiled
    upscale(clip(), tmp_path / "out.mkv", options(segment=3), run=COMPILED)
    assert len(compiled) == 1
    assert compiled[0].spatial.config.in_channels == 7


def test_the_need_of_memory_is_measured_without(clip, options, compiled, monkeypatch):
    stances = []
    monkeypatch.setattr(
        torch.compiler, "set_stance", lambda name: stances.append(name) or nullcontext()
    )
    found = plan(clip(), options=options(), run=COMPILED)
    assert stances[-1] == "force_eager"
    assert any("without compiling" in note for note in found.notices)
    assert not any("compiling" in note for note in plan(clip(), options=options()).notices)


def test_a_job_goes_on_as_it_began(clip, options, compiled, tmp_path):
    source, target, chosen = clip(), tmp_path / "out.mkv", options(segment=3)
    with pytest.raises(Interrupted):
        upscale(source, target, chosen, run=COMPILED, stop=iter([False, True]).__next__)
    with pytest.raises(InputError, match="--compile not given, was given"):
        upscale(source, target, chosen, run=RunOptions(dtype="float32"))
    assert upscale(source, target, chosen, run=COMPILED).segments_resumed == 1


def test_a_missing_compiler_ends_it_before_a_model_is_loaded(clip, options, tmp_path, monkeypatch):
    def refuse(device):
        raise ResourceError("compile=True", why="no compiler", fix="leave it out")

    monkeypatch.setattr(module, "require_compiler", refuse)
    monkeypatch.setattr(module, "load_upscaler", None)
    with pytest.raises(ResourceError, match="no compiler"):
        upscale(clip(), tmp_path / "out.mkv", options(), run=COMPILED)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("out")] == []


def test_integers_are_not_compiled(monkeypatch):
    restorers = Restorers(
        model_name="embedded-x4",
        options=RestoreOptions(),
        device=torch.device("cpu"),
        compiles=True,
    )
    with pytest.raises(InputError, match=r"compile=True.*8-bit.*--dtype float32"):
        restorers.model("int8")


def test_attention_between_frames_is_not_compiled(clip, options, compiled, tmp_path):
    with pytest.raises(InputError, match=r"compile=True and consistency=fresco.*every step"):
        upscale(clip(), tmp_path / "out.mkv", options(consistency="fresco"), run=COMPILED)
    assert not (tmp_path / "out.mkv").exists()


@pytest.mark.parametrize("name", ["offload", "compile"])
def test_other_models_have_neither(name):
    with pytest.raises(InputError, match=f"{name}=True.*only upscaling models.*leave it out"):
        RunOptions(**{name: True}).refuse_upscaling()
    RunOptions().refuse_upscaling()
