"""Image models that learn new pictures: what learns, what is kept, and that it is learned."""

from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch
from tiny_generator import LABELS, tiny_generator_folder
from tiny_image_model import U_NET, tiny_diffusers_image_model, tiny_words_image_model
from validations import last_row

from legato.errors import InputError
from legato.models.folder import ModelFolder
from legato.models.image_model import load_image_model
from legato.models.text import WordEncoder
from legato.models.trainable_text import TrainableText
from legato.pipelines.generate import generate
from legato.pipelines.generate_options import GenerateOptions
from legato.training import picture_stage
from legato.training.image_recipes import (
    PRIOR,
    DreamBoothOptions,
    TuneOptions,
    train_dreambooth,
    train_frames,
)
from legato.training.picture_stage import PictureOptions, PictureTask, sampled
from legato.training.pictures import (
    PictureBatchOptions,
    Pictures,
    PictureSamples,
    Prior,
    fitted,
    held_back_batches,
)
from legato.training.shard_batches import Share, numbered_batches
from legato.training.shards import ShardedClip, ShardWriter
from legato.video.images import encode_image

CPU = torch.device("cpu")
SMALL = {"block_out_channels": (16, 32), "norm_num_groups": 8}
FAST = {"num_workers": 0, "width": 32, "height": 32, "ema_decay": 0.9, "validate_every": 10**6}


@pytest.fixture(autouse=True)
def few_steps(monkeypatch):
    """Of sampling: the prior and the grids."""
    monkeypatch.setattr(picture_stage, "SAMPLED_STEPS", 2)


def stripes(seed, size=32):
    """Coloured stripes of one direction: a look that random weights do not have."""
    rng = np.random.default_rng(seed)
    wave = np.sin(np.arange(size) * rng.uniform(0.3, 0.9) + rng.uniform(0, 6))
    colour = np.array((1.0, 0.6, -0.8))
    picture = 127.5 + 90 * wave[None, :, None] * colour + np.zeros((size, 1, 1))
    return picture.astype(np.uint8)


def pictures_of(folder, seeds, caption=None):
    folder.mkdir()
    for seed in seeds:
        (folder / f"{seed}.png").write_bytes(encode_image(stripes(seed), None, ".png"))
        if caption:
            (folder / f"{seed}.txt").write_text(caption)
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("pictures")
    pictures_of(root / "learned", range(12), "night")
    pictures_of(root / "held_back", range(100, 108), "night")
    return root


@pytest.fixture(scope="module")
def words_model(tmp_path_factory):
    return tiny_words_image_model(tmp_path_factory.mktemp("models") / "words", u_net=U_NET | SMALL)


@pytest.fixture(scope="module")
def clip_model(tmp_path_factory):
    return tiny_diffusers_image_model(tmp_path_factory.mktemp("models") / "clip", **SMALL)


def held_back_error(model, data, prompt="", options=None):
    """Of an untrained copy, as its validation would tell it."""
    loaded = load_image_model(str(model), CPU, torch.float32)
    kinds = PictureBatchOptions(size=(32, 32), prompt=prompt)
    batches = held_back_batches(Pictures((data / "held_back",)), kinds)
    task = PictureTask(loaded, TrainableText(loaded.text), batches, options or PictureOptions())
    with torch.no_grad():
        return task.validate()[0]["new"]


def test_pictures_come_with_the_captions_beside_them(data, tmp_path):
    with ShardWriter(tmp_path, max_mb=1.0, quality=97) as shards:
        clip = np.stack([stripes(1, 48), stripes(2, 48)])
        shards.write("a", ShardedClip(frames=clip, caption="a clip"))
    mixed = Pictures((data / "learned", tmp_path))
    assert len(mixed) == 13
    assert mixed.caption(0) == "night"
    assert mixed.caption(12) == "a clip"
    drawn = {mixed.picture(12, np.random.default_rng(k))[0][0, 9].tobytes() for k in range(9)}
    assert len(drawn) == 2  # either frame


def test_captions_in_another_encoding_do_not_end_the_training(tmp_path):
    folder = pictures_of(tmp_path / "pictures", [1])
    (folder / "1.txt").write_bytes("café, night".encode("latin-1"))
    assert Pictures((folder,)).picture(0, np.random.default_rng(0))[1].endswith(", night")


def test_a_folder_without_pictures_is_told(tmp_path):
    with pytest.raises(InputError, match="neither images nor shards"):
        Pictures((tmp_path,))
    with pytest.raises(InputError, match="no such folder"):
        Pictures((tmp_path / "none",))


def test_a_sample_depends_on_its_number_only_and_brings_the_prior(data):
    prior = Prior(latents=torch.randn(3, 4, 8, 8), captions=["a", "b", "c"])
    kinds = PictureBatchOptions(size=(32, 32), prompt="new", prompt_dropout=0.0)
    samples = PictureSamples(Pictures((data / "learned",)), kinds, prior)
    for number in (0, 4):
        one, again = samples[number], samples[number]
        assert torch.equal(one["frames"], again["frames"])
        assert one["captions"] == "new, night"
        assert one["prior_captions"] == "abc"[number % 3]
    dropped = PictureSamples(samples.pictures, replace(kinds, prompt_dropout=1.0))
    assert dropped[0]["captions"] == ""


@pytest.mark.parametrize("shape", [(32, 32), (40, 90), (90, 40)])
def test_pictures_cover_the_size(shape):
    made = fitted(np.full((*shape, 3), 200, np.uint8), (32, 16))
    assert made.shape == (3, 16, 32)
    assert (made == 200).all()


def test_a_closed_vocabulary_grows_by_the_words_that_it_lacks():
    torch.manual_seed(0)
    words = WordEncoder(8, LABELS)
    grown = words.with_words_of("sepia, Night")
    assert grown.vocabulary == [*LABELS, "sepia"]
    assert torch.equal(grown.encode("night, crowded"), words.encode("night, crowded"))
    assert words.as_prompt("sepia, night, crowded") == "night, crowded"
    assert grown.as_prompt("sepia, night") == "sepia, night"


@pytest.mark.parametrize("kind", ["words", "clip"])
def test_trainable_text_embeds_as_its_source_does(kind, words_model, clip_model):
    text = load_image_model(
        str({"words": words_model, "clip": clip_model}[kind]), CPU, torch.float32
    ).text
    both = TrainableText(text)(["night", "day"])
    for row, prompt in zip(both, ("night", "day"), strict=True):
        torch.testing.assert_close(row[None], text.encode(prompt))


@pytest.mark.parametrize("trains_text", [False, True])
def test_what_learns_is_what_was_asked(clip_model, data, trains_text):
    model = load_image_model(str(clip_model), CPU, torch.float32)
    text = TrainableText(model.text)
    task = PictureTask(model, text, [], PictureOptions(trains_text=trains_text))
    batch = held_back_batches(
        Pictures((data / "held_back",)), PictureBatchOptions(size=(32, 32)), most=2
    )[0]
    task.loss(batch, torch.Generator().manual_seed(0))[0].backward()
    told = text.encoder.get_input_embeddings().weight.grad
    assert (told is not None) == trains_text
    assert all(p.grad is None for p in model.autoencoder.parameters())
    silent = [n for n, p in model.unet.spatial.named_parameters() if p.grad is None]
    assert not silent


def test_a_damaged_picture_is_passed_over_and_said_once(tmp_path):
    folder = pictures_of(tmp_path / "pictures", range(4))
    kinds = PictureBatchOptions(size=(32, 32))
    before = [PictureSamples(Pictures((folder,)), kinds)[number] for number in range(12)]
    (folder / "2.png").write_bytes(b"no picture")
    samples, lines = PictureSamples(Pictures((folder,)), kinds), []
    batches = numbered_batches(
        samples, 4, Share(num_workers=0, clips_at_once=4), 0, log=lines.append
    )
    after = [frames for batch in islice(batches, 3) for frames in batch["frames"]]
    changed = [n for n in range(12) if not torch.equal(before[n]["frames"], after[n])]
    assert 0 < len(changed) < 12
    assert changed == [n for n in range(12) if samples[n]["passed_over"]]
    assert len(lines) == 1
    assert lines[0].startswith(f"passed over a picture: {folder / '2.png'}: ")
    for path in folder.iterdir():
        path.write_bytes(b"no picture")
    with pytest.raises(InputError, match="none can be decoded"):
        samples[0]


@pytest.mark.parametrize("place", ["learned", "held_back"])
def test_captions_that_the_model_does_not_know_are_refused_before_the_run(
    place, words_model, tmp_path
):
    for name in ("learned", "held_back"):
        pictures_of(tmp_path / name, range(2), "lorry" if name == place else "night")
    options = TuneOptions(
        data=(tmp_path / "learned",),
        held_back=tmp_path / "held_back",
        model=str(words_model),
        out=tmp_path / "run",
    )
    with pytest.raises(InputError, match=rf"{place}/0\.png: prompt word 'lorry'"):
        train_frames(options)
    assert not options.out.exists()


def test_the_prior_has_its_weight_in_the_loss(words_model, data):
    model = load_image_model(str(words_model), CPU, torch.float32)
    text = TrainableText(model.text)
    batch = held_back_batches(
        Pictures((data / "held_back",)), PictureBatchOptions(size=(32, 32)), most=2
    )[0]
    batch |= {"prior": torch.randn(2, 4, 8, 8), "prior_captions": ["", "night"]}
    totals = {}
    for weight in (0.0, 1.0, 3.0):
        task = PictureTask(model, text, [], PictureOptions(prior_weight=weight))
        loss, said = task.loss(batch, torch.Generator().manual_seed(0))
        totals[weight] = loss.item()
        assert loss.item() == pytest.approx(said["new"] + weight * said["prior"])
    assert totals[3.0] - totals[0.0] == pytest.approx(3 * (totals[1.0] - totals[0.0]), rel=1e-3)


def test_samples_depend_on_their_number_and_prompt_only(words_model):
    model = load_image_model(str(words_model), CPU, torch.float32)
    text = TrainableText(model.text)
    make = lambda *prompts: sampled(model, text, prompts, shape=(4, 8, 8), seed=1)  # noqa: E731
    three = make("night", "day", "night")
    torch.testing.assert_close(make("night", "day"), three[:2], atol=1e-4, rtol=1e-4)
    assert not torch.allclose(three[0], three[2])


@pytest.mark.parametrize("side", ["width", "height"])
def test_a_size_of_nothing_is_refused(side, tmp_path):
    with pytest.raises(InputError, match=f"{side}=0: out of range"):
        TuneOptions(data=(tmp_path,), **{side: 0})


def test_a_size_that_the_model_cannot_make_is_refused(words_model, data, tmp_path):
    options = TuneOptions(data=(data / "learned",), model=str(words_model), out=tmp_path, width=30)
    with pytest.raises(InputError, match="width=30"):
        train_frames(options)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["words", "clip"])
def test_tuned_frames_beat_an_untrained_copy_on_held_back_pictures(
    kind, words_model, clip_model, data, tmp_path
):
    source = {"words": words_model, "clip": clip_model}[kind]
    options = TuneOptions(
        data=(data / "learned",),
        held_back=data / "held_back",
        model=str(source),
        out=tmp_path,
        steps=25,
        learning_rate=6e-3,
        **FAST,
    )
    folder = train_frames(options)
    assert last_row(tmp_path)["new"] < 0.8 * held_back_error(source, data)
    assert held_back_error(folder, data) == pytest.approx(last_row(tmp_path)["new"], rel=0.02)
    before, after = (load_image_model(str(p), CPU, torch.float32) for p in (source, folder))
    torch.testing.assert_close(
        before.encode_prompt("night"), after.encode_prompt("night"), atol=5e-3, rtol=5e-3
    )
    if kind == "words":  # finished: nothing is learned once more
        learned = ModelFolder(folder).weights("unet")["conv_in.weight"]
        again = ModelFolder(train_frames(options)).weights("unet")["conv_in.weight"]
        assert torch.equal(again, learned)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["words", "clip"])
def test_a_new_word_is_learned_and_the_prior_keeps_the_rest(
    kind, words_model, clip_model, data, tmp_path
):
    source = {"words": words_model, "clip": clip_model}[kind]
    rows = {}
    for name, weight in (("kept", 2.0), ("forgotten", 0.0)):
        options = DreamBoothOptions(
            data=(data / "learned",),
            held_back=data / "held_back",
            model=str(source),
            prompt="sepia",
            out=tmp_path / name,
            steps=25,
            batch_size=4,
            pictures_at_once=4,
            prior_pictures=8,
            prior_weight=weight,
            learning_rate=6e-3,
            **FAST,
        )
        folder = train_dreambooth(options)
        rows[name] = last_row(tmp_path / name)
        assert (tmp_path / name / PRIOR).exists()
    assert rows["kept"]["prior"] < 0.9 * rows["forgotten"]["prior"]
    model = load_image_model(str(folder), CPU, torch.float32)
    asked, plain = (model.encode_prompt(p) for p in ("sepia, night", "night"))
    assert not torch.allclose(asked, plain)
    assert rows["kept"]["new"] < 0.9 * held_back_error(
        source, data, "" if kind == "words" else "sepia"
    )


@pytest.mark.slow
def test_the_layers_of_a_generator_act_on_its_tuned_image_model(data, tmp_path):
    """The new word reaches the image model; the temporal layers read the words that they know."""
    source = tiny_generator_folder(tmp_path / "generator")
    options = DreamBoothOptions(
        data=(data / "learned",),
        model=str(source),
        prompt="sepia",
        out=tmp_path / "run",
        steps=2,
        prior_pictures=2,
        **FAST,
    )
    folder = train_dreambooth(options)
    assert (folder / "layout").is_dir()
    report = generate(
        "sepia, night",
        tmp_path / "video.mkv",
        GenerateOptions(model=str(source), spatial=str(folder), frames=5, num_inference_steps=1),
    )
    assert report.frames == 5
