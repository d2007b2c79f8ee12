"""Readers of JSON with times, as recognisers and services write it.

`segments` (Whisper, whisperX, govor), `chunks` (transformers), `transcription` (whisper.cpp), `events` (YouTube's json3),
`utterances` or `channels` (Deepgram), `results` (AWS), or the bare list of segments.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from typing import Any

from govor.corpus.cues import BREATH_SECONDS, MAX_BREATH_SECONDS, Cue, bad
from govor.corpus.records import Row, Word
from govor.errors import AudioError


def from_json_text(text: str) -> list[Cue] | None:
    """Cues in order of time; None where the JSON is about something else.

    Raises:
        AudioError: it is no JSON, or a segment in it is none.
    """
    try:
        loaded = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise bad(f"not valid JSON: {str(error)[:100]}.") from None
    return cues_of(loaded)


def cues_of(loaded: object) -> list[Cue] | None:
    """Of a JSON value that is loaded."""
    if isinstance(loaded, list):
        spoken = any(isinstance(item, dict) and "start" in item for item in loaded)
        return _ordered(map(_segment, loaded)) if spoken else None
    if not isinstance(loaded, dict):
        return None
    for key, read in _READERS.items():
        if key in loaded:
            value = loaded[key]
            if key == "results" and not isinstance(value, dict):
                return None
            cues = read(value)
            return None if cues is None else _ordered(cues)
    return None


def _ordered(cues: Iterator[Cue] | list[Cue]) -> list[Cue]:
    """By time. A segment without times (nobody was heard to say it) goes with the one before, so that no word is lost."""
    placed: list[Cue] = []
    waiting: tuple[str, ...] = ()
    for cue in cues:
        if math.isnan(cue.start):
            if placed:
                last = placed[-1]
                placed[-1] = Cue(last.start, last.end, (*last.lines, *cue.lines), last.speaker, last.words)
            else:
                waiting += cue.lines
            continue
        placed.append(Cue(cue.start, cue.end, (*waiting, *cue.lines), cue.speaker, cue.words))
        waiting = ()
    if waiting:
        raise bad(f"{' '.join(waiting)[:60]!r} and nothing beside it has a time.")
    return sorted(placed, key=lambda cue: cue.start)


def _list(value: object, name: str) -> list[Any]:
    if not isinstance(value, list):
        raise bad(f"a list of {{start, end, text}} under '{name}' was wanted.")
    return value


def _segments(value: object) -> Iterator[Cue]:
    return map(_segment, _list(value, "segments"))


def _segment(item: object) -> Cue:
    if not isinstance(item, dict) or "start" not in item or not (_TEXTS & item.keys() or _is_wordless(item)):
        raise bad(f"{{start, end, text}} was wanted, found {str(item)[:80]}.")
    spoken = tuple(_words(item.get("words")))
    words = tuple({key: value for key, value in word.items() if key != "speaker"} for word in spoken)
    said = item.get("text", item.get("word"))
    text = " ".join(str(word["word"]) for word in words) if said is None and words else said_text(said)
    speaker = _speaker_of(item)
    if speaker is None and len(said_by := {word.get("speaker") for word in spoken}) == 1:
        speaker = said_by.pop()
    if item["start"] is None and item.get("end") is None:
        return Cue(math.nan, None, (text,) if text else (), speaker)
    start, end = _span(item["start"], item.get("end"))
    return Cue(start, end, (text,) if text else (), speaker, words)


_TEXTS = frozenset({"text", "words", "word"})


def _is_wordless(item: Word) -> bool:
    """Whether a stretch of time holds nothing that could be words under another name."""
    others = (value for key, value in item.items() if key not in ("id", "start", "speaker"))
    return "end" in item and not any(isinstance(value, str | list | dict) for value in others)


def said_text(value: object) -> str:
    """The words of a text value; null is no word.

    Raises:
        AudioError: a list, an object or a truth value.
    """
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise bad(f"the text of a segment was wanted, found {str(value)[:60]}.")
    return " ".join(str(value).split())


def _speaker(value: object) -> str | None:
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    return " ".join(str(value).split()) or None


def _speaker_of(item: Word) -> str | None:
    return next(filter(None, (_speaker(item.get(key)) for key in ("speaker", "speaker_id", "speaker_label"))), None)


def _words(value: object) -> Iterator[Row]:
    """Words with times; a word without stands in the text alone."""
    for item in value if isinstance(value, list) else ():
        if not isinstance(item, dict):
            continue
        said = next((item[key] for key in ("word", "punctuated_word", "text") if isinstance(item.get(key), str)), "")
        try:
            start, end = _span(item.get("start"), item.get("end"))
        except AudioError:
            continue
        if said.strip():
            row: Row = {
                "word": " ".join(said.split()),
                "start": start,
                **({} if end is None else {"end": end}),
            }
            sure = next((item[k] for k in ("confidence", "probability", "score") if k in item), None)
            if isinstance(sure, int | float) and not isinstance(sure, bool) and math.isfinite(sure):
                row["confidence"] = sure
            speaker = _speaker_of(item)
            if speaker is not None:
                row["speaker"] = speaker
            yield row


def _span(start: object, end: object) -> tuple[float, float | None]:
    first, last = _number(start), None if end is None else _number(end)
    if not math.isfinite(first) or first < 0 or (last is not None and not first <= last < math.inf):
        raise bad(f"a segment from {start} to {end} s is no stretch of time.")
    return first, last


def _number(value: object) -> float:
    if isinstance(value, int | float | str) and not isinstance(value, bool):
        try:
            return float(value)
        except (ValueError, OverflowError):
            pass
    raise bad(f"a number of seconds was wanted, found {str(value)[:40]}.")


def _chunks(value: object) -> Iterator[Cue]:
    for item in _list(value, "chunks"):
        times = item.get("timestamp") if isinstance(item, dict) else None
        if not isinstance(times, list) or len(times) != 2:
            raise bad(f"{{timestamp: [start, end], text}} was wanted, found {str(item)[:80]}.")
        yield _segment({**item, "start": times[0], "end": times[1]})


def _whisper_cpp(value: object) -> Iterator[Cue] | None:
    if not isinstance(value, list):
        return None  # a plain text under that name has no times
    return (_from_milliseconds(item) for item in value)


def _from_milliseconds(item: object) -> Cue:
    offsets = item.get("offsets") if isinstance(item, dict) else None
    if not isinstance(item, dict) or not isinstance(offsets, dict):
        raise bad(f"{{offsets: {{from, to}}, text}} was wanted, found {str(item)[:80]}.")
    times = {"start": _number(offsets.get("from")) / 1000, "end": _number(offsets.get("to")) / 1000}
    return _segment({"text": item.get("text"), **times})


def _json3(value: object) -> Iterator[Cue] | None:
    """YouTube's captions: an event ends where the next one with words begins, if that is earlier than it says."""
    if not isinstance(value, list) or not any(isinstance(event, dict) and "tStartMs" in event for event in value):
        return None
    return _captions(value)


def _captions(value: object) -> Iterator[Cue]:
    timed_events: list[tuple[float, float, str, list[tuple[float, str]]]] = []
    for event in _list(value, "events"):
        if not isinstance(event, dict):
            raise bad(f"{{tStartMs, dDurationMs, segs}} was wanted, found {str(event)[:80]}.")
        pieces = [piece for piece in event.get("segs") or () if isinstance(piece, dict)]
        text = said_text("".join(str(piece.get("utf8") or "") for piece in pieces))
        if not text:
            continue
        start = _number(event.get("tStartMs")) / 1000
        words = [
            (start + _number(piece.get("tOffsetMs", 0)) / 1000, said_text(str(piece.get("utf8") or "")))
            for piece in pieces
        ]
        timed_events.append((start, start + _number(event.get("dDurationMs", 0)) / 1000, text, words))
    timed_events.sort(key=lambda item: item[0])
    for place, (start, end, text, words) in enumerate(timed_events):
        after = timed_events[place + 1][0] if place + 1 < len(timed_events) else end
        stop = min(end, after) if after > start else end
        _span(start, stop)
        ends = [*(at for at, _ in words[1:]), stop]
        timed = len(words) > 1
        rows = ({"word": w, "start": at, "end": max(at, e)} for (at, w), e in zip(words, ends, strict=True) if w)
        yield Cue(start, stop, (text,), None, tuple(rows) if timed else ())


def _deepgram(value: object) -> Iterator[Cue]:
    for item in _list(value, "utterances"):
        if not isinstance(item, dict):
            raise bad(f"{{start, end, transcript}} was wanted, found {str(item)[:80]}.")
        yield _segment({**item, "text": item.get("transcript", item.get("text")), "start": item.get("start")})


def _results(value: Row) -> Iterator[Cue] | list[Cue] | None:
    if isinstance(value.get("utterances"), list):
        return _deepgram(value["utterances"])
    if isinstance(value.get("channels"), list):
        channels = value["channels"]
        if len(channels) != 1:
            raise bad(f"{len(channels)} channels without utterances; transcribe each channel as a file of its own.")
        best = _first(channels[0].get("alternatives") if isinstance(channels[0], dict) else None)
        return None if best is None else _by_breath(_words(best.get("words")))
    if isinstance(value.get("audio_segments"), list):
        return (
            _segment(
                {
                    "start": item.get("start_time"),
                    "end": item.get("end_time"),
                    "text": item.get("transcript"),
                    "speaker": item.get("speaker_label"),
                }
            )
            for item in value["audio_segments"]
            if isinstance(item, dict)
        )
    if isinstance(value.get("items"), list):
        return _by_breath(_aws_words(value["items"]))
    return None


def _first(value: object) -> Row | None:
    return value[0] if isinstance(value, list) and value and isinstance(value[0], dict) else None


def _aws_words(items: list[Any]) -> Iterator[Word]:
    word: Row | None = None
    for item in items:
        best = _first(item.get("alternatives")) if isinstance(item, dict) else None
        if best is None or not isinstance(best.get("content"), str):
            raise bad(f"an item with alternatives was wanted, found {str(item)[:80]}.")
        if item.get("type") == "punctuation":
            if word is not None:
                word["word"] += best["content"]
            continue
        if word is not None:
            yield word
        start, end = _span(item.get("start_time"), item.get("end_time"))
        word = {"word": best["content"], "start": start, "end": start if end is None else end}
        word["speaker"] = _speaker(item.get("speaker_label"))
    if word is not None:
        yield word


def _by_breath(words: Iterator[Word] | Iterator[Row]) -> Iterator[Cue]:
    breath: list[Word] = []
    for word in words:
        end = word.get("end", word["start"])
        if breath:
            last = breath[-1]
            apart = word["start"] - last.get("end", last["start"]) > BREATH_SECONDS
            if apart or end - breath[0]["start"] > MAX_BREATH_SECONDS or word.get("speaker") != last.get("speaker"):
                yield _breath(breath)
                breath = []
        breath.append(word)
    if breath:
        yield _breath(breath)


def _breath(words: list[Word]) -> Cue:
    text = " ".join(str(word["word"]) for word in words)
    rows = tuple({key: value for key, value in word.items() if key != "speaker"} for word in words)
    end = words[-1].get("end", words[-1]["start"])
    return Cue(words[0]["start"], end, (text,), words[0].get("speaker"), rows)


_READERS: dict[str, Callable[[Any], Iterator[Cue] | list[Cue] | None]] = {
    "segments": _segments,
    "chunks": _chunks,
    "transcription": _whisper_cpp,
    "events": _json3,
    "utterances": _deepgram,
    "results": _results,
}
