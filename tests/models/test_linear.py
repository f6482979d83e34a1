"""Linear layers by oneDNN: the same numbers, gradients where they are asked for."""

import copy
import pickle

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from legato.models import linear as fast
from legato.models.linear import linear, use_fast_linear_

needs_avx512 = pytest.mark.skipif(
    not fast.HAS_AVX512, reason="oneDNN computes linear layers on CPUs with AVX-512 only"
)


class Operators(TorchDispatchMode):
    """Remember the names of what is computed."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.append(str(func))
        return func(*args, **(kwargs or {}))

    @property
    def asked_onednn(self):
        return any("_linear_pointwise" in name for name in self.names)


@pytest.mark.parametrize("shape", [(5, 12), (2, 3, 7, 12), (0, 12), (12,)])
@pytest.mark.parametrize("biased", [True, False])
def test_it_is_torchs_linear(shape, biased):
    torch.manual_seed(0)
    x, weight = torch.randn(shape), torch.randn(9, 12)
    bias = torch.randn(9) if biased else None
    torch.testing.assert_close(linear(x, weight, bias), F.linear(x, weight, bias))


def test_strided_rows_are_read_as_they_lie():
    x, weight = torch.randn(6, 8, 12).transpose(0, 1)[..., ::2], torch.randn(4, 6)
    torch.testing.assert_close(linear(x, weight, None), F.linear(x, weight))


@needs_avx512
def test_a_network_asks_onednn_and_its_copies_use_their_own_weights():
    network = nn.Sequential(nn.Linear(6, 6), nn.SiLU(), nn.Linear(6, 3)).requires_grad_(False)
    x = torch.randn(4, 6)
    expected = network(x)
    use_fast_linear_(network)
    with Operators() as operators:
        found = network(x)
    assert operators.asked_onednn
    torch.testing.assert_close(found, expected)
    for twin in (copy.deepcopy(network), pickle.loads(pickle.dumps(network))):
        twin[0].weight.zero_(), twin[0].bias.zero_(), twin[2].weight.zero_()
        torch.testing.assert_close(twin(x), network[2].bias.expand(4, 3))
    torch.testing.assert_close(network(x), expected)


def test_gradients_flow_through_a_frozen_network():
    network = nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 1)).requires_grad_(False)
    use_fast_linear_(network)
    x = torch.randn(4, 6, requires_grad=True)
    network(x).sum().backward()
    expected = (network[1].weight @ network[0].weight).expand(4, 6)
    torch.testing.assert_close(x.grad, expected)


def test_reduced_precision_stays_with_torch():
    network = nn.Linear(6, 6).to(torch.bfloat16).requires_grad_(False)
    use_fast_linear_(network)
    with Operators() as operators:
        network(torch.randn(2, 6, dtype=torch.bfloat16))
    assert not operators.asked_onednn
