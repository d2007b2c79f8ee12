"""The use cases of timing in a workspace that is not the process's folder."""

import json
import shutil
from pathlib import Path

import pytest
import soundfile

from conftest import make_split, speech
from govor.audio import SAMPLE_RATE
from govor.corpus.manifests import read_clips, write_clips
from govor.errors import AudioError, GovorError
from govor.families.opening import open_model
from govor.runs import Workspace
from govor.timing.karaoke import make_karaoke
from govor.timing.lyrics import read_song
from govor.timing.manifest import align_manifest
from govor.timing.request import AlignOptions, KaraokeOptions, Outputs
from govor.timing.transcribe import Transcript, options_for, transcribe_files


def relative_split(root: Path) -> Path:
    """A split whose rows name their audio relative to the workspace."""
    split = make_split(root, train=60)
    for part in split.glob("*.jsonl"):
        clips = [clip.replace(audio=str(Path(clip.audio).relative_to(root))) for clip in read_clips(part)]
        write_clips(part, clips)
    return split


def test_files_are_read_and_written_in_the_workspace_that_is_given(workspace: Path, tiny_folder: Path) -> None:
    place = Workspace(workspace / "w")
    split = relative_split(place.root)
    soundfile.write(place.path("song.wav"), speech(["sol", "luna", "mar"] * 3), SAMPLE_RATE)
    place.path("song.txt").write_text("sol luna mar\nsol luna mar\nsol luna mar\n", encoding="utf-8")
    shutil.copytree(tiny_folder, place.path("tiny"))  # the heads are kept beside the model
    opened = open_model(place.model("tiny"), workspace=place)

    options = options_for(opened, "en", guard=False)  # draws of a random model hold words without a letter
    (transcript,) = transcribe_files(place, opened, [place.path("song.wav")], options, timed=True)
    assert isinstance(transcript, Transcript) and transcript.audio == "song.wav" and transcript.text
    assert [word.text for word in transcript.words] == transcript.text.split()

    target = place.path("aligned.jsonl")
    made = align_manifest(place, opened, split / "test.jsonl", target, AlignOptions(("json",)))
    assert (made.aligned, made.dropped, made.manifest) == (4, 0, target)
    first, *_ = read_clips(target, place.root)
    about = json.loads((place.outputs / first.id / "transcription_base.json").read_text(encoding="utf-8"))
    assert first.words and about["audio"] == first.audio and not Path(first.audio).is_absolute()

    song = read_song(place.path("song.wav"), place.path("song.txt"))
    karaoke = make_karaoke(place, opened, song, KaraokeOptions(language="en"))
    assert karaoke.page == place.path("song.html") and karaoke.page.is_file()
    assert karaoke.files[0] == place.outputs / "song" / "transcription_base.json"
    assert [line.text for line in karaoke.lines] == ["sol luna mar"] * 3
    assert {path.name for path in workspace.iterdir()} == {"w"}, "nothing is written where the process stands"


def test_nothing_is_replaced_unasked(workspace: Path, tiny_folder: Path) -> None:
    place = Workspace(workspace / "w")
    split = relative_split(place.root)
    files = [place.path(name) for name in ("song.wav", "other.wav")]
    for file in files:
        soundfile.write(file, speech(["sol", "luna", "mar"] * 3), SAMPLE_RATE)
    place.path("song.txt").write_text("sol luna mar\n" * 3, encoding="utf-8")
    shutil.copytree(tiny_folder, place.path("tiny"))
    opened = open_model(place.model("tiny"), workspace=place)
    song, target = read_song(files[0], place.path("song.txt")), place.path("aligned.jsonl")

    def transcribe(overwrite: bool) -> object:
        return list(transcribe_files(place, opened, files, options_for(opened, "en"), outputs=Outputs(overwrite)))

    def align(overwrite: bool) -> object:
        return align_manifest(place, opened, split / "test.jsonl", target, AlignOptions(("json",), overwrite=overwrite))

    def align_elsewhere(overwrite: bool) -> object:
        other, options = place.path("b.jsonl"), AlignOptions(("json",), overwrite=overwrite)
        return align_manifest(place, opened, split / "test.jsonl", other, options)

    def karaoke(overwrite: bool) -> object:
        options = KaraokeOptions(place.path("pages/song.html"), language="en", overwrite=overwrite)
        return make_karaoke(place, opened, song, options)

    first = [use(overwrite=False) for use in (transcribe, align, karaoke)]
    written = [path for one in first[0] for path in one.files]  # type: ignore[attr-defined]
    assert len(written) == 6 and all(path.is_file() for path in written)
    before = {path: path.stat().st_mtime_ns for path in place.root.rglob("*") if path.is_file()}
    for use in (transcribe, align, align_elsewhere, karaoke):
        with pytest.raises(GovorError, match=r"already exists; give --overwrite"):
            use(overwrite=False)
    assert {path: path.stat().st_mtime_ns for path in place.root.rglob("*") if path.is_file()} == before
    transcribe(overwrite=True)
    assert written[0].stat().st_mtime_ns > before[written[0]]


def test_what_cannot_be_read_or_holds_nothing_is_refused(workspace: Path, tiny_folder: Path) -> None:
    place = Workspace(workspace)
    opened = open_model(str(tiny_folder))
    for name in ("a.wav", "b.wav"):
        place.path(name).write_bytes(b"no audio")
    options, found = options_for(opened, "en"), []
    with pytest.raises(GovorError, match="None of the 2 files could be read"):
        found.extend(transcribe_files(place, opened, [place.path("a.wav"), place.path("b.wav")], options))
    with pytest.raises(AudioError):
        transcribe_files(place, opened, [place.path("a.wav")], options)
    place.path("empty.jsonl").write_text("")
    with pytest.raises(GovorError, match=r"empty\.jsonl holds no clips to align"):
        align_manifest(place, opened, place.path("empty.jsonl"), place.path("made.jsonl"))
    place.path("one.jsonl").write_text(
        '{"id": "a", "audio": "a.wav", "transcript": "x", "duration": 1, "language": "en"}\n'
    )
    with pytest.raises(GovorError, match="There is no format 'srtt'; did you mean 'srt'"):
        align_manifest(place, opened, place.path("one.jsonl"), place.path("made.jsonl"), AlignOptions(("srtt",)))
    assert not place.path("made.jsonl").exists()
