"""Files of tensors are whole, or an error of the system says why they are not."""

import errno
import sys
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from legato.errors import ResourceError, refused_by_system
from legato.evaluation.niqe import NaturalModel
from legato.flow import raft
from legato.tensor_file import save_tensors


@contextmanager
def files_up_to(size):
    """Let the system refuse larger files, as a full disk does."""
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.skipif(sys.platform == "win32", reason="no such limit there")
def test_a_disk_that_takes_no_more_is_said_and_the_file_stays(tmp_path):
    path = save_tensors({"a": torch.ones(3)}, tmp_path / "a.safetensors", {"format": "pt"})
    with files_up_to(10_000), pytest.raises(OSError, match=r"a\.safetensors") as found:
        save_tensors({"a": torch.zeros(100_000)}, path)
    assert found.value.errno == errno.EFBIG
    assert isinstance(refused_by_system(found.value, ""), ResourceError)
    assert load_file(path)["a"].tolist() == [1, 1, 1]
    assert list(tmp_path.iterdir()) == [path]


def save_raft(path):
    """Write weights under the original's names, of which there is one tensor here."""
    with files_up_to(10_000):
        raft.save_raft({"module.fnet.conv1.weight": torch.zeros(100_000)}, path)


def save_niqe(path):
    """Write a model of NIQE, which is of about 10 kB."""
    model = NaturalModel(mean=np.zeros(36), covariance=np.eye(36))
    with files_up_to(1_000):
        model.save(path)


@pytest.mark.skipif(sys.platform == "win32", reason="no such limit there")
@pytest.mark.parametrize("save", [save_raft, save_niqe])
def test_every_file_of_weights_is_written_so(save, tmp_path):
    path = tmp_path / "a.safetensors"
    with pytest.raises(OSError, match=r"a\.safetensors") as found:
        save(path)
    assert isinstance(refused_by_system(found.value, ""), ResourceError)
    assert not path.exists()
    assert not list(tmp_path.glob("*.partial"))
