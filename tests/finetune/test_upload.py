"""Checkpoints reach a real server of the S3 protocol whole, and one of Google's; what fails never ends a training."""

import json
import logging
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from urllib.request import Request, urlopen

import pytest

from govor.errors import GovorError
from govor.finetune import upload
from govor.finetune.upload import Uploader

SECRET = "sentinel-secret"


@pytest.fixture(autouse=True)
def credentials(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", SECRET)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(workspace))
    monkeypatch.setattr(upload, "_PAUSES_SECONDS", (0.01, 0.01))


class S3:
    """A server with one bucket, which lasts as long as this process."""

    def __init__(self) -> None:
        moto = pytest.importorskip(
            "moto.server", reason="moto is not installed (pip install 'moto[s3]' flask flask-cors)"
        )
        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        self._port, self._make = 0, moto.ThreadedMotoServer
        self.start()
        urlopen(Request(f"{self.url}/moto-api/reset", method="POST"))
        urlopen(Request(f"{self.url}/bucket", method="PUT"))

    def start(self) -> None:
        """The first time on a free port, then on the same one."""
        self._moto = self._make("127.0.0.1", self._port, verbose=False)
        self._moto.start()
        host, self._port = self._moto.get_host_and_port()
        self.url, self._up = f"http://{host}:{self._port}", True

    def stop(self) -> None:
        if self._up:
            self._moto.stop()
            self._moto._server.server_close()
            self._up = False

    def listed(self) -> list[str]:
        listing = urlopen(f"{self.url}/bucket?list-type=2").read().decode()
        return [key for key in re.findall(r"<Key>(.*?)</Key>", listing) if not key.endswith("/")]

    def get(self, key: str) -> bytes:
        return bytes(urlopen(f"{self.url}/bucket/{key}").read())


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[S3]:
    server = S3()
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
    yield server
    server.stop()


def checkpoint(step: int, megabytes: int = 0) -> Path:
    folder = Path("checkpoints") / f"step-{step:06d}"
    (folder / "adapter").mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(bytes(range(256)) * (4096 * megabytes + step))
    (folder / "adapter" / "adapter_config.json").write_text("{}")
    (folder / "state.json").write_text(json.dumps({"step": step}))
    return folder


def names(step: int, prefix: str = "runs/toy/") -> list[str]:
    folder = f"{prefix}step-{step:06d}"
    return [f"{folder}/{name}" for name in ("adapter/adapter_config.json", "model.safetensors", "state.json")]


def test_a_checkpoint_arrives_byte_for_byte(s3: S3) -> None:
    notes: list[str] = []
    uploader = Uploader("s3://bucket/runs/toy/", notes.append)
    uploader.check()
    assert s3.listed() == []
    folders = {step: checkpoint(step, megabytes) for step, megabytes in ((10, 0), (20, 23))}
    for folder in folders.values():
        uploader.upload(folder)
    uploader.close()
    uploader.close()
    assert s3.listed() == names(10) + names(20) and not notes
    for step, folder in folders.items():
        for key, file in zip(
            names(step), ("adapter/adapter_config.json", "model.safetensors", "state.json"), strict=True
        ):
            assert s3.get(key) == (folder / file).read_bytes()


def test_the_file_that_makes_a_checkpoint_whole_comes_last(s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    copied: list[str] = []
    copy = shutil.copyfileobj

    def watched(source: Any, target: Any, size: int) -> None:
        copied.append(Path(source.name).name)
        assert not any(key.endswith("state.json") for key in s3.listed())
        copy(source, target, size)

    uploader = Uploader("s3://bucket", print)
    folder = checkpoint(10)
    uploader._copy(folder)
    monkeypatch.setattr(shutil, "copyfileobj", watched)
    uploader._copy(folder)  # nor is an older copy taken for whole while it is replaced
    assert copied == ["adapter_config.json", "model.safetensors", "state.json"]
    assert s3.listed() == names(10, "")


def test_training_does_not_wait(s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    free, copy = threading.Event(), Uploader._copy

    def slow(self: Uploader, folder: Path) -> None:
        assert free.wait(30)
        copy(self, folder)

    monkeypatch.setattr(Uploader, "_copy", slow)
    uploader = Uploader("s3://bucket/runs/toy", print)
    uploader.upload(checkpoint(10))
    pruned = checkpoint(20)
    uploader.upload(pruned)
    shutil.rmtree(pruned)
    assert s3.listed() == []
    free.set()
    uploader.close()
    assert s3.listed() == names(10)  # one that was deleted before its turn is left out


def test_a_server_that_goes_away_is_noted_once_and_gets_everything_when_it_is_back(s3: S3) -> None:
    notes: list[str] = []
    noted = threading.Event()
    uploader = Uploader("s3://bucket/runs/toy", lambda text: (notes.append(text), noted.set()))
    uploader.check()
    s3.stop()
    for step in (10, 20):
        uploader.upload(checkpoint(step))
    assert noted.wait(60)
    s3.start()
    uploader.close()
    assert s3.listed() == names(10) + names(20)
    assert notes == [
        "step-000010 could not be uploaded to s3://bucket/runs/toy: the server does not answer; training goes on, "
        "and it is tried again with the next checkpoint"
    ]


def test_a_server_that_stays_away_leaves_the_checkpoints_where_they_are(
    s3: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upload, "_PAUSES_SECONDS", ())
    notes: list[str] = []
    uploader = Uploader("s3://bucket/runs/toy", notes.append)
    uploader.check()
    s3.stop()
    uploader.upload(checkpoint(10))
    uploader.close()
    assert len(notes) == 2 and SECRET not in "".join(notes)
    assert notes[1] == "not uploaded to s3://bucket/runs/toy: step-000010; they are whole in checkpoints"
    with pytest.raises(GovorError, match="cannot be uploaded to s3://bucket/other: the server does not answer"):
        Uploader("s3://bucket/other", print).check()


@pytest.mark.parametrize("address", ["bucket/x", "http://bucket/x", "s3:///x"])
def test_an_address_of_another_form_is_refused(address: str) -> None:
    with pytest.raises(GovorError, match=f"'{address}' is no upload address; s3://bucket/prefix or gs://bucket/prefix"):
        Uploader(address, print)


def test_a_wrong_bucket_is_refused_before_training(s3: S3) -> None:
    with pytest.raises(GovorError, match="cannot be uploaded to s3://no-such-bucket/x: the bucket does not exist"):
        Uploader("s3://no-such-bucket/x", print).check()


def test_credentials_in_an_address_are_refused_and_not_shown() -> None:
    with pytest.raises(GovorError, match="holds '@'") as caught:
        Uploader(f"s3://id:{SECRET}@bucket/x", print)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ("AWS Error ACCESS_DENIED during PutObject operation: " + SECRET, "the server refuses (ACCESS_DENIED)"),
        ("AWS Error UNKNOWN (HTTP status 400) during X", "the server refuses (UNKNOWN (HTTP status 400))"),
        ("When resolving region: Bucket 'x' not found", "the bucket does not exist"),
        ("google::cloud::Status(PERMISSION_DENIED: " + SECRET, "the server refuses (PERMISSION_DENIED)"),
        (SECRET, "OSError"),
    ],
)
def test_a_reason_is_the_servers_code_and_never_its_message(message: str, reason: str) -> None:
    found = upload._reason(OSError(message))
    assert found.startswith(reason) and SECRET not in found


class Google(BaseHTTPRequestHandler):
    """The part of Google's storage protocol that writing and deleting objects uses; one bucket."""

    protocol_version = "HTTP/1.1"
    objects: dict[str, bytes]

    def answer(self, status: int, body: object = None, **headers: str) -> None:
        data = json.dumps(body).encode() if body is not None else b""
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def handle_request(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        url = urlsplit(self.path)
        name = parse_qs(url.query).get("name", [unquote(url.path.partition("/o/")[2])])[0]
        if "/b/bucket/" not in url.path or not self.headers["Authorization"]:
            self.answer(404)
        elif self.command == "POST":
            self.objects[name] = b""
            self.answer(200, Location=f"http://{self.headers['Host']}{url.path}?upload_id=1&name={name}")
        elif self.command == "PUT":
            self.objects[name] += body
            whole = not self.headers["Content-Range"].endswith("*")
            known = {"Range": f"bytes=0-{len(self.objects[name]) - 1}"}
            self.answer(200 if whole else 308, self.described(name) if whole else None, **known)
        elif name not in self.objects:
            self.answer(404)
        elif self.command == "DELETE":
            del self.objects[name]
            self.answer(204)
        else:
            self.answer(200, self.described(name))

    def described(self, name: str) -> dict[str, str]:
        return {"name": name, "bucket": "bucket", "size": str(len(self.objects[name])), "kind": "storage#object"}

    do_GET = do_POST = do_PUT = do_DELETE = handle_request

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture
def google(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, bytes]]:
    rsa = pytest.importorskip("cryptography.hazmat.primitives.asymmetric.rsa", reason="comes with moto")
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    key = rsa.generate_private_key(65_537, 2048).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    account = {"type": "service_account", "private_key_id": "1", "client_email": "a@b.c", "private_key": key.decode()}
    (workspace / "account.json").write_text(json.dumps({**account, "token_uri": "https://oauth2.googleapis.com/token"}))
    handler: Callable[..., Any] = type("Handler", (Google,), {"objects": {}})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(workspace / "account.json"))
    monkeypatch.setenv("CLOUD_STORAGE_EMULATOR_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    yield handler.objects  # type: ignore[attr-defined]
    server.shutdown()
    server.server_close()


def test_google_cloud_storage_takes_a_checkpoint(google: dict[str, bytes]) -> None:
    notes: list[str] = []
    uploader = Uploader("gs://bucket/runs/toy", notes.append)
    uploader.check()
    assert not google
    folder = checkpoint(10, megabytes=11)
    uploader.upload(folder)
    uploader.close()
    assert not notes and sorted(google) == names(10)
    assert google[names(10)[1]] == (folder / "model.safetensors").read_bytes()
    with pytest.raises(GovorError, match="gs://other/x: the bucket does not exist"):
        Uploader("gs://other/x", print).check()
