"""Fetching: from a Hub that speaks the true protocol over a real socket, and refusals."""

import hashlib
import json
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import soundfile

from conftest import speech
from govor.corpus.fillets import check_content
from govor.corpus.records import Clip
from govor.errors import GovorError, UnreachableError
from govor.files import atomic_folder, sha256_of_lines
from govor.hub import check_sha256, find_model, run_client

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def _digest(file: Path) -> str:
    return hashlib.sha1(file.read_bytes()).hexdigest()


class Hub(BaseHTTPRequestHandler):
    """The part of the Hub's protocol that fetching a snapshot uses."""

    folder: Path
    asked: list[str]

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, body: bool) -> None:
        path = self.path.split("?")[0]
        self.asked.append(path)
        if path.startswith("/api/models/team/tiny/tree/"):
            tree = [
                {"type": "file", "path": file.name, "size": file.stat().st_size, "oid": _digest(file)}
                for file in self.folder.iterdir()
            ]
            return self.send(200, json.dumps(tree).encode(), body, {"Content-Type": "application/json"})
        if path.startswith("/api/models/team/tiny"):
            files = [{"rfilename": file.name} for file in self.folder.iterdir()]
            return self.send(200, json.dumps({"id": "team/tiny", "sha": COMMIT, "siblings": files}).encode(), body, {})
        name = path.removeprefix(f"/team/tiny/resolve/{COMMIT}/")
        file = self.folder / name
        if "/" in name or not file.is_file():
            return self.send(404, b"{}", body, {"X-Error-Code": "RepoNotFound"})
        data = file.read_bytes()
        return self.send(200, data, body, {"ETag": f'"{_digest(file)}"', "X-Repo-Commit": COMMIT})

    def send(self, status: int, data: bytes, body: bool, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        """Quiet."""


@pytest.fixture
def hub(tiny_folder: Path, tmp_path: Path) -> Iterator[tuple[str, list[str]]]:
    import shutil

    folder = tmp_path / "hub"
    shutil.copytree(tiny_folder, folder)
    (folder / "evil.py").write_text("raise SystemExit")
    (folder / "pytorch_model.bin").write_bytes(b"pickle")
    asked: list[str] = []
    handler = type("Handler", (Hub,), {"folder": folder, "asked": asked})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}", asked
    server.shutdown()
    server.server_close()


def test_a_model_is_fetched_from_the_hub_once_and_without_code(
    govor: Any, workspace: Path, hub: tuple[str, list[str]]
) -> None:
    endpoint, asked = hub
    soundfile.write(workspace / "a.wav", speech(["sol"], seconds=1.0), 16_000)
    settings = {"HF_ENDPOINT": endpoint, "GOVOR_CACHE": str(workspace / "cache"), "HF_HOME": str(workspace / "hf")}
    done = govor("transcribe", "team/tiny", "a.wav", "--language", "en", **settings)
    assert "fetching team/tiny from the Hub" in done.stderr
    kept = {path.name for path in (workspace / "cache/models/team--tiny/hf").iterdir()}
    assert "model.safetensors" in kept and not kept & {"evil.py", "pytorch_model.bin"}
    before = len(asked)
    govor("transcribe", "team/tiny", "a.wav", "--language", "en", **settings)
    assert len(asked) == before, "the second time nothing is asked"
    gone = govor("transcribe", "team/other", "a.wav", expect=2, **settings)
    assert "'team/other' cannot be fetched: the Hub answers 404" in gone.stderr


def test_an_unreachable_hub_is_one_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GOVOR_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UnreachableError, match="'team/model' cannot be fetched: HF_HUB_OFFLINE is set"):
        find_model("team/model")


def test_changed_bytes_are_refused(tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(b"x")
    with pytest.raises(GovorError, match="changed or damaged"):
        check_sha256(tmp_path / "model.bin", "0" * 64)


def test_a_missing_client_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UnreachableError, match="'apt-get' is not installed, and it is needed to fetch the speech"):
        run_client(["apt-get", "download", "x"], tmp_path, "the speech")
    assert os.environ["PATH"] == str(tmp_path)


def test_speech_of_another_edition_is_refused(tmp_path: Path) -> None:
    clip = Clip(id="a", audio="a.ogg", transcript="ano", duration=1.0, language="cs")
    (tmp_path / "audio").mkdir()
    (tmp_path / "audio/a.ogg").write_bytes(b"a")
    known = "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"
    wanted = sha256_of_lines([f"a\tano\t{known}"])
    check_content(tmp_path, ".ogg", [clip], wanted, "The corpus")
    with pytest.raises(GovorError, match="another edition"):
        check_content(tmp_path, ".ogg", [clip.replace(transcript="ne")], wanted, "The corpus")


def test_what_two_processes_fetch_at_once_is_there_once(tmp_path: Path) -> None:
    """The first whole folder stays, and nothing is left over."""
    target = tmp_path / "models" / "x"
    with atomic_folder(target, "the model", shared=True) as slower:
        (slower / "a").write_text("slower")
        with atomic_folder(target, "the model", shared=True) as faster:
            (faster / "a").write_text("faster")
    assert (target / "a").read_text() == "faster" and [path.name for path in target.parent.iterdir()] == ["x"]
    with pytest.raises(GovorError), atomic_folder(target, "the model") as folder:
        (folder / "a").write_text("not shared")
    assert (target / "a").read_text() == "faster"
