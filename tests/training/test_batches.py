"""Processes that make batches end in order, whatever they are sending."""

import multiprocessing
import os
import signal
import sys
from threading import Thread

import pytest
import torch
from torch.utils.data import Dataset

from legato.errors import DecodeError
from legato.training.batches import begin_worker, loaded


def send() -> None:
    while True:
        torch.zeros(4).share_memory_()


def work_that_ends_while_it_sends() -> None:
    begin_worker(0)
    for _ in range(4):
        Thread(target=send, daemon=True).start()


def test_a_worker_ends_while_its_threads_are_sending():
    worker = multiprocessing.get_context("spawn").Process(target=work_that_ends_while_it_sends)
    worker.start()
    worker.join(120)
    assert worker.exitcode == 0


class Damaged(Dataset):
    """Samples of which the third cannot be made."""

    def __getitem__(self, number):
        if number == 2:
            raise DecodeError("2.png", why="the picture cannot be decoded", fix="save it again")
        return {"number": number}


@pytest.mark.parametrize("num_workers", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_an_error_of_ours_arrives_as_itself_whoever_makes_the_batches(num_workers):
    batches = loaded(Damaged(), [[0, 1], [2, 3]], num_workers=num_workers)
    assert next(batches)["number"].tolist() == [0, 1]
    with pytest.raises(DecodeError, match=r"^2\.png: the picture cannot be decoded; save") as found:
        next(batches)
    assert "\n" not in str(found.value)


class Withheld(Dataset):
    """Whether signals reach the process that makes a sample."""

    def __getitem__(self, number):
        withheld = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        return {
            "stop": {signal.SIGINT, signal.SIGHUP} <= withheld,
            "end": signal.SIGTERM in withheld,
        }


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="no such masks there")
def test_an_interruption_reaches_the_training_and_not_its_workers():
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    batch = next(loaded(Withheld(), [[0]], num_workers=1))
    assert batch["stop"].tolist() == [True]
    assert batch["end"].tolist() == [False]
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before


class Ended(Dataset):
    """Samples that are made although SIGTERM comes; the second of them meets it once more."""

    def __getitem__(self, number):
        os.kill(os.getpid(), signal.SIGTERM)
        return number


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="no such signals")
def test_workers_outlive_the_first_sigterm_so_that_the_training_keeps_its_checkpoint():
    batches = loaded(Ended(), [[0], [1]], num_workers=1, prefetch_factor=1)
    assert next(batches).tolist() == [0]
    with pytest.raises(RuntimeError, match="DataLoader worker"):
        next(batches)
