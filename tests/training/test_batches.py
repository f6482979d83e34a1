"""Processes that make batches end in order, whatever they are sending."""

import multiprocessing
from threading import Thread

import torch

from legato.training.batches import begin_worker


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
