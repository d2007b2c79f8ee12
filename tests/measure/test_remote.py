"""Scoring a server: over a real socket, with the protocol that the official client speaks."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.parser import BytesParser
from email.policy import HTTP
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pytest
import soundfile

from conftest import make_split
from govor.errors import GovorError
from govor.measure.remote import MAX_TRIES, Server, latency_summary

Govor = Callable[..., Any]


class Told(BaseHTTPRequestHandler):
    """`POST /v1/audio/transcriptions` and `GET /v1/models`; says how long the audio is, or fails as it was told to."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.reply(200, {"object": "list", "data": [{"id": "whisper-1", "object": "model"}]})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        head = f"Content-Type: {self.headers['content-type']}\r\n\r\n".encode()
        form = {
            part.get_param("name", header="content-disposition"): part.get_payload(decode=True)
            for part in BytesParser(policy=HTTP).parsebytes(head + body).iter_parts()
        }
        server: Any = self.server
        with server.lock:
            server.seen.append({"form": form, "key": self.headers.get("authorization"), "path": self.path})
            status = server.failures.pop(0) if server.failures else 200
        if status != 200:
            self.reply(
                status, {"error": {"message": "the server is told to fail", "type": "x", "param": None, "code": None}}
            )
            return
        seconds = soundfile.info(io.BytesIO(form["file"])).duration
        self.reply(200, {"text": server.text(seconds, form["language"].decode() if "language" in form else None)})

    def reply(self, status: int, content: object) -> None:
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Retry-After", "0")
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None: ...


@contextmanager
def serving(failures: list[int] | None = None) -> Iterator[Any]:
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), Told)
    server.seen, server.failures, server.lock = [], failures or [], threading.Lock()
    server.text = lambda seconds, language: f"{language} {seconds:.2f}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    server.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("govor.measure.remote._FIRST_PAUSE_SECONDS", 0.01)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("GOVOR_SERVER_KEY", raising=False)


def test_the_server_is_one_that_the_official_client_accepts(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", [0.0] * 8000, 16_000)
    with serving() as server:
        client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="k")
        assert [model.id for model in client.models.list().data] == ["whisper-1"]
        answer = client.audio.transcriptions.create(
            model="whisper-1", file=(tmp_path / "a.wav").open("rb"), language="he"
        )
        assert answer.text == "he 0.50"
        theirs = server.seen[-1]["form"]
        found = Server(server.url, "whisper-1").transcribe(soundfile.read(tmp_path / "a.wav", dtype="float32")[0], "he")
        ours = server.seen[-1]["form"]
        assert found.text == "he 0.50" and found.tries == 1
        assert {"model", "language", "file"} <= set(ours) and set(theirs) <= set(ours)
        assert server.seen[-1]["path"] == server.seen[-2]["path"] == "/v1/audio/transcriptions"


def test_what_may_pass_is_tried_again_and_what_will_not_ends_it(tmp_path: Path) -> None:
    silence: Any = [0.0] * 1600

    samples = np.asarray(silence, dtype=np.float32)
    with serving([503, 429, 500]) as server:
        found = Server(server.url, "whisper-1").transcribe(samples, None)
        assert found.text == "None 0.10" and found.tries == 4
    with serving([500] * 9) as server:
        lost = Server(server.url, "whisper-1").transcribe(samples, None)
        assert lost.text is None and "the server is told to fail" in str(lost.reason) and lost.tries == MAX_TRIES
    with serving([413]) as server:
        assert Server(server.url, "whisper-1").transcribe(samples, None).tries == 1
    with serving([401]) as server, pytest.raises(GovorError, match="answered 401"):
        Server(server.url, "whisper-1").transcribe(samples, None)
    with pytest.raises(GovorError, match="Nobody answers"):
        Server("http://127.0.0.1:9", "x").models()
    for wrong in ("ftp://x", "localhost:8000", "http://user:secret@host"):
        with pytest.raises(GovorError) as error:
            Server(wrong, "x")
        assert "secret" not in str(error.value)


def test_a_server_is_scored_from_the_command_line(govor: Govor, workspace: Path) -> None:
    split = make_split(workspace)
    with serving([503, 422]) as server:
        done = govor(
            "evaluate", "whisper-1", "--server", server.url, "--manifest", split / "test.jsonl", "--concurrency", "3",
            "--json", expect=1, GOVOR_SERVER_KEY="very-secret",
        )  # fmt: skip
        (summary,) = json.loads(done.stdout)
        assert summary["clips"] == 4 and len(summary["failed"]) == 1 and summary["retried"] == 1
        assert summary["wer"] >= 1, "a clip without an answer counts as all wrong"
        assert {"p50_seconds", "p95_seconds", "p99_seconds"} <= set(summary["latency"]) and summary["real_time_factor"]
        assert {seen["key"] for seen in server.seen} == {"Bearer very-secret"}
        written = [path.read_text() for path in workspace.rglob("*") if path.suffix in (".json", ".jsonl")]
        assert "very-secret" not in done.stdout + done.stderr + "".join(written)
        asked = len(server.seen)
        again = govor(
            "evaluate", "whisper-1", "--server", server.url, "--manifest", split / "test.jsonl", "--concurrency", "3",
            "--resume", "--json",
        )  # fmt: skip
        assert len(server.seen) == asked + 1, "only the clip that got no answer is asked for again"
        assert json.loads(again.stdout)[0]["failed"] == []
        few = govor(
            "evaluate",
            "whisper-1",
            "--server",
            server.url,
            "--manifest",
            split / "test.jsonl",
            "--max-samples",
            "2",
            "--json",
        )
        assert json.loads(few.stdout)[0]["clips"] == 2
        refused = govor("evaluate", "whisper-2", "--server", server.url, "--manifest", split / "test.jsonl", expect=2)
        assert "offers no model 'whisper-2'" in refused.stderr


def test_percentiles_of_nothing_are_nothing() -> None:
    assert latency_summary([]) is None
    assert latency_summary([1.0])["p99_seconds"] == 1.0  # type: ignore[index]


@pytest.mark.parametrize("address", ["http://[::1", "http://localhost:abc", "http://"])
def test_an_address_that_is_none_is_one_sentence(address: str) -> None:
    with pytest.raises(GovorError, match="no address of a server"):
        Server(address, "x")
