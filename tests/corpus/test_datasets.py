"""Datasets of parquet shards from a Hub: a plan first, then blobs and a manifest, resumable, in constant memory."""

import io
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile

from govor.audio import decode
from govor.corpus.manifests import Manifest, read_rows
from govor.corpus.records import Segment
from govor.corpus.sources import plan, registry, split_of
from govor.runs import Workspace
from messy import voice
from servers import hub, serve

Run = Callable[..., CompletedProcess[str]]
RECITAL = "ivrit-ai/crowd-recital-whisper-training"

# The schema that ivrit.ai's own slicer writes.
IVRIT = pa.schema(
    [
        ("audio", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
        ("transcript", pa.string()),
        ("metadata", pa.struct([("seek", pa.float32()), ("source", pa.string()), ("entry_id", pa.string())])),
        ("has_prev", pa.bool_()),
        ("has_timestamps", pa.bool_()),
        ("prev_transcript", pa.string()),
    ]
)


def mp3(number: int) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, voice(number, 1.2), 16_000, format="MP3")
    return buffer.getvalue()


def row(number: int, audio: bytes | None) -> dict[str, Any]:
    timed = number % 3 != 2
    text = f"<|0.00|> שלום {number}<|0.80|><|1.00|>" if timed else f"שלום {number}"
    return {
        "audio": None if audio is None else {"bytes": audio, "path": f"entry-{number // 4}"},
        "transcript": text,
        "metadata": {"seek": 30.0 * (number % 4), "source": "recital", "entry_id": f"entry-{number // 4}"},
        "has_prev": number % 4 > 0,
        "has_timestamps": timed,
        "prev_transcript": f"<|0.00|> לפני {number}<|0.50|>" if number % 4 else "",
    }


def shards(folder: Path, count: int, rows: int) -> dict[str, Path]:
    """`count` training shards of `rows` rows, and one of a test split."""
    folder.mkdir(parents=True, exist_ok=True)
    sounds = [mp3(number) for number in range(7)]
    made = {}
    for shard in range(count + 1):
        part = "test" if shard == count else "train"
        name = f"data/{part}-{shard % count:05d}-of-{count:05d}.parquet"
        data = [row(shard * rows + n, sounds[(shard * rows + n) % 7]) for n in range(rows)]
        file = folder / name.replace("/", "--")
        pq.write_table(pa.Table.from_pylist(data, schema=IVRIT), file, row_group_size=100)
        made[name] = file
    return made


@pytest.fixture
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Path]]:
    return shards(tmp_path_factory.mktemp("hub"), 3, 40)


def environment(server: Any) -> dict[str, str]:
    return {"HF_ENDPOINT": server.url, "HF_HUB_DISABLE_XET": "1", "HF_HUB_OFFLINE": "0"}


def test_a_plan_says_what_would_be_fetched_and_fetches_nothing(
    workspace: Path, govor: Run, dataset: dict[str, Path]
) -> None:
    with serve(hub({RECITAL: dataset})) as server:
        shown = govor("prepare", "ivrit-round3", "--dry-run", "--json", **environment(server))
        assert not any("/resolve/" in path for _, path, _ in server.seen)
    rows = {item["dataset"]: item for item in json.loads(shown.stdout)["plan"]}
    assert set(rows) == {"ivrit-knesset", "ivrit-recital", "ivrit-transcribe-v5", "ivrit-whisper-training"}
    size = sum(file.stat().st_size for name, file in dataset.items() if "train" in name)
    assert rows["ivrit-recital"]["gigabytes"] == round(size / 1e9, 3) and rows["ivrit-recital"]["shards"] == 3
    assert "superseded" in rows["ivrit-whisper-training"]["skipped"]
    assert rows["ivrit-knesset"]["hours"] == 4700 and "404" in rows["ivrit-knesset"]["note"]
    assert all("deepfakes" in item["extra_terms"] for item in rows.values())
    assert not list(workspace.iterdir())


def test_a_dataset_becomes_blobs_and_a_manifest(workspace: Path, govor: Run, dataset: dict[str, Path]) -> None:
    with serve(hub({RECITAL: dataset})) as server:
        govor("prepare", "ivrit-recital", **environment(server))
    clips = Manifest("manifests/ivrit-recital.jsonl")
    assert len(clips) == 120
    first, second, third = clips[0], clips[1], clips[2]
    assert (first.transcript, first.segments) == ("שלום 0", (Segment(0.0, 0.8, "שלום 0"), Segment(1.0, None, "")))
    assert first.prev_transcript is None and second.prev_transcript == "לפני 1"
    assert second.prev_segments == (Segment(0.0, 0.5, "לפני 1"),)
    assert third.segments == () and third.transcript == "שלום 2"
    assert second.seek_time == 30.0 and second.source == "recital/entry-0"
    assert {clip.license for clip in clips} == {"ivrit.ai"} and "deepfakes" in str(first.extra_terms)
    assert {clip.language for clip in clips} == {"he"} and first.extra["dataset"] == "ivrit-recital"
    assert len({clip.id for clip in clips}) == 120
    for number in (0, 41, 119):
        blob, _, span = clips[number].audio.partition("#")
        offset, length = map(int, span.split(","))
        assert Path(blob).read_bytes()[offset : offset + length] == mp3(number % 7), "the bytes as they were encoded"
        assert abs(len(decode(clips[number].audio)) / 16_000 - clips[number].duration) < 0.01
    assert not list(Path("data").rglob("*.parquet")), "shards are removed when they are done"


def test_a_broken_run_goes_on_with_the_next_shard(workspace: Path, govor: Run, dataset: dict[str, Path]) -> None:
    last = sorted(name for name in dataset if "train" in name)[-1]
    with serve(hub({RECITAL: dataset}, failing={last})) as server:
        failed = govor("prepare", "ivrit-recital", expect=2, **environment(server), NO_WAITING="1")
        assert "run the same command again" in failed.stderr and "Traceback" not in failed.stderr
        assert not Path("manifests/ivrit-recital.jsonl").exists()
    with serve(hub({RECITAL: dataset})) as server:
        done = json.loads(govor("prepare", "ivrit-recital", "--json", **environment(server)).stdout)
        fetched = {path.split("/")[-1] for command, path, _ in server.seen if "/resolve/" in path}
    assert fetched == {last.split("/")[-1]}
    assert done["made"][0]["reused_shards"] == 2 and done["made"][0]["clips"] == 120


def test_a_collection_goes_on_with_the_next_dataset(workspace: Path, govor: Run, dataset: dict[str, Path]) -> None:
    transcribe = "ivrit-ai/crowd-transcribe-v5"
    with serve(hub({RECITAL: dataset, transcribe: {}})) as server:
        govor("prepare", "ivrit-round2", expect=2, **environment(server))  # the second has no shards
    assert not Path("manifests/ivrit-recital.jsonl").exists(), (
        "the plan is refused as a whole, before anything is fetched"
    )
    Path("manifests").mkdir()
    Path("manifests/ivrit-recital.jsonl").write_text("")
    with serve(hub({RECITAL: dataset, transcribe: dataset})) as server:
        done = govor("prepare", "ivrit-round2", "--json", **environment(server))
        assert not any("/resolve/" in path and RECITAL in path for _, path, _ in server.seen)
    assert [row["clips"] for row in json.loads(done.stdout)["made"]] == [0, 120]


def test_rows_that_cannot_be_used_are_listed(workspace: Path, govor: Run, tmp_path: Path) -> None:
    rows = [
        row(0, mp3(0)),
        row(1, None),
        row(2, b"no audio"),
        {**row(3, mp3(3)), "transcript": "  "},
        {**row(4, mp3(4)), "transcript": "<|5.00|> a<|1.00|>"},
    ]
    file = tmp_path / "x.parquet"
    pq.write_table(pa.Table.from_pylist(rows, schema=IVRIT), file)
    with serve(hub({RECITAL: {"data/train-00000-of-00001.parquet": file}})) as server:
        govor("prepare", "ivrit-recital", expect=1, **environment(server))
    assert len(Manifest("manifests/ivrit-recital.jsonl")) == 1
    rules = [dropped["rule"] for _, dropped in read_rows("manifests/ivrit-recital.dropped.jsonl")]
    assert rules == ["missing", "unreadable", "empty_transcript", "bad_transcript"]


def test_the_qwen_layout_has_wav_files(workspace: Path, govor: Run, dataset: dict[str, Path]) -> None:
    with serve(hub({RECITAL: dataset})) as server:
        govor("prepare", "ivrit-recital", "--shards", "1", "--layout", "qwen3-asr", **environment(server))
    rows = [item for _, item in read_rows("manifests/ivrit-recital.qwen3-asr.jsonl")]
    assert len(rows) == 40 and rows[0]["text"] == "language Hebrew<asr_text>שלום 0"
    info = soundfile.info(rows[0]["audio"])
    assert (info.samplerate, info.channels, info.subtype, info.format) == (16_000, 1, "PCM_16", "WAV")


def test_a_random_draw_costs_one_read_of_one_clip(workspace: Path, govor: Run, dataset: dict[str, Path]) -> None:
    with serve(hub({RECITAL: dataset})) as server:
        govor("prepare", "ivrit-recital", **environment(server))
    clips = Manifest("manifests/ivrit-recital.jsonl")
    chosen = random.Random(0).sample(range(len(clips)), 60)
    drawn = [clips[number] for number in chosen]
    decode(drawn[0].audio)

    def bytes_read() -> int:
        lines = Path("/proc/self/io").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("rchar")).split()[1])

    encoded = sum(int(clip.audio.rsplit(",", 1)[1]) for clip in drawn)
    before = bytes_read()
    for clip in drawn:
        decode(clip.audio)
    assert bytes_read() - before < 1.02 * encoded


def test_any_hub_dataset_can_be_named(workspace: Path, govor: Run, dataset: dict[str, Path]) -> None:
    with serve(hub({"some/set": dataset})) as server:
        govor(
            "prepare", "some/set", "--split", "test", "--language", "he", "--license", "CC0-1.0", **environment(server)
        )
    assert len(Manifest("manifests/some--set.jsonl")) == 40
    assert "neither a known dataset" in govor("prepare", "ivrit-recitel", "--dry-run", expect=2).stderr


def test_a_manual_source_says_how(workspace: Path, govor: Run) -> None:
    shown = govor("prepare", "common-voice", "--dry-run", expect=1)
    assert "govor manifest cv-corpus" in shown.stdout


def test_a_full_disk_is_foreseen(workspace: Path, govor: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from govor.corpus.datasets import check_space
    from govor.errors import GovorError

    with pytest.raises(GovorError, match="would be fetched and"):
        check_space(Workspace(), 1e9)


def test_the_registry_is_sound() -> None:
    known = registry()
    for name, collection in known.collections.items():
        assert set(collection.datasets) | set(collection.skipped) <= set(known.datasets), name
    for name, dataset in known.datasets.items():
        assert (dataset.repository is not None) == (dataset.kind == "hub"), name
        assert all(better in known.datasets for better in dataset.superseded_by)
    assert {"he", "bs", "hr", "sr", "cs"} <= {dataset.language for dataset in known.datasets.values()}
    named = plan("ivrit-whisper-training", (), ask_hub=False)
    assert "superseded" in str(named[0].note) or named[0].dataset.superseded_by


def test_a_teams_own_registry_goes_on_top(tmp_path: Path) -> None:
    own = tmp_path / "sources.yaml"
    own.write_text(
        "datasets:\n  ours: {title: t, kind: hub, repository: a/b, language: mg, domain: d, splits: [train], license: own}\n"
    )
    assert plan("ours", (), own, ask_hub=False)[0].dataset.language == "mg"
    assert "ivrit-recital" in registry(own).datasets


@pytest.mark.parametrize(
    ("path", "split"),
    [("data/train-00000-of-00042.parquet", "train"), ("he_il/test/0000.parquet", "test"), ("data/valid-0.parquet", "validation"), ("x/0000.parquet", "")],
)  # fmt: skip
def test_splits_are_read_off_the_paths(path: str, split: str) -> None:
    assert split_of(path) == split


def test_no_request_path_leaves_the_folder(workspace: Path, govor: Run, dataset: dict[str, Path]) -> None:
    evil = {"../../../outside/train-0.parquet": next(iter(dataset.values()))}
    with serve(hub({RECITAL: evil})) as server:
        govor("prepare", "ivrit-recital", expect=None, **environment(server))
    assert not any(path.is_file() for path in workspace.parent.glob("outside/**/*"))
