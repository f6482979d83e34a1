"""The temporal decoder: fresh it is the image decoder, conditioned it reads the small frames."""

import pytest
import torch
from tiny import randomise_, tiny_autoencoder_kl, tiny_temporal_decoder

from legato.errors import InputError
from legato.models.decoder import TemporalDecoder, TemporalDecoderOptions

VARIANTS = {
    "time": {},
    "volume": {"conv": "volume"},
    "conditioned": {"conv": "volume", "condition_channels": 16},
    "no layers": {"conv": "none"},
}


@pytest.fixture
def latents():
    return torch.randn(2, 3, 4, 5, 4)


@pytest.fixture
def low_res():
    return torch.rand(2, 3, 3, 5, 4) * 2 - 1


@torch.no_grad()
def by_images(autoencoder, latents):
    frames = (latents / autoencoder.config.scaling_factor).flatten(0, 1)
    out = autoencoder.decode(frames.contiguous(memory_format=torch.channels_last)).sample
    return out.unflatten(0, latents.shape[:2])


@pytest.mark.parametrize("options", VARIANTS.values(), ids=VARIANTS)
@torch.no_grad()
def test_a_fresh_decoder_is_the_image_decoder_bit_for_bit(options, latents, low_res):
    decoder = TemporalDecoder(tiny_autoencoder_kl(), TemporalDecoderOptions(**options))
    assert torch.equal(decoder.decode(latents, low_res), by_images(decoder.spatial, latents))


@pytest.mark.parametrize("norm_stats", ["frame", "clip"])
@torch.no_grad()
def test_a_switched_off_decoder_is_the_image_decoder_bit_for_bit(norm_stats, latents, low_res):
    decoder = tiny_temporal_decoder(conv="volume", norm_stats=norm_stats)
    with decoder.disabled():
        assert torch.equal(decoder.decode(latents, low_res), by_images(decoder.spatial, latents))


@pytest.mark.parametrize("conv", ["time", "volume"])
@torch.no_grad()
def test_neighbouring_frames_are_seen(conv, latents):
    decoder = tiny_temporal_decoder(conv=conv)
    changed = latents.clone()
    changed[0, 2] += 1
    moved = (decoder.decode(changed) - decoder.decode(latents)).abs().amax((2, 3, 4))
    assert (moved[0] > 1e-4).all()
    assert not (moved[1] > 1e-5).any()


@torch.no_grad()
def test_clip_statistics_alone_join_frames(latents):
    decoder = tiny_temporal_decoder(conv="none", norm_stats="clip")
    changed = latents.clone()
    changed[0, 2] *= 3
    moved = (decoder.decode(changed) - decoder.decode(latents)).abs().amax((2, 3, 4))
    assert moved[0, 0] > 1e-4
    assert not (moved[1] > 1e-5).any()


@torch.no_grad()
def test_the_small_frames_steer_by_their_weight(latents, low_res):
    decoder = tiny_temporal_decoder(conv="none", condition_channels=16)
    plain = tiny_temporal_decoder(conv="none").decode(latents)
    full = decoder.decode(latents, low_res)
    assert (full - decoder.decode(latents, low_res.flip(-1))).abs().max() > 1e-4
    ignored = decoder.decode(latents, low_res, condition_weight=0.0)
    torch.testing.assert_close(ignored, plain, rtol=0, atol=1e-5)


def test_a_conditioned_decoder_refuses_to_go_without_small_frames(latents):
    with pytest.raises(InputError, match="low_res"):
        tiny_temporal_decoder(conv="none", condition_channels=16).decode(latents)


def test_training_the_temporal_layers_leaves_encoder_and_image_decoder_alone(latents, low_res):
    decoder = tiny_temporal_decoder(conv="time")
    decoder.spatial.requires_grad_(False)
    before = {key: value.clone() for key, value in decoder.spatial.state_dict().items()}
    frames = torch.rand(1, 2, 3, 16, 16)
    encoded = decoder.encode(frames)
    optimizer = torch.optim.SGD(decoder.temporal.parameters(), lr=1e-3)
    decoder.decode(latents).square().mean().backward()
    assert all(p.grad is not None for p in decoder.temporal.parameters())
    optimizer.step()
    after = decoder.spatial.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert torch.equal(decoder.encode(frames), encoded)


@torch.no_grad()
def test_encoding_is_frame_by_frame_and_scaled():
    autoencoder = tiny_autoencoder_kl()
    decoder = TemporalDecoder(autoencoder, TemporalDecoderOptions(norm_stats="clip"))
    randomise_(decoder.temporal)
    frames = torch.rand(1, 2, 3, 16, 16)
    expected = autoencoder.encode(frames[0]).latent_dist.mean * 0.08333
    torch.testing.assert_close(decoder.encode(frames)[0], expected)


@torch.no_grad()
def test_one_frame_decodes(low_res):
    decoder = tiny_temporal_decoder(conv="volume", condition_channels=16, norm_stats="clip")
    assert decoder.decode(torch.randn(2, 1, 4, 5, 4), low_res[:, :1]).shape == (2, 1, 3, 20, 16)
