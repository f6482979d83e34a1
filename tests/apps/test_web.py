"""`legato web`, served by a process of its own and asked as a browser asks."""

import importlib.util
import json
import signal
import socket
import subprocess
import sys
import time
import urllib.request

import numpy as np
import pytest
from clips import pixels_of

import legato
from legato.apps import cli
from legato.apps.tasks import TASKS

UPSCALE, GENERATE, TRANSLATE = TASKS
LONG = 240.0  # seconds
SERVE = "import sys; from legato.apps.cli import main; sys.exit(main(sys.argv[1:]))"


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """Serve the page; yield its address, its folder and its process."""
    folder = tmp_path_factory.mktemp("served") / "results"
    command = [sys.executable, "-c", SERVE, "web", str(folder), "--port", str(free_port())]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            address = process.stdout.readline().split(" ")[0]
            yield address, folder, process
        finally:
            process.kill()


def fetched(address, data=None, kind="application/json"):
    request = urllib.request.Request(address, data, {"Content-Type": kind} if data else {})
    with urllib.request.urlopen(request, timeout=LONG) as answer:
        return answer.read()


def upload(address, path):
    """Send a file as a browser does; return it as gradio names it."""
    head = f'Content-Disposition: form-data; name="files"; filename="{path.name}"'
    body = b"".join([b"--x\r\n", head.encode(), b"\r\n\r\n", path.read_bytes(), b"\r\n--x--\r\n"])
    (there,) = json.loads(
        fetched(f"{address}gradio_api/upload", body, "multipart/form-data; boundary=x")
    )
    return {"path": there, "orig_name": path.name, "meta": {"_type": "gradio.FileData"}}


def click(address, task, first, **filled):
    """Press a form's first button; return what the server says."""
    asked = json.loads(fetched(f"{address}gradio_api/info"))["named_endpoints"]
    labels = [given["label"] for given in asked[f"/start_{task.name}"]["parameters"]]
    entries = {entry.name.replace("_", " "): entry for entry in task.offered()}
    chosen = [entries[label] for label in labels[len(first) :]]
    assert set(chosen) == set(task.offered())
    values = [
        filled.get(e.name, e.default if e.is_switch else str(e.default or "")) for e in chosen
    ]
    call = f"{address}gradio_api/call/start_{task.name}"
    begun = json.loads(fetched(call, json.dumps({"data": [*first, *values]}).encode()))
    return fetched(f"{call}/{begun['event_id']}").decode()


def wait_for(path):
    end = time.monotonic() + LONG
    while not path.exists():
        assert time.monotonic() < end, f"{path} does not come"
        time.sleep(0.1)


def test_every_option_has_a_widget_with_its_help(page):
    address, *_ = page
    widgets = [found["props"] for found in json.loads(fetched(f"{address}config"))["components"]]
    told = [(props.get("label"), props.get("info")) for props in widgets]
    for task in TASKS:
        for entry in task.offered():
            assert (entry.name.replace("_", " "), entry.help) in told


def test_an_uploaded_video_is_upscaled_as_python_does_it(page, clip, options, tiny_model):
    address, folder, _ = page
    source = clip(frames=5)
    first = [upload(address, source), "", "mine.mkv"]
    filled = {"model": tiny_model, "segment": "4", "codec": "ffv1"}
    assert "job 1: mine.mkv" in click(address, UPSCALE, first, **filled)
    wait_for(folder / "mine.mkv.legato.json")
    legato.upscale(source, folder / "python.mkv", options())
    assert np.array_equal(pixels_of(folder / "mine.mkv"), pixels_of(folder / "python.mkv"))
    seen = fetched(f"{address}gradio_api/file={folder / 'mine.mkv'}")
    assert seen == (folder / "mine.mkv").read_bytes()
    assert list((folder / ".uploads").rglob("in.mkv"))


def test_what_is_refused_is_told(page):
    address, folder, _ = page
    assert "none was chosen" in click(address, TRANSLATE, [None, "", ""])
    assert "no plain name" in click(address, GENERATE, ["night", "../a.mp4"])
    assert not (folder.parent / "a.mp4").exists()


def test_other_files_are_not_served(page):
    address, folder, _ = page
    secret = folder.parent / "secret.txt"
    secret.write_text("secret", encoding="utf-8")
    with pytest.raises(urllib.error.HTTPError) as refused:
        fetched(f"{address}gradio_api/file={secret}")
    assert refused.value.code in (403, 404)
    refused.value.close()


@pytest.mark.skipif(sys.platform == "win32", reason="no such signals")
def test_ctrl_c_ends_it(page):
    *_, process = page
    process.send_signal(signal.SIGTERM)  # SIGINT is ignored in shells' background jobs
    assert process.wait(LONG) == 0


def test_a_port_that_is_taken_or_no_port_is_told_in_one_line(tmp_path, capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert cli.main(["web", str(tmp_path), "--port", str(port)]) == 2
    assert cli.main(["web", str(tmp_path), "--port", "70000"]) == 2
    assert cli.main(["web", str(tmp_path), "--host", "192.0.2.1"]) == 2  # of nobody, RFC 5737
    told = capsys.readouterr().err.splitlines()
    assert [line.split(": ")[1] for line in told] == [
        f"127.0.0.1:{port}",
        "port=70000",
        "192.0.2.1:7860",
    ]


def test_without_gradio_the_cure_is_told(tmp_path, capsys, monkeypatch):
    found = importlib.util.find_spec
    missing = lambda name, *more: None if name == "gradio" else found(name, *more)  # noqa: E731
    monkeypatch.setattr(importlib.util, "find_spec", missing)
    assert cli.main(["web", str(tmp_path)]) == 4
    assert "pip install 'legato[page]'" in capsys.readouterr().err


def test_a_folder_that_cannot_be_is_refused(tmp_path, capsys):
    (tmp_path / "file").write_bytes(b"")
    assert cli.main(["web", str(tmp_path / "file")]) == 2
    assert cli.main(["web", str(tmp_path / "no" / "results")]) == 2
    assert capsys.readouterr().err.count("no folder can be made there") == 2
