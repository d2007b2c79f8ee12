"""Score a server that speaks OpenAI's transcription protocol (OpenAI, vLLM, speaches, whisper.cpp, our own).

Every clip is one request. What may pass (busy, broken connection, time-out) is tried again with growing pauses; what will
not (wrong key, unknown model) ends the run at once.
"""

from __future__ import annotations

import io
import os
import random
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from urllib.parse import urlsplit

import httpx
import numpy as np
import soundfile

from govor.audio import SAMPLE_RATE, Samples
from govor.corpus.records import Clip
from govor.corpus.samples import clip_samples
from govor.errors import AudioError, GovorError

KEY_VARIABLES = ("GOVOR_SERVER_KEY", "OPENAI_API_KEY")
MAX_TRIES = 5
MAX_PAUSE_SECONDS = 60.0
_FIRST_PAUSE_SECONDS = 0.5
_PASSING = frozenset({408, 409, 425, 429, 500, 502, 503, 504})
_FATAL = frozenset({401, 403, 404, 405})


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of one clip: a text, or the reason why there is none; `latency_seconds` is that of the last try."""

    text: str | None
    reason: str | None
    latency_seconds: float
    tries: int
    samples: int = 0
    snr_db: float | None = None


class Server:
    """A transcription server.

    Args:
        url: the address with or without `/v1`.
        model: the name the server knows the model by.
        timeout_seconds: how long one request may take.
    """

    def __init__(self, url: str, model: str, timeout_seconds: float = 120.0) -> None:
        try:
            parts = urlsplit(url)
            _ = parts.port  # a port that is no number is noticed here alone
        except ValueError:
            raise GovorError(
                f"'{url}' is no address of a server; http://host:port or https://host was wanted."
            ) from None
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise GovorError(f"'{url}' is no address of a server; http://host:port or https://host was wanted.")
        if parts.username or parts.password:
            raise GovorError(
                f"The address of {parts.hostname} holds a password; set {KEY_VARIABLES[0]} and leave it out of the address."
            )
        path = parts.path.rstrip("/")
        self.url = f"{parts.scheme}://{parts.netloc}{path if path.endswith('/v1') else path + '/v1'}"
        self.model = model
        key = next((os.environ[name] for name in KEY_VARIABLES if os.environ.get(name)), None)
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        # Many requests at once need as many connections.
        limits = httpx.Limits(max_connections=256, max_keepalive_connections=256)
        self._client = httpx.Client(headers=headers, timeout=timeout_seconds, limits=limits)

    def close(self) -> None:
        """Drop the connections."""
        self._client.close()

    def models(self) -> list[str]:
        """The models that the server offers; empty where it does not say.

        Raises:
            GovorError: nobody answers at the address, or the key is wrong.
        """
        try:
            answer = self._client.get(f"{self.url}/models")
        except httpx.HTTPError as error:
            raise GovorError(f"Nobody answers at {self.url} ({_kind(error)}); is the server running?") from None
        if answer.status_code in (401, 403):
            raise GovorError(_refusal(self.url, answer))
        try:
            return [str(item["id"]) for item in answer.json()["data"]]
        except (ValueError, KeyError, TypeError):
            return []

    def transcribe(self, samples: Samples, language: str | None) -> Answer:
        """One clip, sent as 16-bit WAV.

        Raises:
            GovorError: the server will not answer any request of this kind (key, model, address).
        """
        content = _wav(samples)
        form = {"model": self.model, "response_format": "json", "temperature": "0"}
        if language:
            form["language"] = language
        reason = ""
        for attempt in range(1, MAX_TRIES + 1):
            began = time.perf_counter()
            pause = min(MAX_PAUSE_SECONDS, _FIRST_PAUSE_SECONDS * 2 ** (attempt - 1)) * (0.5 + random.random())
            try:
                answer = self._client.post(
                    f"{self.url}/audio/transcriptions", data=form, files={"file": ("clip.wav", content, "audio/wav")}
                )
            except httpx.HTTPError as error:
                reason = _kind(error)
            else:
                seconds = time.perf_counter() - began
                if answer.status_code == 200:
                    text = _text(answer)
                    failed = None if text is not None else "the answer holds no text"
                    return Answer(text, failed, seconds, attempt)
                reason = _refusal(self.url, answer)
                if answer.status_code in _FATAL:
                    raise GovorError(reason)
                if answer.status_code not in _PASSING:
                    return Answer(None, reason, seconds, attempt)
                pause = max(pause, _asked_pause(answer))
            if attempt < MAX_TRIES:
                time.sleep(min(pause, MAX_PAUSE_SECONDS))
        return Answer(None, f"{reason} ({MAX_TRIES} tries)", time.perf_counter() - began, MAX_TRIES)


def ask_all(
    server: Server,
    clips: Sequence[Clip],
    concurrency: int,
    language: str | None = None,
    on_done: Callable[[int], None] | None = None,
) -> Iterator[tuple[Clip, Answer]]:
    """Every clip with its answer, in order, `concurrency` requests at a time; only so many clips are held in memory."""
    from govor.corpus.validate import noise_of

    def ask(clip: Clip) -> tuple[Clip, Answer]:
        try:
            samples = clip_samples(clip)
        except AudioError as error:
            return clip, Answer(None, str(error), 0.0, 0)
        answer = server.transcribe(samples, language or clip.language)
        noise = noise_of(samples) if clip.snr_db is None else clip.snr_db
        return clip, Answer(answer.text, answer.reason, answer.latency_seconds, answer.tries, len(samples), noise)

    with ThreadPoolExecutor(concurrency) as pool:
        waiting = [pool.submit(ask, clip) for clip in clips[: 2 * concurrency]]
        later = iter(clips[2 * concurrency :])
        try:
            while waiting:
                yield waiting.pop(0).result()
                if on_done:
                    on_done(1)
                waiting += [pool.submit(ask, clip) for clip, _ in zip(later, range(1), strict=False)]
        finally:
            for one in waiting:
                one.cancel()


def latency_summary(seconds: Sequence[float]) -> dict[str, float] | None:
    """Percentiles of the latency."""
    if not seconds:
        return None
    values = np.percentile(np.asarray(seconds), (50, 90, 95, 99))
    return {
        f"p{share}_seconds": round(float(value), 4) for share, value in zip((50, 90, 95, 99), values, strict=True)
    } | {"mean_seconds": round(float(np.mean(seconds)), 4)}


def _wav(samples: Samples) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, SAMPLE_RATE, format="WAV", subtype="PCM_16")
    return buffer.getvalue()


def _text(answer: httpx.Response) -> str | None:
    try:
        text = answer.json()["text"]
    except (ValueError, KeyError, TypeError):
        return None
    return text if isinstance(text, str) else None


def _refusal(url: str, answer: httpx.Response) -> str:
    """The server's own words, cut short; never the request's headers."""
    try:
        content = answer.json()
        said = content.get("error", content.get("detail", content)) if isinstance(content, dict) else content
        said = said.get("message", said) if isinstance(said, dict) else said
    except ValueError:
        said = answer.text
    text = " ".join(str(said).split())[:200]
    return f"{url} answered {answer.status_code}" + (f": {text}" if text else "")


def _asked_pause(answer: httpx.Response) -> float:
    try:
        return max(0.0, float(answer.headers.get("retry-after", "0")))
    except ValueError:
        return 0.0


def _kind(error: Exception) -> str:
    if isinstance(error, httpx.TimeoutException):
        return "no answer in time"
    if isinstance(error, httpx.ConnectError):
        return "no connection"
    return type(error).__name__
