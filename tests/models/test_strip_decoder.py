"""Decoding in strips gives what decoding whole maps gives, whatever layers there are."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from live_bytes import LiveBytes
from tiny import tiny_autoencoder_kl, tiny_temporal_decoder
from torch import nn
from torch.nn import functional as F

from legato.models import decoder as decoders
from legato.models import strip_decoder
from legato.models.decoder import TemporalDecoder, TemporalDecoderOptions
from legato.models.strips import convolve, cut, normalise, over

VARIANTS = {
    "image": {"conv": "none"},
    "vae_3d": {"conv": "none", "norm_stats": "clip"},
    "vae_video": {"conv": "volume", "condition_channels": 16, "norm_stats": "clip"},
    "time": {"conv": "time"},
}


@pytest.fixture
def strips_of_one_row(monkeypatch):
    """Everything in strips, of one latent row each, and attention in several blocks."""
    monkeypatch.setattr(decoders, "WHOLE_VALUES", 0)
    monkeypatch.setattr(strip_decoder, "VALUES_PER_STRIP", 1)
    monkeypatch.setattr(strip_decoder, "SCORES_AT_ONCE", 7 * 9)


def both_ways(decoder, latents, low_res, monkeypatch, **how):
    monkeypatch.setattr(decoders, "WHOLE_VALUES", 10**12)
    whole = decoder.decode(latents, low_res, **how)
    monkeypatch.setattr(decoders, "WHOLE_VALUES", 0)
    return decoder.decode(latents, low_res, **how), whole


@pytest.mark.parametrize("options", VARIANTS.values(), ids=VARIANTS)
@torch.no_grad()
def test_strips_give_what_whole_maps_give(options, strips_of_one_row, monkeypatch):
    decoder = tiny_temporal_decoder(**options)
    latents, low_res = torch.randn(2, 3, 4, 5, 4), torch.rand(2, 3, 3, 5, 4) * 2 - 1
    strips, whole = both_ways(decoder, latents, low_res, monkeypatch, condition_weight=0.5)
    torch.testing.assert_close(strips, whole, rtol=0, atol=1e-4)
    assert not torch.equal(strips, whole)  # the other way was taken


@torch.no_grad()
def test_layers_that_are_off_are_off_in_strips_too(strips_of_one_row, monkeypatch):
    decoder = tiny_temporal_decoder(conv="volume", norm_stats="clip")
    latents = torch.randn(1, 3, 4, 5, 4)
    acting, _ = both_ways(decoder, latents, None, monkeypatch)
    with decoder.disabled():
        strips, whole = both_ways(decoder, latents, None, monkeypatch)
    torch.testing.assert_close(strips, whole, rtol=0, atol=1e-4)
    assert (strips - acting).abs().max() > 1e-3
    decoder.skip = frozenset(decoder.temporal)
    torch.testing.assert_close(*both_ways(decoder, latents, None, monkeypatch), rtol=0, atol=1e-4)


@torch.no_grad()
def test_bfloat16_stays_close_to_float32(strips_of_one_row, monkeypatch):
    decoder = tiny_temporal_decoder(conv="none")
    latents = torch.randn(1, 1, 4, 5, 4)
    exact, _ = both_ways(decoder, latents, None, monkeypatch)
    half = decoder.to(torch.bfloat16).decode(latents.bfloat16())
    assert half.dtype == torch.bfloat16
    assert (half.float() - exact).abs().max() < 0.05 * exact.abs().max()


@pytest.mark.parametrize("grad", [True, False])
def test_strips_are_for_large_maps_without_gradients(grad):
    decoder = TemporalDecoder(tiny_autoencoder_kl(), TemporalDecoderOptions(conv="none"))
    cells = decoders.WHOLE_VALUES // strip_decoder.values_per_cell(decoder.spatial)
    with torch.set_grad_enabled(grad):
        assert not decoder._needs_strips(torch.zeros(1, 4, 1, cells))
        assert decoder._needs_strips(torch.zeros(1, 4, 1, cells + 1)) is not grad


def test_the_widest_map_of_the_released_decoder_has_the_outputs_size_and_256_channels():
    with torch.device("meta"):
        autoencoder = tiny_autoencoder_kl(block_out_channels=(128, 256, 512), norm_num_groups=32)
    assert strip_decoder.values_per_cell(autoencoder) == 16 * 256


@pytest.mark.slow
def test_strips_need_less_than_half_the_memory_at_full_size(monkeypatch):
    """Of 320x180 input, without the weights; attention left out: its scores are only fused on
    real devices."""
    with torch.device("meta"):
        image = tiny_autoencoder_kl(
            block_out_channels=(128, 256, 512),
            layers_per_block=2,
            norm_num_groups=32,
            mid_block_add_attention=False,
        )
        latents = torch.empty(1, 1, 4, 180, 320)
    decoder, peaks = TemporalDecoder(image, TemporalDecoderOptions(conv="none")).eval(), []
    for share in (0.0, 1e9):
        monkeypatch.setattr(decoders, "SHARE", share)
        with torch.no_grad(), LiveBytes() as live:
            assert decoder.decode(latents).shape == (1, 1, 3, 720, 1280)
        peaks.append(live.peak)
    assert peaks[0] < 0.4 * peaks[1]
    assert peaks[0] < 1.2 * 16 * 256 * 4 * 180 * 320


@settings(max_examples=30)
@given(
    rows=st.integers(1, 7),
    height=st.integers(1, 20),
    width=st.integers(1, 5),
    frames=st.integers(1, 3),
)
@torch.no_grad()
def test_norm_and_convolution_in_strips_are_those_of_the_map(rows, height, width, frames):
    norm, conv = nn.GroupNorm(2, 6), nn.Conv2d(6, 3, 3, padding=1)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    x = torch.randn(2 * frames, 6, height, width) * 2 + 30  # a mean that would cost precision
    clip = x.unflatten(0, (2, frames)).transpose(1, 2)
    normed = norm(clip.double().float()).transpose(1, 2).flatten(0, 1)
    expected = conv(F.silu(normed))
    strips = cut(x, rows)
    prepare = normalise(norm, strips, num_frames=frames)
    out = torch.cat(over(strips, lambda _, whole: convolve(conv, whole), prepare), 2)
    torch.testing.assert_close(out, expected, rtol=1e-3, atol=1e-3)
    assert not strips


@torch.no_grad()
def test_statistics_survive_a_large_mean():
    norm = nn.GroupNorm(1, 4).double()
    x = torch.randn(1, 4, 64, 64, dtype=torch.float64) + 1000
    prepare = normalise(norm.float(), cut(x.float(), 5))
    expected = F.silu(norm.double()(x))
    torch.testing.assert_close(prepare(x.float()).double(), expected, rtol=0, atol=1e-3)


class TestApproximateAttention:
    @pytest.fixture
    def attended(self, strips_of_one_row):
        decoder = tiny_temporal_decoder(conv="none")
        attention = decoder.spatial.decoder.mid_block.attentions[0]

        def attend(maps, key_cell):
            layers = strip_decoder._Layers(decoder, key_cell)
            return torch.cat(layers.attention(attention, cut(maps.clone(), 2)), dim=2)

        return torch.no_grad()(attend)

    def test_it_is_exact_where_cells_are_uniform(self, attended):
        cells = torch.randn(2, 32, 3, 4)
        maps = F.interpolate(cells, scale_factor=strip_decoder.KEY_CELL)
        torch.testing.assert_close(attended(maps, strip_decoder.KEY_CELL), attended(maps, 1))

    @settings(max_examples=15)
    @given(height=st.integers(1, 7), width=st.integers(1, 7))
    def test_it_reads_the_means_of_cells(self, height, width):
        decoder = tiny_temporal_decoder(conv="none")
        attention = decoder.spatial.decoder.mid_block.attentions[0]
        maps = torch.randn(1, 32, height, width)
        layers = strip_decoder._Layers(decoder, 2)
        with torch.no_grad():
            found = torch.cat(layers.attention(attention, cut(maps.clone(), 2)), dim=2)
            normed = attention.group_norm(maps)
            cells = [
                normed[0, :, y : y + 2, x : x + 2].mean(dim=(1, 2))
                for y in range(0, height, 2)
                for x in range(0, width, 2)
            ]
            q = attention.to_q(normed[0].flatten(1).T)
            k, v = attention.to_k(torch.stack(cells)), attention.to_v(torch.stack(cells))
            read = torch.softmax(q @ k.T / q.shape[1] ** 0.5, dim=1) @ v
            wanted = attention.to_out[0](read).T.view(1, 32, height, width) + maps
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize("options", VARIANTS.values(), ids=VARIANTS)
    @torch.no_grad()
    def test_every_decoder_has_it(self, options):
        decoder = tiny_temporal_decoder(**options)
        latents, low_res = torch.randn(1, 3, 4, 5, 4), torch.rand(1, 3, 3, 5, 4) * 2 - 1
        exact = decoder.decode(latents, low_res)
        near = decoder.decode(latents, low_res, approximate=True)
        assert 1e-5 < (near - exact).abs().max() < 0.5 * exact.abs().max()

    def test_a_decoder_without_attention_does_not_attend(self):
        assert strip_decoder.attends(tiny_autoencoder_kl())
        assert not strip_decoder.attends(tiny_autoencoder_kl(mid_block_add_attention=False))
