"""The use cases of timing in a workspace that is not the process's folder."""

import json
import shutil
from pathlib import Path

import soundfile

from conftest import make_split, speech
from govor.audio import SAMPLE_RATE
from govor.corpus.manifests import read_clips, write_clips
from govor.families.opening import open_model
from govor.runs import Workspace
from govor.timing.karaoke import KaraokeOptions, make_karaoke
from govor.timing.lyrics import read_song
from govor.timing.manifest import AlignOptions, align_manifest
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

    options = options_for(opened, "en")
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
