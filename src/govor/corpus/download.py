"""One recording from the web: a direct link, what yt-dlp knows, or a team's own downloader."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import unquote, urljoin, urlsplit
from urllib.request import Request

from govor.audio import AUDIO_SUFFIXES, probe
from govor.corpus.provenance import Provenance, item_file
from govor.corpus.public_http import check_url, opener
from govor.errors import AudioError, GovorError
from govor.files import sha256_of
from govor.jsons import parse_json, write_json

Notify = Callable[[str], None]

TOKEN_VARIABLE = "GOVOR_DOWNLOADER_TOKEN"
_CHUNK = 1 << 18
_ATTEMPTS = 4
_AGENT = "govor (speech corpus builder)"
_TYPES = {
    "audio/mpeg": ".mp3",
    "audio/mp3": ".mp3",
    "audio/wav": ".wav",
    "audio/x-wav": ".wav",
    "audio/wave": ".wav",
    "audio/flac": ".flac",
    "audio/x-flac": ".flac",
    "audio/ogg": ".ogg",
    "application/ogg": ".ogg",
    "audio/opus": ".opus",
    "audio/mp4": ".m4a",
    "audio/x-m4a": ".m4a",
    "audio/aac": ".aac",
    "audio/webm": ".webm",
    "video/webm": ".webm",
    "video/mp4": ".mp4",
}
_JS_RUNTIMES = ("deno", "node", "bun", "qjs")
_NEEDS_JS = re.compile(r"(^|\.)(youtube\.com|youtu\.be|youtube-nocookie\.com)$")


class HarvestError(GovorError):
    """One item could not be had; `rule` files it."""

    def __init__(self, rule: str, message: str) -> None:
        super().__init__(message)
        self.rule = rule


class _JsonAnswer(Exception):
    """A downloader's answer that is not the audio itself."""

    def __init__(self, value: Any) -> None:
        super().__init__()
        self.value = value


@dataclass(frozen=True, slots=True)
class Item:
    """Something to fetch, and what is stated of it."""

    url: str
    stated: Provenance = field(default_factory=Provenance)


@dataclass(frozen=True, slots=True)
class Options:
    """How to fetch."""

    folder: Path
    allow_private: bool = False
    downloader: str | None = None
    max_bytes: int = 4_000_000_000
    with_ytdlp: bool = True


def fetch(item: Item, link: str, options: Options, notify: Notify) -> Path:
    """Fetch one item with its provenance beside it; returns the recording.

    Raises:
        HarvestError: it could not be had; its rule says why.
    """
    options.folder.mkdir(parents=True, exist_ok=True)
    if options.downloader:
        path, facts = _through_downloader(item, options)
    else:
        try:
            path, facts = (
                _download(Request(link), link, options, options.allow_private),
                {"fetched_by": "direct"},
            )
        except HarvestError as error:
            if error.rule != "not_audio" or not options.with_ytdlp or _looks_direct(item.url):
                raise
            path, facts = _through_ytdlp(item, options, notify)
    if url_key(item.url) not in path.name:  # the address was written in ASCII to fetch it
        path = path.replace(path.with_name(_name(item.url, path.suffix)))
    try:
        probe(path)
    except AudioError as error:
        path.unlink()
        raise HarvestError("not_audio", f"{item.url} is no audio that can be read: {error}") from None
    provenance = Provenance(
        source_url=item.url, fetched_at=datetime.now(UTC).isoformat(timespec="seconds"), sha256=sha256_of(path), **facts
    )
    write_json(item_file(path), item.stated.over(provenance).model_dump(exclude_none=True))
    return path


def _looks_direct(url: str) -> bool:
    return Path(unquote(urlsplit(url).path)).suffix.lower() in AUDIO_SUFFIXES


def url_key(url: str) -> str:
    """What names an address in file names."""
    return hashlib.sha256(url.encode("utf-8", "surrogatepass")).hexdigest()[:12]


def _name(url: str, suffix: str) -> str:
    """A file name that says what it is and can leave no folder."""
    stem = Path(unquote(urlsplit(url).path)).stem or urlsplit(url).hostname or "item"
    safe = re.sub(r"[^\w-]+", "_", stem).strip("_")[:60] or "item"
    return f"{safe}-{url_key(url)}{suffix}"


def _download(request: Request, url: str, options: Options, allow_private: bool | frozenset[str]) -> Path:
    """GET (or the request as it is) with resume, retries and a limit on bytes; returns the file."""
    partial = options.folder / f".{url_key(url)}.part"
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            return _attempt(request, url, partial, options, allow_private)
        except HTTPError as error:
            if error.code == 416:
                partial.unlink(missing_ok=True)
            elif error.code not in (408, 425, 429) and error.code < 500:
                raise HarvestError("http_error", f"{url} answers {error.code} {error.reason}.") from None
            reason = f"{error.code} {error.reason}"
        except ValueError as error:  # a redirect to what is no address, or JSON that is none
            raise HarvestError("bad_answer", f"{url}: the answer makes no sense ({str(error)[:100]}).") from None
        except (URLError, OSError, HTTPException) as error:
            reason = str(getattr(error, "reason", None) or error) or type(error).__name__
            if isinstance(getattr(error, "reason", None), GovorError):
                raise HarvestError("refused", reason) from None
        if attempt < _ATTEMPTS:
            time.sleep(min(0.25 * 4**attempt, 10))
    raise HarvestError("unreachable", f"{url} cannot be fetched after {_ATTEMPTS} attempts: {reason}.")


def _attempt(request: Request, url: str, partial: Path, options: Options, allow_private: bool | frozenset[str]) -> Path:
    tag = partial.with_suffix(".etag")
    have = partial.stat().st_size if partial.exists() and tag.exists() else 0
    request.add_header("User-Agent", _AGENT)
    request.remove_header("Range")
    request.remove_header("If-range")
    if have:
        request.add_header("Range", f"bytes={have}-")
        request.add_header("If-range", tag.read_text(encoding="utf-8"))
    with opener(allow_private).open(request, timeout=60) as response:
        kind = (response.headers.get_content_type() or "").lower()
        suffix = Path(unquote(urlsplit(url).path)).suffix.lower()
        if suffix not in AUDIO_SUFFIXES:
            suffix = _TYPES.get(kind, "")
        if kind == "application/json" and request.data is not None:
            raise _JsonAnswer(_json_of(response.read(1_000_000)))
        if kind.startswith("text/") or kind in ("application/json", "application/xhtml+xml") or not suffix:
            raise HarvestError("not_audio", f"{url} is {kind or 'of no stated type'}, no audio file.")
        goes_on = have and response.status == 206
        expected = _expected(response, have if goes_on else 0)
        if expected and expected > options.max_bytes:
            raise HarvestError("too_large", f"{url} has {expected} bytes, more than the limit of {options.max_bytes}.")
        mark = response.headers.get("ETag") or response.headers.get("Last-Modified")
        if mark and not mark.startswith("W/"):
            tag.write_text(mark, encoding="utf-8")
        else:
            tag.unlink(missing_ok=True)
        written = have if goes_on else 0
        with partial.open("ab" if goes_on else "wb") as handle:
            while chunk := response.read(_CHUNK):
                written += len(chunk)
                if written > options.max_bytes:
                    raise HarvestError("too_large", f"{url} is larger than the limit of {options.max_bytes} bytes.")
                handle.write(chunk)
    if expected and written < expected:
        raise OSError(f"the transfer ended after {written} of {expected} bytes")
    target = options.folder / _name(url, suffix)
    partial.replace(target)
    tag.unlink(missing_ok=True)
    return target


def _json_of(answer: bytes) -> Any:
    try:
        return parse_json(answer.decode("utf-8"), "no valid JSON")
    except GovorError as error:
        raise ValueError(str(error)) from None


def _expected(response: HTTPResponse, have: int) -> int | None:
    length = response.headers.get("Content-Length")
    return have + int(length) if length and length.isdigit() else None


def _through_downloader(item: Item, options: Options) -> tuple[Path, dict[str, str]]:
    """POST {"url"} to the team's endpoint. It answers with the audio, or with JSON that says where the audio is and what
    is known of it: {"url", "license", "title", "speaker", "language"}."""
    endpoint = check_url(str(options.downloader))
    host = str(urlsplit(endpoint).hostname)
    trusted: bool | frozenset[str] = True if options.allow_private else frozenset({host})

    def ask() -> Request:
        request = Request(endpoint, data=json.dumps({"url": item.url}).encode(), method="POST")
        request.add_header("Content-Type", "application/json")
        token = os.environ.get(TOKEN_VARIABLE)
        if token:
            request.add_unredirected_header("Authorization", f"Bearer {token}")
        return request

    facts = {"fetched_by": endpoint}
    try:
        return _download(ask(), item.url, options, trusted), facts
    except _JsonAnswer as named:
        answer = named.value
    where = answer.get("url") or answer.get("download_url") if isinstance(answer, dict) else None
    if not where:
        raise HarvestError("no_audio", f"The downloader names no audio for {item.url}.")
    facts |= {k: str(answer[k]) for k in ("license", "title", "speaker", "language") if answer.get(k)}
    try:
        link = check_url(urljoin(endpoint, str(where)))
    except ValueError:
        raise HarvestError(
            "bad_answer", f"The downloader names '{str(where)[:100]}' for {item.url}, no address."
        ) from None
    file = _download(Request(link), link, options, trusted)
    return file.replace(file.with_name(_name(item.url, file.suffix))), facts


def _through_ytdlp(item: Item, options: Options, notify: Notify) -> tuple[Path, dict[str, str]]:
    """Any site that yt-dlp knows, in a process of its own in which only public addresses can be connected to."""
    host = str(urlsplit(item.url).hostname)
    if _NEEDS_JS.search(host) and not _js_runtime():
        notify(f"{host} needs a JavaScript runtime for yt-dlp, and none of {', '.join(_JS_RUNTIMES)} is installed")
    order = {
        "url": item.url,
        "folder": str(options.folder.resolve()),
        "name": _name(item.url, ""),
        "allow_private": options.allow_private,
        "max_bytes": options.max_bytes,
    }
    done = subprocess.run(
        [sys.executable, "-m", "govor.corpus.ytdlp"],
        input=json.dumps(order),
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        answer = parse_json(done.stdout.splitlines()[-1], "no answer")
        if not isinstance(answer, dict) or not {"error", "path"} & answer.keys():
            raise ValueError("no answer")
    except (IndexError, ValueError, GovorError):
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise HarvestError("ytdlp_failed", f"yt-dlp ended without a result for {item.url}: {last[:300]}") from None
    if "error" in answer:
        hint = ""
        if _NEEDS_JS.search(host) and not _js_runtime():
            hint = f" It needs a JavaScript runtime: install one of {', '.join(_JS_RUNTIMES)} (deno is the usual one)."
        raise HarvestError(answer.get("rule", "ytdlp_failed"), f"{item.url}: {answer['error']}{hint}")
    facts = {key: str(answer[key]) for key in ("license", "title") if answer.get(key)}
    return Path(answer["path"]), {**facts, "fetched_by": f"yt-dlp {answer.get('version', '')}".strip()}


def _js_runtime() -> str | None:
    import shutil

    return next((name for name in _JS_RUNTIMES if shutil.which(name)), None)
