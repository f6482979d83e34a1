"""`legato models pull`: a hub on this machine, what it gives, and what it can get wrong."""

import errno
import hashlib
import json
import re
import shutil
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch
from huggingface_hub import HfApi, constants
from safetensors.torch import load_file, save_file
from tiny import tiny_diffusers_upscaler

from legato.apps import cli
from legato.models import spec
from legato.models.folder import ModelFolder
from legato.models.load import load_upscaler
from legato.models.pull import wanted

NAME = "sd-x4-upscaler"
FIRST, MIRROR = spec.SPECS[NAME].hubs
COMMIT = "0123456789abcdef0123456789abcdef01234567"
UNET = "unet/diffusion_pytorch_model.safetensors"


class Hub:
    """The part of the hub's interface that a download uses, for one folder of files."""

    def __init__(self, folder):
        self.folder, self.got = folder, []
        self.absent = set()  # identifiers that it does not know
        self.failing = set()  # files that it cannot send
        self.false_hashes = {}  # what it says of files instead of the truth
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self):
                hub.answer(self, with_body=False)

            def do_GET(self):
                hub.answer(self, with_body=True)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def answer(self, request, *, with_body):
        path = request.path.partition("?")[0]
        found = re.fullmatch(
            r"/(?:api/models/)?([^/]+/[^/]+)/(revision|resolve)/([^/]+)(?:/(.+))?", path
        )
        model, kind, _, name = found.groups()
        if model in self.absent or name in self.failing:
            self.send(
                request, 404, b"", {"X-Error-Code": "EntryNotFound" if name else "RepoNotFound"}
            )
        elif kind == "revision":
            self.send(request, 200, json.dumps(self.listing(model)).encode(), {})
        else:
            content = (self.folder / name).read_bytes()
            etag = hashlib.sha256(content).hexdigest()
            headers = {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT, "X-Linked-Size": len(content)}
            if with_body:
                self.got.append(name)
            self.send(request, 200, content, headers, with_body=with_body)

    def listing(self, model):
        files = [path for path in sorted(self.folder.rglob("*")) if path.is_file()]
        siblings = []
        for path in files:
            name = path.relative_to(self.folder).as_posix()
            content = path.read_bytes()
            digest = self.false_hashes.get(name, hashlib.sha256(content).hexdigest())
            facts = {"rfilename": name, "size": len(content), "blobId": digest[:40]}
            if path.suffix == ".safetensors":
                facts["lfs"] = {"size": len(content), "sha256": digest, "pointerSize": 100}
            siblings.append(facts)
        return {"id": model, "modelId": model, "sha": COMMIT, "siblings": siblings, "tags": []}

    def send(self, request, code, content, headers, *, with_body=True):
        request.send_response(code)
        for name, value in {"Content-Length": len(content), **headers}.items():
            request.send_header(name, str(value))
        request.end_headers()
        if with_body:
            request.wfile.write(content)


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    folder = tiny_diffusers_upscaler(tmp_path_factory.mktemp("hub") / "x4")
    (folder / "README.md").write_text("---\nlicense: openrail++\n---\n")
    return folder


@pytest.fixture
def hub(published, tmp_path, monkeypatch):
    """A hub that is the only one, and an empty model folder."""
    hub = Hub(shutil.copytree(published, tmp_path / "hub"))
    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    monkeypatch.setattr(
        constants,
        "HUGGINGFACE_CO_URL_TEMPLATE",
        hub.url + "/{repo_id}/resolve/{revision}/{filename}",
    )
    monkeypatch.setattr(spec, "HOME", tmp_path / "models")
    yield hub
    hub.server.shutdown()
    hub.server.server_close()


@pytest.fixture
def home(tmp_path):
    return tmp_path / "models"


@pytest.fixture
def pull(capsys):
    """Run the command; return the exit code, stdout and the line of an error."""

    def run(*arguments):
        code = cli.main(["models", "pull", *arguments])
        said = capsys.readouterr()
        errors = [line for line in said.err.splitlines() if line.startswith("error:")]
        return code, said.out, " ".join(errors)

    return run


def test_a_pulled_model_is_found_by_its_name_and_is_whole(hub, home, pull, capsys):
    assert pull(NAME) == (0, f"{NAME}: {home / NAME}\n", "")
    assert spec.find_folder(NAME) == home / NAME
    manifest = ModelFolder(home / NAME).manifest
    assert (manifest.name, manifest.family, manifest.licence) == (NAME, "image", "openrail++")
    assert cli.main(["models", "inspect", NAME]) == 0
    assert cli.main(["models", "list"]) == 0
    assert f"installed: {home / NAME}" in capsys.readouterr().out
    load_upscaler(NAME, torch.device("cpu"), torch.float32)
    assert sorted(path.name for path in home.iterdir()) == [NAME, f"{NAME}.download.json"]


def test_quiet_shows_no_progress(hub, home, capsys):
    assert cli.main(["models", "pull", NAME, "--quiet"]) == 0
    assert capsys.readouterr() == (f"{NAME}: {home / NAME}\n", "")


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_the_precision_decides_what_is_fetched_and_written(hub, home, pull, dtype):
    state = load_file(hub.folder / UNET)
    half = UNET.replace(".safetensors", ".fp16.safetensors")
    save_file({key: value.half() for key, value in state.items()}, hub.folder / half)
    assert pull(NAME, "--dtype", dtype)[0] == 0
    assert ((half in hub.got), (UNET in hub.got)) == (dtype == "float16", dtype == "float32")
    kinds = {value.dtype for value in load_file(home / NAME / UNET).values()}
    assert kinds == {getattr(torch, dtype)}


def test_what_is_here_and_whole_is_not_fetched_again(hub, home, pull):
    assert pull(NAME)[0] == 0
    hub.got.clear()
    assert pull(NAME)[0] == 0
    assert hub.got == []


@pytest.mark.parametrize("damage", ["weights", "manifest"])
def test_what_is_here_and_damaged_is_fetched_again(hub, home, pull, damage):
    assert pull(NAME)[0] == 0
    path = home / NAME / (UNET if damage == "weights" else "legato.json")
    whole = path.read_bytes()
    path.write_bytes(whole[:-100])
    assert pull(NAME)[0] == 0
    assert path.read_bytes() == whole


def test_an_interrupted_download_goes_on(hub, home, pull):
    hub.failing.add("vae/config.json")
    code, _, error = pull(NAME)
    assert (code, "cannot be downloaded" in error) == (3, True)
    assert not (home / NAME).exists()
    assert UNET in hub.got
    hub.failing.clear()
    hub.got.clear()
    assert pull(NAME)[0] == 0
    assert UNET not in hub.got
    assert "vae/config.json" in hub.got


def test_a_mirror_is_asked_where_the_first_hub_has_nothing(hub, home, pull):
    hub.absent.add(FIRST)
    assert pull(NAME)[0] == 0
    record = json.loads((home / f"{NAME}.download.json").read_text())
    assert record["commits"] == {MIRROR: COMMIT}


def test_offline_is_one_line_that_says_what_to_do(hub, home, pull):
    hub.server.shutdown()
    hub.server.server_close()
    code, _, error = pull(NAME)
    assert code == 3
    assert "cannot be downloaded" in error
    assert FIRST in error
    assert MIRROR in error
    assert f"legato models convert FOLDER {home / NAME}" in error
    assert not (home / NAME).exists()


def test_a_full_disk_is_told_apart_from_being_offline(hub, home, pull, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(HfApi, "hf_hub_download", full)
    code, _, error = pull(NAME)
    assert (code, "the disk is full" in error) == (4, True)


def test_hashes_of_the_first_download_are_checked_ever_after(hub, home, pull):
    assert pull(NAME)[0] == 0
    record = json.loads((home / f"{NAME}.download.json").read_text())["sha256"]
    assert record[UNET] == hashlib.sha256((hub.folder / UNET).read_bytes()).hexdigest()
    assert "README.md" not in record
    shutil.rmtree(home / NAME)
    state = load_file(hub.folder / UNET)
    save_file({key: value + 1 for key, value in state.items()}, hub.folder / UNET)
    code, _, error = pull(NAME)
    assert code == 3
    assert f"{UNET} is not the file that it should be" in error
    assert "differs from its first download" in error
    assert not (home / NAME).exists()
    (home / f"{NAME}.download.json").unlink()
    assert pull(NAME)[0] == 0


def test_a_file_that_is_not_what_the_hub_says_is_refused(hub, home, pull):
    hub.false_hashes[UNET] = "0" * 64
    code, _, error = pull(NAME)
    assert (code, "differs from what the hub says" in error) == (3, True)
    assert not (home / NAME).exists()
    assert not (home / f"{NAME}.download.json").exists()


def test_a_hash_of_the_table_is_checked(hub, home, pull, monkeypatch):
    known = replace(spec.SPECS[NAME], sha256={UNET: "0" * 64})
    monkeypatch.setitem(spec.SPECS, NAME, known)
    code, _, error = pull(NAME)
    assert (code, "differs from the published one" in error) == (3, True)


def test_a_damaged_record_is_one_line(hub, home, pull):
    home.mkdir()
    (home / f"{NAME}.download.json").write_text("[]")
    code, _, error = pull(NAME)
    assert (code, f"{NAME}.download.json is damaged" in error) == (3, True)


def test_a_hub_without_a_part_leaves_nothing(hub, home, pull):
    shutil.rmtree(hub.folder / "vae")
    code, _, error = pull(NAME)
    assert (code, "vae/config.json is missing" in error) == (3, True)
    assert not (home / NAME).exists()


@pytest.mark.parametrize(
    ("name", "says"), [("embedded-x4", "part of legato"), ("nonsense", "no model of that name")]
)
def test_a_model_that_is_at_no_hub_is_refused(pull, name, says):
    code, _, error = pull(name)
    assert (code, says in error, NAME in error) == (2, True, True)


def test_a_model_of_one_part_lies_at_the_root():
    names = ["README.md", "config.json", "mm_sd_v15_v2.ckpt"]
    weights = [f"diffusion_pytorch_model{half}.safetensors" for half in ("", ".fp16")]
    always = ["README.md", "config.json"]
    assert wanted([*names, *weights], half=True) == [*always, weights[1]]
    assert wanted([*names, *weights], half=False) == [*always, weights[0]]


def test_each_part_is_fetched_once_and_nothing_else():
    names = [
        *("README.md", "model_index.json", "x4-upscaler-ema.ckpt", "x4-upscaler-ema.safetensors"),
        *("unet/config.json", "unet/diffusion_pytorch_model.bin"),
        *(UNET, UNET.replace(".safetensors", ".fp16.safetensors")),
        *("vae/vae_3d.bin", "vae/vae_video.bin", "tokenizer/merges.txt", "safety/config.json"),
        *("text_encoder/model-00001-of-00002.safetensors", "text_encoder/model.fp16.safetensors"),
        "text_encoder/model.safetensors.index.json",
    ]
    always = ["model_index.json", "README.md", "unet/config.json"]
    pickles = ["vae/vae_3d.bin", "vae/vae_video.bin"]
    assert wanted(names, half=True) == [
        *always,
        UNET.replace(".safetensors", ".fp16.safetensors"),
        *pickles,
        "text_encoder/model.fp16.safetensors",
        "tokenizer/merges.txt",
    ]
    assert wanted(names, half=False) == [
        *always,
        UNET,
        *pickles,
        "text_encoder/model-00001-of-00002.safetensors",
        "text_encoder/model.safetensors.index.json",
        "tokenizer/merges.txt",
    ]
