"""Decoding piece by piece gives what decoding the whole clip gives."""

from itertools import accumulate

import pytest
import torch
from live_bytes import LiveBytes

from legato.models.tiny_autoencoder import TinyAutoencoder, TinyAutoencoderConfig
from legato.models.tiny_stream import TinyDecoderStream, held_values


@pytest.fixture(scope="module")
def autoencoder():
    config = TinyAutoencoderConfig(
        width=32, num_blocks=3, num_temporal=2, tail_width=8, encoder_width=8, encoder_blocks=1
    )
    model = TinyAutoencoder(config).eval().requires_grad_(False)
    for temporal in model.decoder.temporal:
        temporal.conv.weight.data.normal_(std=0.1)
        temporal.conv.bias.data.normal_(std=0.1)
    return model


def clip(num_frames, rows=5, cols=6):
    """Latents, small frames and motion, which leads out of the frame here and there."""
    motion = torch.randn(num_frames, 6, rows, cols) * 2
    motion[:, 2::3] = (motion[:, 2::3] > -1).float()
    latents = torch.randn(num_frames, 4, rows, cols)
    return latents, torch.rand(num_frames, 3, rows, cols) * 2 - 1, motion


def whole_of(autoencoder, latents, low_res, motion):
    return autoencoder.decode(latents[None], low_res[None], motion=motion[None])[0]


@pytest.mark.parametrize(
    "pieces", [(7,), (3, 4), (1, 1, 1, 1, 1, 1, 1), (2, 1, 4), (1, 6), (6, 1)], ids=str
)
def test_pieces_give_the_whole_clip(autoencoder, pieces):
    given = clip(7)
    whole = whole_of(autoencoder, *given)
    stream, out, start = TinyDecoderStream(autoencoder.decoder, range(7)), [], 0
    for size in pieces:
        own = slice(start, start + size)
        out.append(stream(*(x[own] for x in given), is_last=start + size == 7))
        start += size
    torch.testing.assert_close(torch.cat(out), whole, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("wanted", [range(2, 5), range(7), range(6, 7), range(3, 3)], ids=str)
@pytest.mark.parametrize("pieces", [(7,), (1, 1, 1, 1, 1, 1, 1), (3, 4), (6, 1)], ids=str)
def test_only_wanted_frames_come_out(autoencoder, pieces, wanted):
    given = clip(7)
    whole = whole_of(autoencoder, *given)
    stream, out = TinyDecoderStream(autoencoder.decoder, wanted), []
    for start, *piece in zip(
        accumulate(pieces, initial=0), *(x.split(pieces) for x in given), strict=False
    ):
        out.append(stream(*piece, is_last=start + len(piece[0]) == 7))
    own = whole[wanted.start : wanted.stop]
    torch.testing.assert_close(torch.cat(out), own, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("pieces", [(7,), (1, 1, 1, 1, 1, 1, 1)], ids=str)
def test_features_stay_channels_last(autoencoder, pieces):
    layouts = []

    class Watched(TinyDecoderStream):
        def _finished(self, x, low_res):
            layouts.append(x.is_contiguous(memory_format=torch.channels_last))
            return super()._finished(x, low_res)

    decoder = autoencoder.decoder.to(memory_format=torch.channels_last)
    stream = Watched(decoder, range(7))
    for start, *piece in zip(
        accumulate(pieces, initial=0), *(x.split(pieces) for x in clip(7)), strict=False
    ):
        stream(*piece, is_last=start + len(piece[0]) == 7)
    assert layouts
    assert all(layouts)


def test_a_stream_keeps_as_much_as_it_says(autoencoder):
    stream, rows, cols = TinyDecoderStream(autoencoder.decoder, range(5)), 40, 48
    frames = [clip(1, rows, cols) for _ in range(5)]
    with LiveBytes() as live:
        for frame in frames:
            stream(*frame, is_last=False)
    numbers = held_values(autoencoder.config) * rows * cols
    assert live.now == pytest.approx(4 * numbers, rel=0.1)


def test_one_frame_comes_out_at_once(autoencoder):
    given = clip(1)
    out = TinyDecoderStream(autoencoder.decoder, range(1))(*given, is_last=True)
    torch.testing.assert_close(out, whole_of(autoencoder, *given), atol=1e-5, rtol=1e-5)


def test_output_lags_by_the_frames_it_looks_ahead(autoencoder):
    stream = TinyDecoderStream(autoencoder.decoder, range(5))
    counts = [len(stream(*clip(1), is_last=k == 4)) for k in range(5)]
    assert counts == [0, 0, 1, 1, 3]
