"""How much memory there is: of the machine, of a container, and what is kept for reuse."""

import ctypes

import pytest
import torch

from legato import device

CPU = torch.device("cpu")


@pytest.fixture
def container(tmp_path, monkeypatch):
    """A control group that allows 3 GB, of which 2 GB are used, 0.5 GB by droppable file pages."""
    monkeypatch.setattr(device, "_kept_bytes", lambda: 0)
    monkeypatch.setattr(device, "_system_available_bytes", lambda: 10 * 10**9)
    limit = tmp_path / "memory.max"
    (tmp_path / "memory.current").write_text(f"{2 * 10**9}\n")
    (tmp_path / "memory.stat").write_text(f"anon 1\ninactive_file {5 * 10**8}\n")
    files = (str(limit), "memory.current", "inactive_file")
    monkeypatch.setattr(device, "CGROUP_LIMITS", (files,))
    return limit


@pytest.mark.parametrize(
    ("found", "dtype"),
    [
        ({}, torch.float32),
        ({"avx512_bf16": True, "cpu_name": "AMD EPYC"}, torch.bfloat16),
        ({"avx512_bf16": True, "cpu_name": "Intel Xeon"}, torch.float32),
        ({"avx512_bf16": True, "amx_bf16": True, "cpu_name": "Intel Xeon"}, torch.bfloat16),
    ],
)
def test_bfloat16_is_chosen_where_it_is_multiplied_faster(found, dtype, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: found)
    assert device.choose_dtype("auto", CPU) == dtype


@pytest.mark.parametrize(
    ("found", "largest"),
    [
        ({}, 0),
        ({"avx2": True, "avx512_f": True}, 0),
        ({"avx2": True, "avx512_f": True, "avx512_vnni": True}, 127),
        ({"avx2": True, "avx_vnni": True}, 127),
        ({"avx2": True}, 63),
    ],
)
def test_integers_are_as_large_as_their_sums_leave_room_for(found, largest, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: found)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    assert device.largest_int8_weight() == largest


@pytest.mark.parametrize(
    ("limit", "available"), [("3000000000", 1_500_000_000), ("max", 10_000_000_000)]
)
def test_a_container_limits_memory_but_not_by_file_pages(container, limit, available):
    container.write_text(limit)
    assert device.available_memory_bytes(CPU) == available


def test_what_the_c_library_keeps_is_available():
    if not hasattr(ctypes.CDLL(None), "mallinfo2"):
        pytest.skip("needs glibc 2.33")
    device.keep_freed_memory()
    tensors = [torch.ones(5 * 10**6) for _ in range(20)]
    last = torch.ones(100)  # above them, so that they cannot be handed back
    before = device._kept_bytes()
    del tensors
    assert device._kept_bytes() - before > 0.9 * 20 * 4 * 5 * 10**6
    assert last.sum() == 100
