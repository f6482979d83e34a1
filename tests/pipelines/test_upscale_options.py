from dataclasses import fields, replace
from pathlib import Path

import pytest

from legato.errors import InputError
from legato.pipelines.restore_options import RestoreOptions
from legato.pipelines.upscale_options import UpscaleOptions, output_size
from legato.video.codecs import CodecOptions
from legato.video.probe import probe
from legato.video.read import ReadOptions


@pytest.fixture(scope="module")
def facts(shared):
    return probe(shared / "data" / "odd" / "05_rotate90.mp4")  # 160x96, turned


@pytest.mark.parametrize(
    ("changes", "size"),
    [
        ({}, (640, 384)),
        ({"scale": 2.0}, (320, 192)),
        ({"scale": 1.5}, (240, 144)),
        ({"scale": 0.25}, (40, 24)),
        ({"height": 1080}, (1800, 1080)),
    ],
)
def test_the_size_follows_from_scale_or_height(facts, changes, size):
    assert output_size(replace(facts, rotation_deg=0), UpscaleOptions(**changes)) == size


def test_a_height_is_that_of_the_turned_picture(facts):
    assert facts.rotation_deg % 180 == 90
    assert output_size(facts, UpscaleOptions(height=1080)) == (1080, 648)


def test_an_absurd_size_is_refused_with_numbers(facts):
    with pytest.raises(InputError, match=r"160000x96000.*15360 million"):
        output_size(replace(facts, width=40000, height=24000), UpscaleOptions())


@pytest.mark.parametrize(
    "changes",
    [
        {"scale": 0.1},
        {"scale": 17.0},
        {"scale": float("nan")},
        {"scale": 2.0, "height": 100},
        {"height": 0},
        {"segment": 0},
        {"segment": 5000},
        {"start": "x"},
        {"start": "2", "end": "1"},
        {"end": "0"},
    ],
)
def test_what_cannot_be_meant_is_refused(changes):
    with pytest.raises(InputError):
        UpscaleOptions(**changes)


def test_a_height_is_no_smaller_than_a_scale_could_be(facts):
    with pytest.raises(InputError, match=r"height=1: that is less than 0\.25 .*; use 40 or more"):
        output_size(facts, UpscaleOptions(height=1))
    assert output_size(facts, UpscaleOptions(height=40)) == (40, 24)


@pytest.mark.parametrize("texts", [{}, {"prompt": "face", "negative_prompt": " face"}], ids=len)
def test_guidance_between_equal_texts_is_refused(texts):
    guided = RestoreOptions(guidance_scale=5.0, **texts)
    with pytest.raises(InputError, match=r"guidance_scale=5.*these are the same"):
        UpscaleOptions(restore=guided)
    for changes in ({"guidance_scale": 1.0}, {"guidance_scale": None}, {"prompt": "night"}):
        UpscaleOptions(restore=replace(guided, **changes))
    if not texts:
        UpscaleOptions(restore=guided, caption="captions give the prompts later")


def test_options_survive_json():
    options = UpscaleOptions(
        read=ReadOptions(strict=True),
        restore=RestoreOptions(seed=3, tile=64, prompt="face", raft=Path("raft.safetensors")),
        output=CodecOptions(codec="x265", crf=20),
        height=720,
        start="1:00",
        segment=8,
    )
    assert UpscaleOptions.from_json(options.to_json()) == options


def test_every_option_has_one_flat_name():
    nested = {"read": ReadOptions, "restore": RestoreOptions, "output": CodecOptions}
    names = [f.name for f in fields(UpscaleOptions) if f.name not in nested]
    names += [f.name for kind in nested.values() for f in fields(kind)]
    assert sorted(UpscaleOptions().to_json()) == sorted(names)
    assert len(set(names)) == len(names)
