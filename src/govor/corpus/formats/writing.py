"""Manifests in the layouts that others read. What they have no key for rides along and comes back."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO

import soundfile

from govor.audio import SAMPLE_RATE, probe, split_blob
from govor.corpus.formats.parquet import write_parquet
from govor.corpus.formats.rows import EXTRA_KEY, layout_row
from govor.corpus.manifests import row_writer, write_rows
from govor.corpus.preprocess import safe_name
from govor.corpus.provenance import Provenance, item_file
from govor.corpus.records import Clip, Row, Segment, segment_row
from govor.corpus.samples import clip_samples
from govor.corpus.transcripts import to_inline, to_lrc, to_srt
from govor.errors import AudioError
from govor.files import atomic_folder, write_text
from govor.jsons import to_json, write_json
from govor.languages import english_name
from govor.runs import Workspace

_MAGIC = (
    (b"RIFF", ".wav"),
    (b"fLaC", ".flac"),
    (b"OggS", ".ogg"),
    (b"ID3", ".mp3"),
    (b"\xff\xfb", ".mp3"),
    (b"\xff\xf3", ".mp3"),
    (b"\xff\xf2", ".mp3"),
)


Finish = Callable[[Clip], Clip]
Layout = Callable[[Iterable[Clip], Path, Finish], int]


def export(clips: Iterable[Clip], layout: str, target: Path, absolute: bool = False) -> int:
    """Write `clips` in `layout` (a key of FORMATS) to `target`, a file or folder; whole or not at all.

    With `absolute`, JSONL names audio by its full path, for tools that run elsewhere.
    """
    return FORMATS[layout](clips, target, _with_full_path if absolute else lambda clip: clip)


def _with_full_path(clip: Clip) -> Clip:
    path, span = split_blob(clip.file)
    return clip.replace(audio=f"{path.absolute()}{clip.file[len(str(path)) :] if span else ''}")


def is_lines(layout: str) -> bool:
    """Whether a layout is one file with a line for each clip."""
    return not is_folder(layout) and layout != "parquet"


def is_folder(layout: str) -> bool:
    """Whether a layout is a folder and not one file."""
    return layout in ("audiofolder", "commonvoice", "paired")


def to_nemo(clip: Clip) -> Row:
    """A clip in NeMo's field names; all other keys ride along."""
    return layout_row(clip, {"audio": "audio_filepath", "transcript": "text", "language": "lang"})


def to_qwen(clip: Clip) -> Row:
    """A clip as Qwen3-ASR's fine-tuning reads it: language prefix, plain text, previous transcript as the prompt."""
    row = layout_row(clip, {"transcript": "text", "prev_transcript": "prompt"})
    name = row.pop("qwen_language", None) or english_name(clip.language)
    if clip.transcribed:
        row["text"] = f"language {name}<asr_text>{clip.transcript}"
    row["prompt"] = clip.prev_transcript or ""
    return row


def to_cut(clip: Clip) -> Row:
    """A clip as a lhotse MonoCut with its recording; segments are supervisions."""
    info = probe(clip.file)
    samples = round(info.duration_seconds * info.sample_rate_hz)
    recording = {
        "id": clip.source or clip.id,
        "sources": [{"type": "file", "channels": list(range(info.channels)), "source": clip.audio}],
        "sampling_rate": info.sample_rate_hz,
        "num_samples": samples,
        "duration": samples / info.sample_rate_hz,
        "channel_ids": list(range(info.channels)),
    }
    known = ("id", "audio", "transcript", "duration", "language", "speaker", "segments", "offset")
    custom = {key: value for key, value in clip.to_row().items() if key not in known}
    spoken = clip.segments or (Segment(0.0, clip.duration, clip.transcript),)
    supervisions = [
        {
            "id": f"{clip.id}-{number}" if clip.segments else clip.id,
            "recording_id": recording["id"],
            "start": segment.start,
            "duration": round((clip.duration if segment.end is None else segment.end) - segment.start, 6),
            "channel": 0,
            "text": segment.text,
            "language": clip.language,
            "speaker": segment.speaker or clip.speaker,
        }
        for number, segment in enumerate(spoken)
    ]
    if clip.segments:
        custom |= {"timed": True, "transcript": clip.transcript, "speaker": clip.speaker}
    whole = clip.offset is None
    return {
        "id": clip.id,
        "start": clip.offset or 0.0,
        # lhotse checks a cut against its recording to the sample.
        "duration": recording["duration"] if whole else clip.duration,
        "channel": 0,
        "supervisions": supervisions,
        "recording": recording,
        "custom": custom,
        "type": "MonoCut",
    }


def audio_file(clip: Clip, folder: Path, name: str) -> str:
    """Put the clip's audio into `folder` as `name` plus its suffix; returns the file's name.

    Whole recordings are copied as they are; a part of one is written as 16-bit FLAC at 16 kHz.
    """
    path, span = split_blob(clip.file)
    if clip.offset is not None:
        file = folder / f"{name}.flac"
        file.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(file, clip_samples(clip), SAMPLE_RATE, subtype="PCM_16")
    elif span is None:
        file = folder / f"{name}{path.suffix}"
        file.parent.mkdir(parents=True, exist_ok=True)
        _copy(path, file, clip)
    else:
        data = encoded_bytes(clip)
        file = folder / f"{name}{suffix_of(data)}"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    return file.relative_to(folder).as_posix()


def _copy(path: Path, file: Path, clip: Clip) -> None:
    if not path.is_file():
        raise AudioError("missing", f"The audio of '{clip.id}', {path}, was not found, so it cannot be copied.")
    shutil.copyfile(path, file)


def encoded_bytes(clip: Clip) -> bytes:
    """The recording's bytes as they are encoded."""
    path, span = split_blob(clip.file)
    if not path.is_file():
        raise AudioError("missing", f"The audio of '{clip.id}', {path}, was not found, so it cannot be copied.")
    if span is None:
        return path.read_bytes()
    with path.open("rb") as handle:
        handle.seek(span[0])
        return handle.read(span[1])


def suffix_of(data: bytes) -> str:
    """The file suffix that the first bytes of encoded audio ask for."""
    if data[4:8] == b"ftyp":
        return ".m4a"
    return next((suffix for magic, suffix in _MAGIC if data.startswith(magic)), ".bin")


def _jsonl(change: Callable[[Clip], Row]) -> Layout:
    return lambda clips, target, finish: write_rows(target, (change(finish(clip)) for clip in clips))


def _jsonl_of_files(change: Callable[[Clip], Row], parts: bool) -> Layout:
    """For readers of plain files: audio inside a blob is put beside the JSONL, and so are parts of recordings for a
    reader that knows no `offset` (`parts`)."""

    def write(clips: Iterable[Clip], target: Path, finish: Finish) -> int:
        beside = target.with_name(f"{target.stem}_audio")
        return write_rows(target, (change(finish(placed(clip, beside))) for clip in clips))

    def placed(clip: Clip, beside: Path) -> Clip:
        part = parts and clip.offset is not None
        if split_blob(clip.audio)[1] is None and not part:
            return clip
        name = audio_file(clip if part else clip.replace(offset=None), beside, safe_name(clip.id))
        audio = Workspace(clip.root).as_given(beside / name)
        return clip.replace(audio=audio, offset=None if part else clip.offset)

    return write


def _audiofolder(clips: Iterable[Clip], target: Path, _: Finish) -> int:
    """`metadata.csv` with `file_name`, audio below `audio/`; clips with a split stand in a folder of that name."""
    count = 0
    with atomic_folder(target, "the audiofolder", replace=True) as folder:
        handles: dict[str, tuple[IO[str], csv.DictWriter[str]]] = {}
        try:
            for clip in clips:
                part = safe_name(clip.split) if clip.split else ""
                base = folder / part
                if part not in handles:
                    base.mkdir(parents=True, exist_ok=True)
                    handle = (base / "metadata.csv").open("w", encoding="utf-8", errors="backslashreplace", newline="")
                    # Only with both letters in the line's end does the writer put quotes around either of them.
                    writer = csv.DictWriter(handle, _TABLE, lineterminator="\r\n")
                    writer.writeheader()
                    handles[part] = (handle, writer)
                name = audio_file(clip, base, f"audio/{safe_name(clip.id)}")
                handles[part][1].writerow(_flat(clip, {"file_name": name, "transcription": clip.transcript}, _TABLE))
                count += 1
        finally:
            for opened, _writer in handles.values():
                opened.close()
    return count


def _commonvoice(clips: Iterable[Clip], target: Path, _: Finish) -> int:
    """Common Voice's layout: `validated.tsv` and `clips/`."""
    columns = ("client_id", "path", "sentence", "locale", "id", "duration", "source", "license", "split", EXTRA_KEY)
    count = 0
    with (
        atomic_folder(target, "the Common Voice folder", replace=True) as folder,
        (folder / "validated.tsv").open("w", encoding="utf-8", errors="backslashreplace", newline="") as handle,
    ):
        handle.write("\t".join(columns) + "\n")
        for clip in clips:
            named = {
                "path": audio_file(clip, folder / "clips", safe_name(clip.id)),
                "sentence": _in_a_cell(clip.transcript),
                "locale": clip.language,
            }
            if clip.speaker and not _breaks_rows(clip.speaker):
                named["client_id"] = clip.speaker
            flat = _flat(clip, named, columns)
            handle.write("\t".join(str(flat.get(name, "")) for name in columns) + "\n")
            count += 1
    return count


def _paired(clips: Iterable[Clip], target: Path, _: Finish) -> int:
    """`x.wav` + `x.txt`; where there are times, `x.srt` and `x.lrc` as well and `x.json` with all segments. Licence and
    origin stand in `x.wav.provenance.json`, and everything else in `metadata.jsonl`."""
    count = 0
    with (
        atomic_folder(target, "the folder of pairs", replace=True) as folder,
        row_writer(folder / "metadata.jsonl") as write,
    ):
        for clip in clips:
            name = audio_file(clip, folder, safe_name(clip.id))
            path = folder / name
            if clip.transcribed:
                write_text(path.with_suffix(".txt"), clip.transcript + "\n")
            if clip.segments:
                segments = {"segments": [segment_row(segment) for segment in clip.segments]}
                write_text(path.with_suffix(".json"), to_json(segments))
                write_text(path.with_suffix(".srt"), to_srt(clip.segments))
                write_text(path.with_suffix(".lrc"), to_lrc(clip.segments))
            row = layout_row(clip.replace(offset=None))
            row.pop("audio")
            stated = {key: str(row[key]) for key in Provenance.model_fields if row.get(key) and key != "sha256"}
            write_json(item_file(path), stated)
            write({"file_name": name, **row})
            count += 1
    return count


def _parquet(clips: Iterable[Clip], target: Path, _: Finish) -> int:
    def rows() -> Iterator[tuple[Row, bytes, str]]:
        for clip in clips:
            data, row = _bytes_of(clip), clip.replace(offset=None).to_row()
            yield row, data, f"{safe_name(clip.id)}{suffix_of(data)}"

    target.parent.mkdir(parents=True, exist_ok=True)
    return write_parquet(target, rows())


def _bytes_of(clip: Clip) -> bytes:
    if clip.offset is None:
        return encoded_bytes(clip)
    import io

    buffer = io.BytesIO()
    soundfile.write(buffer, clip_samples(clip), SAMPLE_RATE, format="FLAC", subtype="PCM_16")
    return buffer.getvalue()


_TABLE = ("file_name", "transcription", "id", "duration", "language", "speaker", "source", "license", EXTRA_KEY)


def _flat(clip: Clip, named: Row, columns: tuple[str, ...]) -> Row:
    """A row of a table: `named` cells, own fields that have a column, and all the rest as JSON in one. The audio was
    written as a file of its own, so a part is a whole there."""
    row = clip.replace(offset=None).own_row()
    del row["audio"]
    if (
        clip.transcript or not clip.labels
    ):  # an empty cell is none: beside labels an empty transcript is said among the rest
        row.pop("transcript", None)
    if named.get("locale"):
        row.pop("language")
    if named.get("client_id"):
        row.pop("speaker")
    simple = {key: value for key, value in row.items() if key in columns and not _breaks_rows(value)}
    rest = {**{key: value for key, value in row.items() if key not in simple}, **clip.extra}
    return {**named, **simple, **({EXTRA_KEY: to_json(rest)} if rest else {})}


def _breaks_rows(value: object) -> bool:
    """Whether a value cannot stand in a table without quotes (nor in one with quotes, read by simple readers)."""
    return isinstance(value, str) and (value != " ".join(value.split()) or not value.isprintable() or '"' in value)


def _in_a_cell(text: str) -> str:
    """Text in one line; what looks as if it were quoted by a program is quoted, so that it comes back as it is."""
    line = " ".join(text.split())
    return f'"{line.replace(chr(34), chr(34) * 2)}"' if line[:1] == line[-1:] == '"' and '""' in line[1:-1] else line


def _inline(clip: Clip) -> Row:
    """govor's row with times written into the text as Whisper's tokens, as the ivrit.ai sets have it."""
    row = clip.to_row()
    if clip.segments:
        row.pop("segments")
        row["transcript"] = to_inline(clip.segments)
    return row


FORMATS: dict[str, Layout] = {
    "govor": _jsonl(Clip.to_row),
    "inline": _jsonl(_inline),
    "nemo": _jsonl_of_files(to_nemo, parts=False),
    "qwen3-asr": _jsonl_of_files(to_qwen, parts=True),
    "lhotse": _jsonl_of_files(to_cut, parts=False),
    "audiofolder": _audiofolder,
    "commonvoice": _commonvoice,
    "paired": _paired,
    "parquet": _parquet,
}

__all__ = ["FORMATS", "audio_file", "encoded_bytes", "export", "is_folder", "suffix_of", "to_cut", "to_nemo", "to_qwen"]
