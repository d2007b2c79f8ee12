"""Any recording → 16 kHz mono 16-bit, at most 30 s: long ones cut at pauses between their segments.

A slice carries its `segments` in steps of 0.02 s, what was said before it (`prev_transcript`), where it lay
(`seek_time`) and in which recording (`source`). Durations are those of the samples written.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import soundfile
from pydantic import Field, model_validator

from govor import engine
from govor.audio import SAMPLE_RATE, Samples, decode
from govor.audio.channels import Listener
from govor.config import Settings
from govor.corpus.loudness import to_loudness
from govor.corpus.manifests import Manifest, read_clips, rejected
from govor.corpus.outputs import outputs
from govor.corpus.records import Clip, Row, Segment, Word, is_blank
from govor.corpus.samples import OVER_WINDOW_SECONDS, WINDOW_SECONDS, clip_samples
from govor.corpus.slicing import MAX_CHARACTERS_PER_SECOND, Rejected, Slice, characters_per_second, plan_slices
from govor.corpus.speakers import one_person
from govor.corpus.transcripts import TIME_STEP_SECONDS, closed, plain, shifted, snap
from govor.corpus.vad import Kind, Spans, Vad, open_vad, seconds_of_speech
from govor.errors import AudioError, GovorError
from govor.files import refuse_existing
from govor.jsons import read_json, write_json
from govor.progress import SILENT, Progress, counted
from govor.runs import Workspace, check_name, plain_name

_EDGE_SECONDS = 0.1

Channels = Literal["mix", "left", "right", "split"]
_TOO_FAST = "more text a second than anyone can say: its times are not of its words"
_SIDES = ("left", "right")


class PreprocessSettings(Settings):
    """What preprocessing does."""

    max_seconds: float = Field(WINDOW_SECONDS, gt=1, le=30, description="longest slice; a Whisper window holds 30 s")
    min_seconds: float = Field(0.5, ge=0, description="shortest slice")
    min_source_seconds: float = Field(1.0, ge=0, description="shortest recording taken; a slice may be shorter")
    max_source_seconds: float = Field(900.0, gt=0, description="longest recording taken")
    trim_silence: bool = Field(False, description="cut silence off both ends, but 0.1 s")
    loudness_lufs: float | None = Field(None, ge=-60, le=-5, description="bring every clip to this loudness")
    max_characters_per_second: float = Field(
        MAX_CHARACTERS_PER_SECOND, gt=0, description="more text than anyone can say, of a segment and of a clip"
    )
    audio_format: Literal["wav", "flac"] = Field("wav", description="both are lossless; flac takes half the space")
    channels: Channels = Field(
        "mix", description="of two channels: their mean, one of them, or a clip of each where each holds another voice"
    )

    @model_validator(mode="after")
    def _ordered(self) -> PreprocessSettings:
        if self.min_source_seconds > self.max_source_seconds or self.min_seconds > self.max_seconds:
            raise ValueError("the shortest length allowed is above the longest; nothing lies between")
        return self


@dataclass(frozen=True, slots=True)
class Result:
    """What came of one recording."""

    clips: list[Clip]
    dropped: list[Row]
    seconds: float


@dataclass(frozen=True, slots=True)
class Preprocessed:
    """What became of a manifest: clips of at most 30 s, their audio in `folder`."""

    target: Path
    folder: Path
    recordings: int
    clips: int
    hours_in: float
    hours_out: float
    pauses_found_by: str
    dropped: dict[str, int]

    def as_dict(self) -> Row:
        """For people and machines."""
        return {
            "recordings": self.recordings,
            "clips": self.clips,
            "hours_in": round(self.hours_in, 3),
            "hours_out": round(self.hours_out, 3),
            "pauses_found_by": self.pauses_found_by,
            "dropped": self.dropped,
        }


@dataclass(frozen=True, slots=True)
class Destination:
    """Where preprocessed clips go: `manifests/NAME.jsonl` and `data/processed/NAME/`. What is there already is refused unless
    it is to be replaced or gone on with."""

    name: str | None = None
    resume: bool = False
    overwrite: bool = False

    def files(self, workspace: Workspace, source: Path) -> tuple[Path, Path]:
        """The manifest and the folder.

        Raises:
            GovorError: they may not be written.
        """
        name = check_name(self.name or f"{plain_name(source.stem)}-16k")
        target, folder = workspace.manifests / f"{name}.jsonl", workspace.data / "processed" / name
        if target.resolve() == source.resolve():
            raise GovorError(f"{target} would be written over its own source; give another --name.")
        for path in (target, folder):
            remedy = "--resume to go on, --overwrite to replace it, or another --name"
            refuse_existing(path, self.overwrite or self.resume, remedy)
        return target, folder


def preprocess_file(
    workspace: Workspace,
    source: Path,
    settings: PreprocessSettings,
    destination: Destination,
    pauses: Kind = "auto",
    progress: Progress = SILENT,
) -> Preprocessed:
    """Bring the recordings of a manifest to 16 kHz and at most 30 s each; `pauses` says how they are found.

    Raises:
        GovorError: none can be used, the result is there already, or it was begun with other settings.
    """
    target, folder = destination.files(workspace, source)
    vad = open_vad(pauses, progress.note)
    record, record_file = {**settings.model_dump(), "vad": vad.name}, folder / "preprocess.json"
    if destination.resume and record_file.exists() and {"channels": "mix", **read_json(record_file)} != record:
        raise GovorError(f"{folder} was begun with other settings; give the same ones, another --name, or --overwrite.")
    recordings = len(Manifest(source))
    write_json(record_file, record)
    hours_in = hours_out = 0.0
    with outputs(workspace, target) as (keep, rejections):
        clips = read_clips(source, workspace.root)
        results = preprocess(workspace, clips, folder, settings, vad, resume=destination.resume)
        for result in counted(results, progress, "preprocess", recordings):
            hours_in += result.seconds / 3600
            for clip in result.clips:
                keep.clip(clip)
                hours_out += clip.duration / 3600
            for row in result.dropped:
                rejections(row)
    if not keep.count:
        record_file.unlink()
        with suppress(OSError):
            folder.rmdir()
        raise GovorError(f"None of the {recordings} recordings can be used: {rejections.reasons()}.")
    dropped = rejections.by_rule()
    return Preprocessed(target, folder, recordings, keep.count, hours_in, hours_out, vad.name, dropped)


@dataclass(frozen=True, slots=True)
class _Work:
    """What is done with every recording."""

    workspace: Workspace
    folder: Path
    settings: PreprocessSettings
    vad: Vad
    resume: bool


def preprocess(
    workspace: Workspace,
    clips: Iterable[Clip],
    folder: Path,
    settings: PreprocessSettings,
    vad: Vad,
    engine_name: engine.Engine = "processes",
    resume: bool = False,
) -> Iterator[Result]:
    """Write every clip's audio into `folder`; yields, in order, what each recording became.

    With `resume`, audio that lies there in the right length is not written again.
    """
    work = _Work(workspace, folder, settings, vad, resume)
    yield from engine.map(clips, partial(_one, work=work), engine_name, chunk=8)


def _one(clip: Clip, work: _Work) -> Result:
    def no(rule: str, measured: object, limit: object, message: str) -> Result:
        return Result([], [rejected(clip.to_row(), rule, measured, limit, message)], clip.duration)

    settings = work.settings
    try:
        side = _SIDES.index(settings.channels) if settings.channels in _SIDES else None
        if (settings.channels == "split" or (side is not None and clip.segments)) and _separate(clip):
            return _of_sides(clip, work)
        samples = clip_samples(clip, side)
    except AudioError as error:
        return no(error.rule, None, None, str(error))
    return _of_samples(clip, samples, work)


def _of_samples(clip: Clip, samples: Samples, work: _Work) -> Result:
    def no(rule: str, measured: object, limit: object, message: str) -> Result:
        return Result([], [rejected(clip.to_row(), rule, measured, limit, message)], clip.duration)

    settings = work.settings
    seconds = len(samples) / SAMPLE_RATE
    slice_of_another = clip.offset is not None or clip.seek_time is not None
    shortest = settings.min_seconds if slice_of_another else settings.min_source_seconds
    if seconds < shortest:
        return no("too_short", round(seconds, 3), shortest, "a recording shorter than the limit")
    if seconds > settings.max_source_seconds:
        return no("too_long", round(seconds, 3), settings.max_source_seconds, "a recording longer than the limit")
    long = seconds >= settings.max_seconds + OVER_WINDOW_SECONDS
    if long and not clip.segments:
        message = "longer than a slice, and its transcript has no times; govor align fills them"
        return no("untimed", round(seconds, 3), settings.max_seconds, message)
    spans = work.vad.speech(samples) if long or settings.trim_silence else []
    if not long:  # the plan of slices never judges it
        fastest = max(map(characters_per_second, closed(clip.segments, seconds)), default=0.0)
        if fastest > (limit := settings.max_characters_per_second):
            return no("text_too_long", round(fastest, 1), limit, _TOO_FAST)
        samples = samples[: int(settings.max_seconds * SAMPLE_RATE)]  # what a codec's frames add
    made = _slices(clip, samples, settings, spans) if long else [_whole(clip, samples, settings, spans)]
    result = Result([], [], seconds)
    for piece, part in made:
        if isinstance(piece, dict):
            result.dropped.append(piece)
        else:
            _finish(piece, part, work, result)
    return result


def _separate(clip: Clip) -> bool:
    part = clip.duration if clip.offset is not None else None
    listener = Listener()
    decode(clip.file, clip.offset or 0.0, part, listener=listener)
    return listener.relation() == "separate"


def _of_sides(clip: Clip, work: _Work) -> Result:
    """A clip of each channel that is wanted, with the segments that are loud in it."""
    sides = [clip_samples(clip, number) for number in range(2)]
    if not clip.segments:
        message = (
            "each channel holds another voice, and the transcript has no times that tell whose words are whose; "
            "govor align fills them, --channels left or right takes one voice"
        )
        return Result([], [rejected(clip.to_row(), "untimed", None, None, message)], clip.duration)
    result = Result([], [], 0.0)
    of_segment = [_louder(sides, segment.start, segment.end) for segment in clip.segments]
    for number, (side, samples) in enumerate(zip(_SIDES, sides, strict=True)):
        if work.settings.channels not in ("split", side):
            continue
        segments = tuple(s for s, louder in zip(clip.segments, of_segment, strict=True) if louder == number)
        one = clip.replace(
            id=f"{clip.id}@{side}",
            transcript=plain(segments),
            transcript_raw=None,
            segments=segments,
            words=tuple(word for word in clip.words if _word_side(sides, word) == number),
            prev_transcript=None,
            prev_segments=(),
            speaker=one_person([segment.speaker for segment in segments]),
            source=clip.source or clip.id,
            extra={**{key: value for key, value in clip.extra.items() if key != "channels_hold"}, "channel": side},
        )
        made = _of_samples(one, samples, work)
        result.clips.extend(made.clips)
        result.dropped.extend(made.dropped)
    return replace(result, seconds=clip.duration)


def _louder(sides: list[Samples], start: float, end: float | None) -> int:
    last = None if end is None else round(end * SAMPLE_RATE)
    parts = [samples[round(start * SAMPLE_RATE) : last] for samples in sides]
    return int(np.argmax([float(part @ part) for part in parts]))


def _word_side(sides: list[Samples], word: Word) -> int | None:
    times = [word.get(key) for key in ("start", "end")]
    if not all(isinstance(time, int | float) for time in times):
        return None
    return _louder(sides, float(times[0] or 0.0), float(times[1] or 0.0))


def _whole(clip: Clip, samples: Samples, settings: PreprocessSettings, spans: Spans) -> tuple[Clip, Samples]:
    """A recording that fits into one slice."""
    if not settings.trim_silence or not spans:
        length = len(samples) / SAMPLE_RATE
        inside = tuple(
            _within(s, length) if (s.end or s.start) - length <= OVER_WINDOW_SECONDS else s for s in clip.segments
        )
        return _of_recording(clip).replace(segments=inside), samples
    start = round(max(0.0, spans[0][0] - _EDGE_SECONDS) * SAMPLE_RATE)
    end = min(len(samples), round((spans[-1][1] + _EDGE_SECONDS) * SAMPLE_RATE))
    if clip.segments:  # what is transcribed stays, whatever the detector heard
        start = min(start, round(clip.segments[0].start * SAMPLE_RATE))
        last = clip.segments[-1].end
        end = len(samples) if last is None else max(end, min(len(samples), round(last * SAMPLE_RATE)))
    seconds = start / SAMPLE_RATE
    changes: Row = {
        "segments": shifted(clip.segments, -seconds),
        "words": _moved(clip, seconds, end - start),
    }
    whole = _of_recording(clip)
    if start:
        changes["seek_time"] = round((whole.seek_time or 0.0) + seconds, 6)
    return whole.replace(**changes), samples[start:end]


def _of_recording(clip: Clip) -> Clip:
    """A part of a recording that becomes a file of its own still says where it came from."""
    if clip.offset is None:
        return clip
    seek = clip.offset if clip.seek_time is None else clip.seek_time
    return clip.replace(offset=None, source=clip.source or clip.audio, seek_time=seek)


def _moved(clip: Clip, start_seconds: float, samples: int) -> tuple[Row, ...]:
    """The words that lie in a stretch of the recording, with times from its beginning."""
    length = samples / SAMPLE_RATE
    inside = []
    for word in clip.words:
        times = {key: word[key] - start_seconds for key in ("start", "end") if isinstance(word.get(key), int | float)}
        if times and min(times.values()) >= -0.05 and max(times.values()) <= length + 0.05:
            inside.append({**word, **{key: round(min(max(time, 0.0), length), 3) for key, time in times.items()}})
    return tuple(inside)


def _slices(
    clip: Clip, samples: Samples, settings: PreprocessSettings, spans: Spans
) -> Iterator[tuple[Clip | Row, Samples]]:
    planned = plan_slices(
        clip.segments,
        len(samples) / SAMPLE_RATE,
        settings.max_seconds,
        partial(seconds_of_speech, spans),
        partial(_quietest, samples),
        settings.max_characters_per_second,
    )
    before, before_timed = clip.prev_transcript, clip.prev_segments
    for piece in planned:
        start, end = round(piece.start * SAMPLE_RATE), round(piece.end * SAMPLE_RATE)
        end = min(end, start + int(settings.max_seconds * SAMPLE_RATE))
        cut = _slice_clip(clip, piece, start, end).replace(prev_transcript=before, prev_segments=before_timed)
        if isinstance(piece, Rejected):
            yield _rejected(cut, piece, len(samples) / SAMPLE_RATE, settings), samples[:0]
            before, before_timed = None, ()
            continue
        yield cut, samples[start:end]
        before, before_timed = cut.transcript, cut.segments


def _rejected(cut: Clip, piece: Rejected, total_seconds: float, settings: PreprocessSettings) -> Row:
    """The row of segments that are in no slice."""
    length: float = round(piece.end - piece.start, 3)
    fastest = max((characters_per_second(segment) for segment in piece.segments), default=0.0)
    measured, limit, message = {
        "times_beyond_end": (length, round(total_seconds, 3), "the recording ends before"),
        "text_too_long": (
            round(fastest, 1),
            settings.max_characters_per_second,
            _TOO_FAST,
        ),
        "segment_without_length": (
            length,
            TIME_STEP_SECONDS,
            "words that take no time belong to no part of the recording",
        ),
        "segment_too_long": (
            length,
            settings.max_seconds,
            "segments that overlap or one alone are longer than a slice",
        ),
    }[piece.rule]
    return rejected(cut.to_row(), piece.rule, measured, limit, message)


def _slice_clip(clip: Clip, piece: Slice | Rejected, start: int, end: int) -> Clip:
    length = (end - start) / SAMPLE_RATE
    segments = shifted(piece.segments, -start / SAMPLE_RATE)
    inside = tuple(_within(segment, snap(length - 0.01)) for segment in segments)
    seek, whole = start / SAMPLE_RATE, _of_recording(clip)
    return clip.replace(
        id=f"{clip.id}@{seek:.2f}",
        transcript=plain(inside),
        transcript_raw=None,
        duration=length,
        offset=None,
        segments=inside,
        words=_moved(clip, seek, end - start),
        seek_time=round((whole.seek_time or 0.0) + seek, 6),
        source=whole.source or clip.id,
        sha256=None,
        pcm_sha256=None,
        snr_db=None,
        # Said of the text before the recording, not of that before a slice.
        extra={key: value for key, value in clip.extra.items() if key != "has_prev"},
    )


def _within(segment: Segment, last: float) -> Segment:
    """Snapping must not push a time past the end of the slice."""
    end = None if segment.end is None else min(segment.end, last)
    return replace(segment, start=min(segment.start, last), end=end)


def _quietest(samples: Samples, start: float, end: float) -> float:
    """The quietest 20 ms between two times, smoothed over a tenth of a second, the middle where the pause is shorter."""
    frame = SAMPLE_RATE // 50
    window = samples[round(start * SAMPLE_RATE) : round(end * SAMPLE_RATE)]
    if len(window) < 6 * frame:
        return (start + end) / 2
    frames = np.square(window[: len(window) // frame * frame].reshape(-1, frame)).mean(axis=1)
    smooth = np.convolve(frames, np.ones(5) / 5, mode="valid")
    return float(start + (int(smooth.argmin()) + 2.5) * frame / SAMPLE_RATE)


def _finish(clip: Clip, samples: Samples, work: _Work, result: Result) -> None:
    settings = work.settings
    seconds = len(samples) / SAMPLE_RATE
    blank = is_blank(clip.transcript) and not clip.labels
    if seconds < settings.min_seconds or blank:
        rule = "empty_transcript" if blank else "too_short"
        message = "nothing was said in it" if blank else "a slice shorter than the limit"
        dropped = rejected(clip.to_row(), rule, round(seconds, 3), settings.min_seconds, message)
        result.dropped.append(dropped)
        return
    rate = len(clip.transcript) / seconds
    if rate > settings.max_characters_per_second:
        message = "more text a second than anyone can say"
        limit = settings.max_characters_per_second
        result.dropped.append(rejected(clip.to_row(), "text_too_long", round(rate, 1), limit, message))
        return
    if settings.loudness_lufs is not None:
        samples = to_loudness(samples, settings.loudness_lufs)
    peak = float(np.abs(samples).max(initial=0.0))
    if peak > 1:  # 32-bit files and codecs may hold more than full scale; 16 bits would cut it off
        samples = samples / np.float32(peak)
    pcm = to_pcm16(samples)
    path = work.folder / f"{safe_name(clip.id)}.{settings.audio_format}"
    if not (work.resume and _holds(path, len(pcm))):
        write_pcm16(path, pcm)
    digest = hashlib.sha256(pcm.tobytes()).hexdigest()
    result.clips.append(
        clip.replace(audio=work.workspace.relative(path), duration=round(seconds, 7), sha256=None, pcm_sha256=digest)
    )


def to_pcm16(samples: Samples) -> npt.NDArray[np.int16]:
    """16-bit samples [n] of float samples in -1…1."""
    return np.clip(np.round(samples * 32767), -32768, 32767).astype("<i2")


def write_pcm16(path: Path, pcm: npt.NDArray[np.int16]) -> None:
    """A mono 16 kHz file, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        soundfile.write(temporary, pcm, SAMPLE_RATE, subtype="PCM_16", format=path.suffix[1:].upper())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def safe_name(name: str) -> str:
    """A clip's id as a path below one folder: what could leave it, or no file system takes, is replaced; the digest of
    the id keeps two that become equal apart."""
    parts = (
        "".join(letter if letter.isalnum() or letter in "-_.@" else "_" for letter in part) for part in name.split("/")
    )
    safe = "/".join(_cut(part.lstrip("."), 120) for part in parts if part.strip("._"))
    if safe == name:
        return safe
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{safe or 'clip'}-{digest}"


def _cut(text: str, most_bytes: int) -> str:
    return text.encode("utf-8")[:most_bytes].decode("utf-8", "ignore")


def _holds(path: Path, samples: int) -> bool:
    try:
        info = soundfile.info(path)
    except (soundfile.LibsndfileError, OSError):
        return False
    return bool(info.frames == samples and info.samplerate == SAMPLE_RATE)
