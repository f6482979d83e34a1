"""Captions stand beside what they are of, and may be any bytes."""

from pathlib import Path

import pytest

from legato.evaluation.captions import caption_of


@pytest.mark.parametrize("name", ["clip.mp4", "a.b.png", "frames", "frames.v2"])
def test_a_caption_stands_beside_its_source(tmp_path, name):
    source = tmp_path / name
    source.mkdir() if name.startswith("frames") else source.write_bytes(b"")
    assert caption_of(source) == ""
    stem = name if source.is_dir() else name.rpartition(".")[0]
    (tmp_path / f"{stem}.txt").write_text(" a cat\n")
    assert caption_of(source) == "a cat"


def test_the_folder_that_is_worked_in_has_its_caption_too(tmp_path, monkeypatch):
    (tmp_path / "frames").mkdir()
    (tmp_path / "frames.txt").write_text("a cat")
    monkeypatch.chdir(tmp_path / "frames")
    assert caption_of(Path()) == "a cat"


def test_a_caption_in_another_encoding_is_read_as_far_as_it_goes(tmp_path):
    (tmp_path / "clip.txt").write_bytes("a café, at night".encode("latin-1"))
    assert caption_of(tmp_path / "clip.mp4") == "a caf\N{REPLACEMENT CHARACTER}, at night"


def test_a_mark_of_byte_order_is_no_part_of_a_caption(tmp_path):
    (tmp_path / "clip.txt").write_text("a cat\n", encoding="utf-8-sig")
    assert caption_of(tmp_path / "clip.mp4") == "a cat"
