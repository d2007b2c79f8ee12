"""A lhotse cut as a row. What lhotse would do to the sound when it loads the cut cannot be done here, so such a cut is
turned away with its reason rather than read as if nothing were done."""

from __future__ import annotations

from govor.corpus.formats.rows import EXTRA_KEY, INTERPRETED, OWN
from govor.corpus.records import Row
from govor.errors import AudioError

_CUTS = ("MonoCut", "MultiCut", "MixedCut", "PaddingCut")
_KNOWN = frozenset({"id", "start", "duration", "channel", "supervisions", "recording", "custom", "type"})
_KNOWN_OF_SUPERVISIONS = frozenset(
    {"id", "recording_id", "start", "duration", "channel", "text", "language", "speaker", "custom"}
)
# Rounding to samples and to milliseconds; what sticks out further is said outside of the cut.
_TOLERANCE_SECONDS = 0.05


def is_cut(row: Row) -> bool:
    """Whether a row is a lhotse cut."""
    return row.get("type") in _CUTS or "supervisions" in row or ("recording" in row and "start" in row)


def from_cut(cut: Row) -> Row:
    """A cut's recording, start and duration; supervisions as segments unless one fills the cut. A cut that cannot be used
    has an AudioError under `error`."""
    try:
        return _row(cut)
    except AudioError as error:
        return {**cut, "error": error}
    except (AttributeError, IndexError, KeyError, TypeError, ValueError, OverflowError):
        return {**cut, "error": AudioError("malformed_row", "it looks like a lhotse cut and is none.")}


def _row(cut: Row) -> Row:
    recording = _recording_of(cut)
    length = float(cut["duration"])
    supervisions = sorted(cut.get("supervisions") or [], key=lambda item: float(item.get("start", 0.0)))
    for said in supervisions:
        _check_inside(said, length)
    first = supervisions[0] if supervisions else {}
    custom = {**(cut.get("custom") or {})}
    if len(supervisions) == 1:
        custom |= first.get("custom") or {}
    timed = custom.pop("timed", False) is True
    speakers = {said.get("speaker") for said in supervisions}
    transcript = custom.pop("transcript", None) if timed else None
    row: Row = {
        "id": cut.get("id"),
        "audio": recording["sources"][0]["source"],
        "duration": length,
        "transcript": transcript or " ".join(_text(said) for said in supervisions).strip() or None,
        "language": first.get("language"),
        "speaker": custom.pop("speaker", None) if timed else first.get("speaker") if len(speakers) == 1 else None,
    }
    whole = abs(float(recording.get("duration", 0)) - length) < 0.01 and not cut.get("start")
    if not whole:
        row["offset"] = cut.get("start", 0.0)
    if timed or len(supervisions) > 1 or (supervisions and not _fills(first, length)):
        row["segments"] = [
            {
                "start": max(float(said["start"]), 0.0),
                "end": min(_end(said), length),
                "text": _text(said),
                "speaker": said.get("speaker") if said.get("speaker") != row["speaker"] else None,
            }
            for said in supervisions
        ]
    row = {key: value for key, value in row.items() if value is not None}
    rest = {key: value for key, value in cut.items() if key not in _KNOWN}
    known = _KNOWN_OF_SUPERVISIONS - (set() if len(supervisions) == 1 else {"custom"})
    if any(value for said in supervisions for key, value in said.items() if key not in known):
        rest["lhotse_supervisions"] = supervisions
    unknown = {**rest, **custom}
    named_alike = {key: unknown.pop(key) for key in list(unknown) if key in row}
    apart = {key: value for key, value in unknown.items() if key in OWN or key in INTERPRETED}
    beside = {key: value for key, value in unknown.items() if key not in apart}
    if named_alike:
        beside["lhotse_custom"] = named_alike
    return {**row, **beside, **({EXTRA_KEY: apart} if apart else {})}


def _recording_of(cut: Row) -> Row:
    kind = cut.get("type")
    if kind == "MixedCut" or "tracks" in cut:
        raise AudioError(
            "mixed_cut", "a MixedCut lays recordings over one another; write it as a file first (save_audio)."
        )
    if kind == "PaddingCut":
        raise AudioError("mixed_cut", "a PaddingCut holds silence and no recording.")
    recording = cut.get("recording")
    if not recording:
        raise AudioError("unreadable", "the cut has no recording: features alone cannot be turned back into sound.")
    sources = recording.get("sources") or []
    if len(sources) != 1 or sources[0].get("type") != "file":
        kinds = ", ".join(str(source.get("type")) for source in sources) or "nothing"
        raise AudioError("unreadable", f"a recording in one file was wanted, found {kinds}; write it as a file first.")
    changes = recording.get("transforms") or cut.get("transforms")
    if changes:
        names = ", ".join(str(item.get("name", item)) if isinstance(item, dict) else str(item) for item in changes)
        message = (
            f"lhotse changes the sound when it loads it ({names[:100]}); write the cut as a file first (save_audio)."
        )
        raise AudioError("transforms", message)
    channels = recording.get("channel_ids") or sources[0].get("channels") or [0]
    wanted = cut.get("channel", 0)
    if len(channels) > 1 and sorted(wanted if isinstance(wanted, list) else [wanted]) != sorted(channels):
        message = f"the cut is channel {wanted} of {len(channels)}; write each channel as a file first."
        raise AudioError("one_channel", message)
    return dict(recording)


def _check_inside(said: Row, length: float) -> None:
    start, end = float(said["start"]), _end(said)
    if start < -_TOLERANCE_SECONDS or end > length + _TOLERANCE_SECONDS:
        message = f"the words of {start:g}…{end:g} s lie outside of their cut of {length:g} s; nobody can say which are in it."
        raise AudioError("outside_cut", message)


def _fills(said: Row, length: float) -> bool:
    return abs(float(said["start"])) < _TOLERANCE_SECONDS and abs(_end(said) - length) < _TOLERANCE_SECONDS


def _end(said: Row) -> float:
    return round(float(said["start"]) + float(said["duration"]), 6)


def _text(said: Row) -> str:
    text = said.get("text")
    if text is not None and not isinstance(text, str):
        raise AudioError("malformed_row", f"the text of a supervision must be text, found {type(text).__name__}.")
    return text or ""
