"""HDR10's static metadata survives."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
from tiny_files import STEADY, make_video, upscale

from legato.video.codecs import CodecOptions, losses
from legato.video.hdr import encoder_parameters
from legato.video.probe import probe

DISPLAY = "G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50)"


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return make_video(
        tmp_path_factory.mktemp("hdr") / "a.mp4",
        codec="libx265",
        pixel_format="yuv420p10le",
        pts=STEADY[:3],
        tags=(9, 9, 16, 1),
        options={"x265-params": f"log-level=none:master-display={DISPLAY}:max-cll=1000,400"},
    )


def test_it_is_read_in_units_of_light(source):
    hdr = probe(source).hdr
    assert hdr.luminance == (Fraction(5, 1000), Fraction(1000))
    assert hdr.primaries[0] == (Fraction(68, 100), Fraction(32, 100))
    assert hdr.primaries[3] == (Fraction(15635, 50_000), Fraction(16450, 50_000))
    assert hdr.content_light == (1000, 400)
    assert encoder_parameters(hdr, "x265") == {"master-display": DISPLAY, "max-cll": "1000,400"}


@pytest.mark.parametrize("codec", ["x264", "x265", "av1"])
def test_it_survives_with_the_pq_tags_and_ten_bits(tmp_path, source, codec):
    upscale(source, tmp_path / "out.mp4", codec=codec)
    before, after = probe(source), probe(tmp_path / "out.mp4")
    assert after.colour == before.colour
    assert after.bit_depth == 10
    assert after.hdr.content_light == before.hdr.content_light
    for one, other in zip(after.hdr.luminance, before.hdr.luminance, strict=True):
        assert float(one) == pytest.approx(float(other), rel=0.02, abs=2e-3)
    for one, other in zip(after.hdr.primaries, before.hdr.primaries, strict=True):
        assert [float(v) for v in one] == pytest.approx([float(v) for v in other], abs=1e-3)


def test_codecs_that_cannot_hold_it_say_so(source):
    facts = probe(source)
    said = losses(CodecOptions(codec="vp9"), facts, Path("o.mp4"), size=(64, 48))
    assert any("HDR10" in notice for notice in said)
    plain = replace(facts, hdr=None)
    said = losses(CodecOptions(codec="vp9"), plain, Path("o.mp4"), size=(64, 48))
    assert not any("HDR10" in n for n in said)
