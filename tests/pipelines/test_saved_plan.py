import json
import os
import sys
from fractions import Fraction

import pytest

from legato.errors import InputError
from legato.pipelines.saved_plan import (
    Execution,
    Fallback,
    SavedPlan,
    as_flag,
    folder_fingerprint,
    require_same,
    source_fingerprint,
)
from legato.pipelines.segments import cut_segments
from legato.pipelines.survey import Survey

SURVEY = Survey(
    pts=(0, 512, 1024),
    shots=(0, 2),
    detail=(1.0, 2.5, 3.25),
    num_repeated=1,
    start=Fraction(1, 3),
    end=None,
    notices=("one",),
)
FIRST = Execution(tile=None, window=None, segment=32, dtype="bfloat16")


@pytest.fixture
def plan():
    return SavedPlan(fingerprint={"seed": 0, "tile": None}, survey=SURVEY, execution=FIRST)


def test_a_plan_reads_back_as_it_was_written(plan, tmp_path):
    smaller = Execution(tile=128, window=4, segment=32, dtype="float32")
    plan.fallbacks.append(Fallback(segment=3, why="memory ran out", execution=smaller))
    plan.execution = smaller
    plan.prompts = ["a cat", ""]
    plan.save(tmp_path / "plan.json")
    assert SavedPlan.load(tmp_path / "plan.json") == plan


def test_a_segment_has_the_prompt_of_its_shot(plan):
    segments = cut_segments(3, SURVEY.shots, size=1)
    assert [plan.prompt_of(segment) for segment in segments] == [None, None, None]
    plan.prompts = ["a cat", ""]
    assert [plan.prompt_of(segment) for segment in segments] == ["a cat", "a cat", ""]


def test_no_plan_is_no_error(tmp_path):
    assert SavedPlan.load(tmp_path / "plan.json") is None


@pytest.mark.parametrize("text", ["", "{", "{}", '{"format": 99}', "[]"])
def test_a_damaged_plan_asks_for_a_restart(tmp_path, text):
    (tmp_path / "plan.json").write_text(text)
    with pytest.raises(InputError, match="--restart"):
        SavedPlan.load(tmp_path / "plan.json")


def test_the_same_job_is_continued(plan, tmp_path):
    require_same(plan.fingerprint, {"tile": None, "seed": 0}, tmp_path)


def test_another_job_is_refused_by_what_differs(plan, tmp_path):
    with pytest.raises(InputError, match=r"--seed 3, was 0.*--restart"):
        require_same(plan.fingerprint, {"tile": None, "seed": 3}, tmp_path)


@pytest.mark.parametrize("now", [{"seed": 0}, {"seed": 0, "tile": None, "lora": "a"}])
def test_a_job_that_knows_less_or_more_is_another(plan, now, tmp_path):
    plan.fingerprint["tile"] = 64
    with pytest.raises(InputError, match="--tile not given, was 64"):
        require_same(plan.fingerprint, now, tmp_path)


@pytest.mark.parametrize(
    ("name", "before", "now", "said"),
    [
        ("num_inference_steps", None, 20, "--num-inference-steps 20, was not given"),
        ("freeu", True, False, "--freeu not given, was given"),
        ("prompt", "day", "night, rain", "--prompt 'night, rain', was day"),
        ("prompt_at", ["3=rain"], [], "--prompt-at not given, was 3=rain"),
        ("source", "/a.mp4", "/b.mp4", "the input /b.mp4, was /a.mp4"),
        ("source head", "12", "34", "the input has changed"),
        ("model sha256", "12", "34", "what --model names has changed"),
        ("first_frame source changed", 1, 2, "what --first-frame names has changed"),
        ("hint model size", 1, 2, "what --hint-model names has changed"),
        ("hint legato", "1", "2", "legato's version 2, was 1"),
        ("codec used", "x264", "ffv1", "the codec ffv1, was x264"),
        ("dtype", "torch.float32", "torch.bfloat16", "--dtype bfloat16, was float32"),
    ],
)
def test_differences_are_told_as_they_are_typed(name, before, now, said):
    assert as_flag(name, before, now) == said


def test_one_difference_is_told_once(plan, tmp_path):
    plan.fingerprint = {"source size": 1, "source changed": 1, "legato": "1", "hint legato": "1"}
    now = {"source size": 2, "source changed": 2, "legato": "2", "hint legato": "2"}
    with pytest.raises(InputError, match=r"differs: legato.* 2, was 1; the input has changed; rep"):
        require_same(plan.fingerprint, now, tmp_path)


def test_a_changed_source_has_another_fingerprint(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"x" * 10)
    before = source_fingerprint(path)
    assert source_fingerprint(path) == before
    path.write_bytes(b"y" * 10)
    assert source_fingerprint(path) != before


@pytest.mark.parametrize("part", ["config.json", "unet/weights.safetensors"])
def test_a_model_folder_with_other_files_has_another_fingerprint(part, tmp_path):
    (tmp_path / "unet").mkdir()
    for name in ("config.json", "unet/weights.safetensors"):
        (tmp_path / name).write_bytes(b"x" * 10)
    before = folder_fingerprint("model", tmp_path)
    assert set(before) == {"model size", "model changed", "model head"}
    assert folder_fingerprint("model", str(tmp_path)) == before
    (tmp_path / part).write_bytes(b"y" * 10)
    assert folder_fingerprint("model", tmp_path) != before


def test_an_exchanged_file_is_noticed_beside_a_newer_one(tmp_path):
    for name, written in (("weights.safetensors", 10), ("config.json", 30)):
        (tmp_path / name).write_bytes(b"x" * 10)
        os.utime(tmp_path / name, (written, written))
    before = folder_fingerprint("model", tmp_path)
    os.utime(tmp_path / "weights.safetensors", (20, 20))  # as long, of the same beginning
    assert folder_fingerprint("model", tmp_path) != before


def test_a_model_at_the_hub_is_known_by_its_name():
    assert folder_fingerprint("caption", "someone/some-model") == {}


def test_a_fingerprint_survives_json(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"x")
    found = source_fingerprint(path)
    assert json.loads(json.dumps(found)) == found


@pytest.mark.skipif(sys.platform != "linux", reason="other systems' names are text")
def test_a_source_whose_name_is_no_text_is_the_same_when_resumed(plan, tmp_path):
    path = tmp_path / os.fsdecode(b"caf\xe9.bin")
    path.write_bytes(b"x")
    plan.fingerprint = source_fingerprint(path)
    plan.save(tmp_path / "plan.json")
    saved = SavedPlan.load(tmp_path / "plan.json")
    assert saved is not None
    require_same(saved.fingerprint, source_fingerprint(path), tmp_path)
