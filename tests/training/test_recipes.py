"""The recipe trains end to end on real small data, exports what it trained, and goes on from it."""

import os
import sys
from dataclasses import replace
from itertools import islice
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import torch
from clips import write_clip

from legato.errors import InputError
from legato.models.load import load_upscaler
from legato.models.text import WordEncoder
from legato.training import data, recipes
from legato.training.batches import BatchOptions, batches, sample
from legato.training.data import CLIP_FRAMES, CROP, PackedClips, PackOptions, pack, random_view
from legato.training.export import warm_start_
from legato.training.losses import PixelLoss, PixelLossWeights
from legato.training.stages import StageOptions, UpscaleTask


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """One photograph and one lossless clip of smooth noise, with a manifest."""
    root = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    picture = cv2.resize(rng.integers(0, 256, (40, 50, 3), np.uint8), (440, 360))
    cv2.imwrite(str(root / "photo.png"), picture)
    with av.open(str(root / "clip.mkv"), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 400, 340, "bgr0"
        for k in range(10):
            frame = np.ascontiguousarray(picture[k : k + 340, 2 * k : 2 * k + 400])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    (root / "MANIFEST.csv").write_text("file,notes\nclip.mkv,a dog on grass\nphoto.png,\n")
    return root


@pytest.fixture(scope="module")
def packed(folder):
    target = folder / "packed" / "data.pack"
    pack([folder], target, PackOptions(clips_per_source=6, max_mb=20.0))
    return target


def test_packed_clips_are_whole_and_carry_their_words(packed):
    clips = PackedClips(packed)
    assert clips.clip(0).shape == (CLIP_FRAMES, CROP, CROP, 3)
    by_source = {source: clips.words(k) for k, source in enumerate(clips.sources())}
    assert by_source == {"clip": ["animal", "foliage"], "photo": []}


def test_words_are_taken_from_manifests_and_texts_of_any_shape(folder, tmp_path):
    for name in ("photo.png", "other.png", "bare.png", "told.png"):
        (tmp_path / name).write_bytes((folder / "photo.png").read_bytes())
    manifest = b'file\n\nbare.png\nphoto.png,caf\xe9,grass\n"other.png","a dog, on grass"\n'
    (tmp_path / "MANIFEST.csv").write_bytes(manifest)
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "MANIFEST.csv").write_bytes(b"")
    (tmp_path / "told.txt").write_bytes(b"caf\xe9, dog")
    pack([tmp_path], tmp_path / "data.pack", PackOptions(clips_per_source=1))
    clips = PackedClips(tmp_path / "data.pack")
    assert {source: clips.words(k) for k, source in enumerate(clips.sources())} == {
        "photo": ["foliage"],
        "other": ["animal", "foliage"],
        "bare": [],
        "told": ["animal"],
    }


def test_packing_stays_within_its_budget_and_leaves_out_what_it_is_told(folder, tmp_path):
    pack([folder], tmp_path / "small.pack", PackOptions(max_mb=1.0, exclude=("photo",)))
    assert (tmp_path / "small.pack").stat().st_size < 1.6e6
    assert set(PackedClips(tmp_path / "small.pack").sources()) == {"clip"}


def test_a_damaged_source_is_named_and_left_out(folder, packed, tmp_path):
    for name in ("clip.mkv", "photo.png"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    (tmp_path / "a.mkv").write_bytes((folder / "clip.mkv").read_bytes()[:200])
    (tmp_path / "b.png").write_bytes(b"no picture")
    (tmp_path / "c.png").write_bytes(b"")
    lines = []
    count = pack(
        [tmp_path],
        tmp_path / "out" / "data.pack",
        PackOptions(clips_per_source=6, max_mb=20.0),
        log=lines.append,
    )
    clips, others = PackedClips(tmp_path / "out" / "data.pack"), PackedClips(packed)
    assert clips.sources() == others.sources()
    assert count == len(clips)
    assert all(np.array_equal(clips.clip(k), others.clip(k)) for k in range(count))
    assert len(lines) == 3
    for name, line in zip(("a.mkv", "b.png", "c.png"), lines, strict=True):
        assert line.startswith(f"left out {tmp_path / name}")


def test_a_stopped_packing_leaves_nothing_behind(folder, tmp_path, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(data, "_pan_and_zoom", stop)  # the video before it is packed already
    with pytest.raises(KeyboardInterrupt):
        pack([folder], tmp_path / "data.pack", PackOptions(clips_per_source=6))
    assert list(tmp_path.iterdir()) == []


def test_sources_that_give_no_clip_are_told_and_nothing_is_written(tmp_path):
    (tmp_path / "in").mkdir()
    cv2.imwrite(str(tmp_path / "in" / "small.png"), np.zeros((CROP - 1, 400, 3), np.uint8))
    (tmp_path / "in" / "folder.png").mkdir()
    with pytest.raises(InputError, match=r"no training data in .*in: nothing there has 320"):
        pack([tmp_path / "in"], tmp_path / "data.pack", PackOptions())
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_crops_of_a_video_are_runs_of_its_frames_from_all_over_it(tmp_path):
    """Every frame has a level of its own, so that a crop tells which frames it is of."""
    levels = np.arange(0, 240, 8)
    frames = [np.full((CROP + 4, CROP + 8, 3), level, np.uint8) for level in levels]
    write_clip(tmp_path / "a.mkv", np.stack(frames), sound=False)
    pack([tmp_path], tmp_path / "data.pack", PackOptions(clips_per_source=30))
    clips = PackedClips(tmp_path / "data.pack")
    seen = []
    for number in range(len(clips)):
        means = clips.clip(number).mean(axis=(1, 2, 3)).round()
        assert np.allclose(np.diff(means), 8, atol=2)
        seen.append(round(means[0] / 8))
    assert len(seen) == 30
    assert seen != sorted(seen)
    assert min(seen) < 4
    assert max(seen) > len(levels) - CLIP_FRAMES - 4


@pytest.mark.skipif(sys.platform != "linux", reason="names there are text")
def test_sources_whose_names_are_no_text_are_packed(folder, tmp_path):
    for name in ("clip.mkv", "photo.png"):
        copy = os.fsdecode(os.fsencode(tmp_path) + b"/\xff" + os.fsencode(name))
        Path(copy).write_bytes((folder / name).read_bytes())
    pack([tmp_path], tmp_path / "data.pack", PackOptions(clips_per_source=3))
    assert len(set(PackedClips(tmp_path / "data.pack").sources())) == 2


def test_a_photograph_becomes_a_moving_clip(packed):
    clips = PackedClips(packed)
    photo = clips.sources().index("photo")
    clip = clips.clip(photo).astype(float)
    assert np.abs(clip[1:] - clip[:-1]).mean() > 0.2


def test_a_view_depends_on_the_generator_only(packed):
    clips = PackedClips(packed)
    views = [random_view(clips, 0, np.random.default_rng(5), frames=4, size=64) for _ in range(2)]
    assert views[0].shape == (4, 64, 64, 3)
    assert np.array_equal(*views)


@pytest.mark.parametrize("size", [64, CROP])
def test_a_view_has_its_size_whether_it_is_enlarged_or_reduced(packed, size):
    clips = PackedClips(packed)
    for seed in range(12):
        view = random_view(clips, 1, np.random.default_rng(seed), frames=2, size=size)
        assert view.shape == (2, size, size, 3)


def test_a_sample_depends_on_its_number_only(packed):
    clips, words = PackedClips(packed), WordEncoder(1)
    options = BatchOptions(frames=3, size=64, flow=True)
    one, again = (sample(clips, words, [0, 1], 7, options) for _ in range(2))
    assert one["low_res"].shape == (3, 3, 16, 16)
    assert one["flow"].shape == (2, 2, 64, 64)
    assert all(torch.equal(one[name], again[name]) for name in one)


def test_foregrounds_are_drawn_before_the_share_and_show_clips_to_learn_from_only(packed):
    class Watched(PackedClips):
        seen: set[int] = set()

        def clip(self, number, first=0, frames=CLIP_FRAMES):
            self.seen.add(number)
            return super().clip(number, first, frames)

    clips, words = Watched(packed), WordEncoder(1)
    made = [
        sample(clips, words, [0, 2], 7, BatchOptions(frames=1, size=64, foreground_share=share))
        for share in (0.0, 1.0)
    ]
    assert not torch.equal(made[0]["frames"], made[1]["frames"])
    for number in range(12):
        sample(clips, words, [0, 2], number, BatchOptions(size=64, foreground_share=1.0))
    assert Watched.seen == {0, 2}


@pytest.mark.slow
def test_every_stage_runs_resumes_and_exports_a_model_that_loads(folder, tmp_path, monkeypatch):
    small = {
        name: replace(
            recipe,
            trainer=replace(recipe.trainer, steps=2, log_every=1),
            batch=replace(recipe.batch, batch_size=1, size=64, frames=min(recipe.batch.frames, 3)),
        )
        for name, recipe in recipes.embedded().items()
    }
    monkeypatch.setattr(recipes, "embedded", lambda: small)
    monkeypatch.setitem(recipes.UNET, "block_out_channels", (16, 16, 32, 32))
    options = recipes.TrainOptions(data=(folder,), out=tmp_path / "run", max_mb=20.0, crop=64)
    lines = []
    model = recipes.train_embedded(options, log=lines.append)
    assert [line for line in lines if line.startswith("stage")] == [f"stage {s}" for s in small]
    loaded = load_upscaler(str(model), torch.device("cpu"), torch.float32)
    assert loaded.scale == 4
    again = recipes.train_embedded(options, log=lines.append)
    first, second = (
        load_upscaler(str(m), torch.device("cpu"), torch.float32) for m in (model, again)
    )
    assert first.sha256 == second.sha256
    system = recipes.build_embedded()
    warm_start_(system, str(model))
    name = "conv_in.weight"
    assert torch.equal(
        system.unet.spatial.state_dict()[name], loaded.unet.spatial.state_dict()[name]
    )


@pytest.mark.parametrize("own_share", [0.0, 1.0])
def test_later_steps_begin_from_the_own_result_where_they_are_told_to(own_share):
    torch.manual_seed(0)
    system = recipes.build_embedded()
    options = StageOptions(
        first_step_share=0.0, v_share=0.0, own_share=own_share, latent_weight=0.0
    )
    task = UpscaleTask(system, "image", PixelLoss(PixelLossWeights(lattice=0.0), None), [], options)
    pictures = torch.randint(0, 256, (1, 1, 3, 64, 64), dtype=torch.uint8)
    batch = {
        "frames": pictures,
        "low_res": pictures[..., ::4, ::4],
        "motion": torch.zeros(1, 1, 6, 16, 16),
        "words": torch.zeros(1, 8).long(),
    }

    def losses():
        with torch.no_grad():
            found = [task.loss(batch, torch.Generator().manual_seed(k)) for k in range(6)]
        return [loss.item() for loss, figures in found if figures["t"] != task.first]

    before = losses()
    system.autoencoder.encoder.conv_out.weight.data.mul_(3)
    assert before
    assert (losses() == before) == (own_share == 1)


@pytest.mark.parametrize(
    "wrong", [{"num_workers": 0}, {"batch_scale": 0}, {"crop": 100}, {"crop": 352}]
)
def test_numbers_that_cannot_be_trained_with_are_refused(tmp_path, wrong):
    name, value = next(iter(wrong.items()))
    with pytest.raises(InputError, match=f"{name}={value}"):
        recipes.TrainOptions(data=(tmp_path,), **wrong)


def test_a_larger_machine_gets_larger_batches_and_crops(tmp_path):
    larger = recipes.TrainOptions(data=(tmp_path,), batch_scale=12, crop=256, steps=9)
    plain = recipes.embedded()
    for stage, usual in plain.items():
        chosen = larger.recipe(stage)
        assert chosen.batch.batch_size == 12 * usual.batch.batch_size
        assert (chosen.batch.size, chosen.trainer.steps) == (256, 9)
        assert recipes.TrainOptions(data=(tmp_path,)).recipe(stage) == usual


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # where there is one core
def test_batches_are_the_same_whoever_makes_them(packed):
    options = BatchOptions(batch_size=2, size=64, frames=1)
    alone, shared = (
        list(islice(batches(packed, [0, 1], options, 3, num_workers=n), 3)) for n in (1, 2)
    )
    for one, other in zip(alone, shared, strict=True):
        assert all(torch.equal(one[name], other[name]) for name in one)
