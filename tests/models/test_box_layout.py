"""Boxes become maps that cover what they cover, and a U-Net sees them only where it is told."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import tiny_unet

from legato.models.box_layout import BoxLayout, box_maps

share = st.floats(0, 1)


@given(x=st.tuples(share, share), y=st.tuples(share, share), back=st.booleans())
@settings(max_examples=60)
def test_a_box_covers_its_area(x, y, back):
    (left, right), (top, bottom) = sorted(x), sorted(y)
    maps = box_maps(torch.tensor([[left, top, right, bottom, float(back)]]), 8, 16)
    area = (right - left) * (bottom - top) * 128
    assert abs(maps[0 if back else 1].sum().item() - area) < 1e-3 * (1 + area)
    assert maps[1 if back else 0].sum() == 0
    assert (maps[2] == 1).all()


def test_overlapping_boxes_do_not_add_up():
    box = [0.2, 0.2, 0.7, 0.8, 1.0]
    one, two = (box_maps(torch.tensor([box] * n), 8, 16) for n in (1, 2))
    assert torch.equal(one, two)


def test_a_layout_counts_only_within_its_block_and_maps_of_zeros_do_not():
    unet = tiny_unet()
    layout = BoxLayout(unet.config.block_out_channels[0])
    torch.nn.init.normal_(layout.conv.weight)
    size = unet.config.in_channels, 8, 8
    x, text = torch.randn(2, *size), torch.randn(2, 4, unet.config.cross_attention_dim)
    level = torch.zeros(2, dtype=torch.long)
    maps = torch.stack([torch.ones(3, 8, 8), torch.zeros(3, 8, 8)])
    with torch.no_grad():
        plain = unet(x, 7, text, class_labels=level).sample
        with layout.given(unet, maps):
            told = unet(x, 7, text, class_labels=level).sample
        again = unet(x, 7, text, class_labels=level).sample
    assert torch.equal(plain, again)
    assert torch.allclose(told[1], plain[1], atol=1e-6)
    assert (told[0] - plain[0]).abs().max() > 1e-2


def test_a_fresh_layout_has_no_effect():
    assert BoxLayout(32).conv.weight.abs().max() == 0
    assert BoxLayout.from_config(BoxLayout(32).to_config()).conv.out_channels == 32
