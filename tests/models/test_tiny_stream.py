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


@pytest.mark.parametrize(
    "pieces", [(7,), (3, 4), (1, 1, 1, 1, 1, 1, 1), (2, 1, 4), (1, 6), (6, 1)], ids=str
)
def test_pieces_give_the_whole_clip(autoencoder, pieces):
    latents, low_res = torch.randn(7, 4, 5, 6), torch.rand(7, 3, 5, 6) * 2 - 1
    whole = autoencoder.decode(latents[None], low_res[None])[0]
    stream, out, start = TinyDecoderStream(autoencoder.decoder, range(7)), [], 0
    for size in pieces:
        own = slice(start, start + size)
        out.append(stream(latents[own], low_res[own], is_last=start + size == 7))
        start += size
    torch.testing.assert_close(torch.cat(out), whole, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("wanted", [range(2, 5), range(7), range(6, 7), range(3, 3)], ids=str)
@pytest.mark.parametrize("pieces", [(7,), (1, 1, 1, 1, 1, 1, 1), (3, 4), (6, 1)], ids=str)
def test_only_wanted_frames_come_out(autoencoder, pieces, wanted):
    latents, low_res = torch.randn(7, 4, 5, 6), torch.rand(7, 3, 5, 6) * 2 - 1
    whole = autoencoder.decode(latents[None], low_res[None])[0]
    stream, out = TinyDecoderStream(autoencoder.decoder, wanted), []
    for start, z, small in zip(
        accumulate(pieces, initial=0), latents.split(pieces), low_res.split(pieces), strict=False
    ):
        out.append(stream(z, small, is_last=start + len(z) == 7))
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
    latents, low_res = torch.randn(7, 4, 5, 6), torch.rand(7, 3, 5, 6) * 2 - 1
    for start, z, small in zip(
        accumulate(pieces, initial=0), latents.split(pieces), low_res.split(pieces), strict=False
    ):
        stream(z, small, is_last=start + len(z) == 7)
    assert layouts
    assert all(layouts)


def test_a_stream_keeps_as_much_as_it_says(autoencoder):
    stream, rows, cols = TinyDecoderStream(autoencoder.decoder, range(5)), 40, 48
    frames = [(torch.randn(1, 4, rows, cols), torch.rand(1, 3, rows, cols)) for _ in range(5)]
    with LiveBytes() as live:
        for latents, low_res in frames:
            stream(latents, low_res, is_last=False)
    numbers = held_values(autoencoder.config) * rows * cols
    assert live.now == pytest.approx(4 * numbers, rel=0.1)


def test_one_frame_comes_out_at_once(autoencoder):
    latents, low_res = torch.randn(1, 4, 5, 6), torch.rand(1, 3, 5, 6)
    out = TinyDecoderStream(autoencoder.decoder, range(1))(latents, low_res, is_last=True)
    whole = autoencoder.decode(latents[None], low_res[None])[0]
    torch.testing.assert_close(out, whole, atol=1e-5, rtol=1e-5)


def test_output_lags_by_the_frames_it_looks_ahead(autoencoder):
    stream = TinyDecoderStream(autoencoder.decoder, range(5))
    counts = [
        len(stream(torch.randn(1, 4, 5, 6), torch.rand(1, 3, 5, 6), is_last=k == 4))
        for k in range(5)
    ]
    assert counts == [0, 0, 1, 1, 3]
