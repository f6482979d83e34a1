"""Signals, sent to this very process."""

import os
import signal
import sys
import time
import tomllib
from pathlib import Path

import pytest

from legato.apps import cli, doctor, entry
from legato.apps.interrupt import SIGNALS, StopOnSignal

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no such signals")


def wait_for_signal(_):
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(5)
    return 0


def test_the_first_signal_asks_and_the_second_interrupts(capsys):
    with StopOnSignal() as stop:
        assert not stop()
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop()
        assert "stopping" in capsys.readouterr().err
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)  # SIGINT is ignored in shells' background jobs


def test_an_ignored_signal_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopOnSignal() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not stop()
    finally:
        signal.signal(signal.SIGHUP, before)


def test_any_command_takes_sigterm_as_ctrl_c(monkeypatch, capsys):
    monkeypatch.setattr(doctor, "run", wait_for_signal)
    before = [signal.getsignal(number) for number in SIGNALS]
    assert cli.main(["doctor"]) == 130
    assert capsys.readouterr().err.startswith("error: interrupted")
    assert [signal.getsignal(number) for number in SIGNALS] == before


class Interrupting:
    """Finds no module; somebody presses Ctrl-C while it looks for the command line."""

    def find_spec(self, name, *_):
        if name == "legato.apps.cli":
            raise KeyboardInterrupt


def test_ctrl_c_while_modules_are_imported_ends_quietly(monkeypatch, capsys):
    monkeypatch.delitem(sys.modules, "legato.apps.cli")
    monkeypatch.setattr(sys, "meta_path", [Interrupting(), *sys.meta_path])
    assert entry.main() == 130
    assert capsys.readouterr() == ("", "")


def test_the_program_begins_with_what_catches_that():
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    assert project["project"]["scripts"] == {"legato": "legato.apps.entry:main"}
