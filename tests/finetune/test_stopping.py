"""No run, package or result is lost: faults T04 to T07, T14 to T17, T19, H7, H8, O02, O04, O11, O12, O15."""

import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest

from conftest import TORCHRUN, Silent, Zygote, make_split, read_metrics, toy_recipe
from govor import files, jsons, locks, runs
from govor import recipe as recipes
from govor.errors import GovorError
from govor.finetune import checklist, checkpoints, resume
from govor.finetune.train import train
from govor.metrics.metric import LOSS, Metric

Run = Callable[..., subprocess.CompletedProcess[str]]
FINETUNE = {"clips_per_step": 4, "epochs": 2, "lr": 1e-3, "precision": "fp32", "loader_workers": 0}


def recipe_of(workspace: Path, tiny_folder: Path, **sections: dict[str, object]) -> Path:
    split = workspace / "manifests/splits/toy"
    return toy_recipe(
        split if split.exists() else make_split(workspace), tiny_folder, workspace / "toy.yaml", **sections
    )


def trained(file: Path, *settings: str, **options: Any) -> tuple[Path, Silent]:
    told = Silent()
    return train(
        runs.Workspace(), recipes.load(str(file), list(settings)), told, device="cpu", **options
    ).run.folder, told


def leftovers(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob(".*"))


# ---- temporary names (H7)


def a_dead_process() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def left_by(folder: Path, name: str, pid: int, started: int, kind: str = "tmp", machine: str | None = None) -> Path:
    path = folder / f".{name}.{machine or files.machine()}-{pid}-{started}-abcd.{kind}"
    path.write_text("half")
    return path


def test_what_the_dead_left_is_swept_and_what_the_living_write_is_not(workspace: Path) -> None:
    dead, me = a_dead_process(), os.getpid()
    gone = [
        left_by(workspace, "best.json", dead, 1),
        left_by(workspace, "ct2", me, files.started(me) + 1),
    ]  # number reused
    stays = [
        left_by(workspace, "best.json", me, files.started(me)),
        left_by(workspace, "x.json", 1234, 99, machine="0123abcd"),
        workspace / ".best.json.12345678.tmp",
    ]
    stays[-1].write_text("of an earlier version")
    jsons.write_json(workspace / "any.json", {})
    assert not [path for path in gone if path.exists()] and all(path.exists() for path in stays)
    files.sweep(workspace, alone=True)
    assert [path.exists() for path in stays] == [True, False, False]
    old = left_by(workspace, "x.json", 1234, 99, machine="0123abcd")
    os.utime(old, (1, 1))
    files.sweep(workspace)
    assert not old.exists(), "nobody writes for days"


def test_a_folder_that_was_to_give_way_comes_back_when_its_writer_was_killed_between_two_renames(
    workspace: Path,
) -> None:
    code = (
        "import os, signal, sys\nfrom pathlib import Path\nfrom govor import files\n"
        "plain, count = Path.rename, int(sys.argv[1])\n"
        "def rename(self, target):\n"
        "    global count\n"
        "    count -= 1\n"
        "    if count < 0: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return plain(self, target)\n"
        "Path.rename = rename\n"
        "with files.atomic_folder(Path('report'), 'the report', replace=True) as folder:\n"
        "    (folder / 'page').write_text('new')\n"
    )
    for renames, expected in ((0, "old"), (1, "old"), (2, "new")):
        shutil.rmtree("report", ignore_errors=True)
        Path("report").mkdir()
        Path("report/page").write_text("old")
        ended = subprocess.run([sys.executable, "-c", code, str(renames)], check=False)
        assert ended.returncode == (0 if renames == 2 else -signal.SIGKILL)
        files.sweep(workspace)
        assert Path("report/page").read_text() == expected
        assert not leftovers(workspace)


def test_a_link_gives_way_as_a_link(workspace: Path) -> None:
    (workspace / "far").mkdir()
    (workspace / "far/page").write_text("old")
    (workspace / "report").symlink_to("far")
    (workspace / "dangling").symlink_to("nowhere")
    for name in ("report", "dangling"):
        with files.atomic_folder(workspace / name, "the report", replace=True) as folder:
            (folder / "page").write_text("new")
        assert (workspace / name / "page").read_text() == "new" and not (workspace / name).is_symlink()
    assert (workspace / "far/page").read_text() == "old" and not leftovers(workspace)


def test_long_names_have_room_for_a_temporary_one(workspace: Path) -> None:
    name = "ш" * 120 + ".json"  # 245 bytes of 255
    jsons.write_json(workspace / name, {"a": 1})
    assert jsons.read_json(workspace / name) == {"a": 1} and not leftovers(workspace)


# ---- one process at a time (T05)

HOLD = "import sys, time\nfrom pathlib import Path\nfrom govor import locks\nwith locks.held(Path(sys.argv[1]), 'trained'):\n    print('held', flush=True)\n    time.sleep(60)\n"


def test_a_run_that_another_process_holds_is_refused_and_taken_over_when_that_is_killed(workspace: Path) -> None:
    run = workspace / "models/whisper/toy"
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(run)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout and holder.stdout.readline() == "held\n"
    sentence = rf"is being trained by process {holder.pid} on {platform.node()} since 20\d\d-"
    with pytest.raises(GovorError, match=sentence), locks.held(run, "packaged"):
        pass
    holder.kill()
    holder.wait()
    with locks.held(run, "packaged"):
        assert json.loads((run.parent / ".toy.lock").read_text())["pid"] == os.getpid()
        with pytest.raises(GovorError, match="already"), locks.held(run, "packaged"):
            pass
    assert not leftovers(workspace)


def test_a_link_and_what_it_leads_to_are_one_run(workspace: Path) -> None:
    (workspace / "far/toy").mkdir(parents=True)
    (workspace / "models/whisper").mkdir(parents=True)
    link = workspace / "models/whisper/toy"
    link.symlink_to(workspace / "far/toy")
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(link)], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout and holder.stdout.readline() == "held\n"
        for name in (link, workspace / "far/toy"):
            with pytest.raises(GovorError, match=f"process {holder.pid}"), locks.held(name, "packaged"):
                pass
    finally:
        holder.kill()
        holder.wait()


@pytest.mark.parametrize(
    ("change", "free"),
    [
        ({}, True),  # of this start of this machine: whoever it was has lost the system's lock
        ({"boot": "earlier"}, True),  # of this machine before it was started anew
        ({"host": "elsewhere", "boot": "other"}, False),
    ],
)
def test_stale_locks_are_recognised(workspace: Path, change: dict[str, str], free: bool) -> None:
    held = {"doing": "trained", "pid": a_dead_process(), "host": platform.node(), "since": "2026-01-01T00:00:00+00:00"}
    held |= {"boot": files.boot(), "machine": files.machine(), "started": 1, **change}
    lock = workspace / ".toy.lock"
    lock.write_text(json.dumps(held))
    if free:
        with locks.held(workspace / "toy", "trained"):
            pass
        assert not lock.exists()
    else:
        with pytest.raises(GovorError, match=r"on elsewhere since .*; if that no longer runs, delete .*\.toy\.lock"):
            locks.held(workspace / "toy", "trained").__enter__()


@pytest.mark.parametrize("alive", [True, False])
def test_without_locks_of_the_system_the_process_itself_is_looked_for(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, alive: bool
) -> None:
    monkeypatch.setattr(locks, "_lock", lambda handle: None)
    pid = os.getppid() if alive else a_dead_process()
    held = {"doing": "trained", "pid": pid, "host": platform.node(), "since": "then", "boot": files.boot()}
    held |= {"machine": files.machine(), "started": files.started(os.getppid())}
    (workspace / ".toy.lock").write_text(json.dumps(held))
    if alive:
        with pytest.raises(GovorError, match=f"process {pid} on"):
            locks.held(workspace / "toy", "trained").__enter__()
    else:
        with locks.held(workspace / "toy", "trained"):
            pass


def test_two_trainings_of_one_name(workspace: Path, tiny_folder: Path, govor: Run) -> None:
    file = recipe_of(workspace, tiny_folder)
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, "models/whisper/toy"], stdout=subprocess.PIPE, text=True, cwd=workspace
    )
    try:
        assert holder.stdout and holder.stdout.readline() == "held\n"
        for options in ([], ["--overwrite"], ["--resume"]):
            done = govor("train", file, "--device", "cpu", *options, expect=2)
            assert f"is being trained by process {holder.pid}" in done.stderr and "Traceback" not in done.stderr
    finally:
        holder.kill()
        holder.wait()


# ---- an old run (T04)


@pytest.mark.parametrize("link", [False, True])
def test_an_old_run_that_cannot_be_deleted_never_comes_back_over_a_new_one(
    workspace: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch, link: bool
) -> None:
    file = recipe_of(workspace, tiny_folder)
    run, _ = trained(file)
    if link:
        run.rename(workspace / "far")
        run.symlink_to(workspace / "far")
    else:
        monkeypatch.setattr(files.shutil, "rmtree", lambda path, ignore_errors=False: None)
    _, told = trained(file, "finetune.seed=1", overwrite=True)
    record = (run / "run_manifest.json").read_text()
    with pytest.raises(GovorError, match="already exists"):
        trained(file)
    with pytest.raises(GovorError):
        trained(file, "data.split=nowhere", overwrite=True)
    assert (run / "run_manifest.json").read_text() == record and json.loads(record)["seed"] == 1
    if link:
        assert (workspace / "far/run_manifest.json").exists() and not run.is_symlink()
        assert any("was a link" in note for note in told.notes) and not leftovers(workspace / "models")
    else:
        assert any("could be deleted" in note for note in told.notes)


def test_a_refused_training_brings_the_old_run_back(
    workspace: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = recipe_of(workspace, tiny_folder)
    run, _ = trained(file)
    before = sorted(path.relative_to(run) for path in run.rglob("*"))
    monkeypatch.setattr("govor.finetune.train.standard_callbacks", lambda *_: (_ for _ in ()).throw(GovorError("late")))
    with pytest.raises(GovorError, match="late"):
        trained(file, overwrite=True)
    assert sorted(path.relative_to(run) for path in run.rglob("*")) == before
    assert not leftovers(workspace / "models")


def test_an_old_run_set_aside_by_a_killed_process_comes_back(workspace: Path, tiny_folder: Path) -> None:
    file = recipe_of(workspace, tiny_folder)
    run, _ = trained(file)
    run.rename(run.with_name(f".toy.{files.machine()}-{a_dead_process()}-1-abcd.aside"))
    run.mkdir()
    (run / "precision.json").write_text("{}")
    with pytest.raises(GovorError, match="already exists"):
        trained(file)
    assert (run / "run_manifest.json").exists() and not leftovers(workspace / "models")


def test_an_empty_folder_on_another_disk_is_trained_in_through_its_link(workspace: Path, tiny_folder: Path) -> None:
    (workspace / "far").mkdir()
    (workspace / "models/whisper").mkdir(parents=True)
    (workspace / "models/whisper/toy").symlink_to(workspace / "far")
    run, _ = trained(recipe_of(workspace, tiny_folder))
    assert run.is_symlink() and (workspace / "far/run_manifest.json").exists()


def test_a_folder_with_files_of_others_is_never_deleted_unasked(workspace: Path, tiny_folder: Path) -> None:
    file = recipe_of(workspace, tiny_folder)
    other = workspace / "models/whisper/toy/model.safetensors"
    other.parent.mkdir(parents=True)
    other.write_text("somebody's package")
    with pytest.raises(GovorError, match="already exists"):
        trained(file)
    assert other.read_text() == "somebody's package"


# ---- resuming (T06)


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path) -> Path:
    """A workspace with a run of two evaluations that was stopped after the first."""
    workspace = tmp_path_factory.mktemp("begun")
    before = Path.cwd()
    os.chdir(workspace)
    try:
        split = make_split(workspace)
        file = toy_recipe(split, tiny_folder, workspace / "toy.yaml")
        run, _ = trained(file)
    finally:
        os.chdir(before)
    run = workspace / run
    (run / "run_manifest.json").unlink()
    shutil.rmtree(run / "checkpoints/step-000006")
    return workspace


@pytest.fixture
def stopped(begun: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    workspace = tmp_path / "workspace"
    shutil.copytree(begun, workspace)
    split = workspace / "manifests/splits/toy"
    text = (workspace / "toy.yaml").read_text().replace(str(begun), str(workspace))
    (workspace / "toy.yaml").write_text(text)
    assert str(split) in text  # a run that was moved: the manifests are the same, their place is another
    monkeypatch.chdir(workspace)
    return workspace


@pytest.mark.parametrize(
    "setting",
    [
        "finetune.activation_checkpointing=true",
        "finetune.loader_workers=1",
        "finetune.max_batch_audio_seconds=2",
        "finetune.precision=auto",
        "evaluation.keep_best=1",
        "tracking.to=[tensorboard]",
        "acceptance.wer=0.5",
    ],
)
def test_what_changes_no_number_resumes(stopped: Path, setting: str, begun: Path) -> None:
    run, _ = trained(Path("toy.yaml"), setting, resume=True)
    record = json.loads((run / "run_manifest.json").read_text())
    (entry,) = record["resumed"]
    name, _, value = setting.partition("=")
    assert entry["after_step"] == 3 and not entry["changes_numbers"]
    assert [text for text in entry["changed"] if text.startswith(f"{name}: ") and value.strip("[]") in text]
    whole = read_metrics(begun / run, "train")
    assert [row["loss"] for row in read_metrics(run, "train")] == pytest.approx(
        [row["loss"] for row in whole], rel=1e-5
    )


@pytest.mark.parametrize(
    "setting",
    [
        "finetune.lr=0.0005",
        "evaluation.decode_clips=2",
        "finetune.precision=bf16",
        "finetune.clips_per_step=6",
        "finetune.groups={decoder: 0.001}",
        "evaluation.patience=2",
    ],
)
def test_what_changes_numbers_resumes_in_so_many_words_and_is_written_down(stopped: Path, setting: str) -> None:
    name = setting.partition("=")[0]
    with pytest.raises(GovorError, match=rf"another recipe \({name}.*--resume-changed"):
        trained(Path("toy.yaml"), setting, resume=True)
    run, told = trained(Path("toy.yaml"), setting, resume="changed")
    record = json.loads((run / "run_manifest.json").read_text())
    (entry,) = record["resumed"]
    assert entry["changes_numbers"] and any(text.startswith(name) for text in entry["changed"])
    assert any(note.startswith(f"changed since the run was begun: {name}") for note in told.notes)
    assert recipes.load(str(run / "recipe.yaml")) == recipes.load("toy.yaml", [setting])
    if name == "finetune.precision":
        assert record["precision"] == "bf16"


def test_a_row_left_out_afterwards_resumes_in_so_many_words(stopped: Path) -> None:
    manifest = stopped / "manifests/splits/toy/train.jsonl"
    manifest.write_text("".join(manifest.read_text().splitlines(keepends=True)[1:]))
    with pytest.raises(GovorError, match=r"have changed since .*--resume-changed"):
        trained(Path("toy.yaml"), resume=True)
    run, _ = trained(Path("toy.yaml"), resume="changed")
    record = json.loads((run / "run_manifest.json").read_text())
    assert record["data"]["toy/train"]["rows"] == 11 and record["resumed"][0]["changes_numbers"]


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (["finetune.method=lora"], "another model"),
        (["finetune.max_steps=2"], "has done 3 steps and the changed recipe ends after 2"),
    ],
)
def test_what_makes_no_sense_is_refused_all_the_same(stopped: Path, settings: Sequence[str], sentence: str) -> None:
    before = (stopped / "models/whisper/toy/recipe.yaml").read_text()
    with pytest.raises(GovorError, match=sentence):
        trained(Path("toy.yaml"), *settings, resume="changed")
    assert (stopped / "models/whisper/toy/recipe.yaml").read_text() == before


def test_a_setting_that_did_not_exist_when_the_run_was_begun_is_no_change(stopped: Path) -> None:
    import yaml

    file = stopped / "models/whisper/toy/recipe.yaml"
    values = yaml.safe_load(file.read_text())
    del values["finetune"]["label_smoothing"], values["acceptance"]
    file.write_text(yaml.safe_dump(values))
    recipe = recipes.load("toy.yaml")
    from govor.finetune.data import fingerprints

    changes = resume.changes(runs.Run(file.parent), recipe, fingerprints(runs.Workspace(), recipe))
    assert [change.name for change in changes if change.counts] == []


# ---- a clip that cannot be read (T07)


def spoil(manifest: Path, row: int) -> str:
    clip = [json.loads(line) for line in manifest.read_text().splitlines()][row]
    Path(clip["audio"]).write_bytes(b"no audio at all")
    return str(clip["id"])


def test_a_clip_that_cannot_be_read_is_left_out_and_listed(workspace: Path, tiny_folder: Path, govor: Run) -> None:
    file = recipe_of(workspace, tiny_folder)
    split = workspace / "manifests/splits/toy"
    bad = {spoil(split / "train.jsonl", 5), spoil(split / "validation.jsonl", 1)}
    done = govor(
        "train", file, "--device", "cpu", "--json", "--set", "evaluation.decode_clips=4", "--set",
        "finetune.loader_workers=1", expect=1,
    )  # fmt: skip
    run = workspace / "models/whisper/toy"
    rows = [json.loads(line) for line in (run / "dropped.jsonl").read_text().splitlines()]
    assert {row["row"]["id"] for row in rows} == bad and len(rows) == 2
    assert all(row["rule"] and row["message"] for row in rows)
    assert json.loads(done.stdout)["unreadable_clips"] == 2 and "2 clips could not be read" in done.stderr
    whole = [row["tokens"] for row in read_metrics(run, "train")]
    assert len(whole) == 6
    # The tokens that are taught are those of the other clips of the step, and so is the loss.
    (workspace / "other").mkdir()
    assert sum(int(str(tokens)) for tokens in whole) < sum(tokens_of_a_whole_run(workspace, tiny_folder))


def tokens_of_a_whole_run(workspace: Path, tiny_folder: Path) -> list[int]:
    other = workspace / "other"
    before = Path.cwd()
    os.chdir(other)
    try:
        file = toy_recipe(make_split(other), tiny_folder, other / "toy.yaml")
        run, _ = trained(file)
        return [int(str(row["tokens"])) for row in read_metrics(run, "train")]
    finally:
        os.chdir(before)


def test_a_step_without_a_readable_clip_changes_nothing(workspace: Path, tiny_folder: Path) -> None:
    file = recipe_of(workspace, tiny_folder, finetune={**FINETUNE, "clips_per_step": 1, "max_steps": 12})
    spoil(workspace / "manifests/splits/toy/train.jsonl", 5)
    run, _ = trained(file)
    steps = [row["step"] for row in read_metrics(run, "train")]
    assert len(steps) == 11 and (run / "run_manifest.json").exists()


def test_audio_that_is_gone_altogether_ends_the_run(workspace: Path, tiny_folder: Path) -> None:
    file = recipe_of(workspace, tiny_folder)
    for row in range(12):
        spoil(workspace / "manifests/splits/toy/train.jsonl", row)
    with pytest.raises(GovorError, match="None of 12 sampled training clips can be read"):
        trained(file)
    assert not (workspace / "models").exists()


# ---- signals (T14, T15)


def _heeding_ctrl_c() -> None:
    """What is started in the background of a shell ignores Ctrl-C, and passes that on."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def written(metrics: Path) -> int:
    lines = metrics.read_text().splitlines() if metrics.exists() else []
    return max((json.loads(line)["step"] for line in lines if line.endswith("}")), default=0)


LONG: dict[str, object] = {**FINETUNE, "epochs": 200, "loader_workers": 1, "dropout": 0.1}


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP"])
def test_a_signal_saves_and_says_how_to_go_on(
    workspace: Path, tiny_folder: Path, govor: Run, zygote: Zygote, name: str
) -> None:
    file = recipe_of(workspace, tiny_folder, finetune=LONG, evaluation={"evaluations": 2})
    run = workspace / "models/whisper/toy"
    words = ["train", file.name, "--set", "name=toy", "--overwrite", "--device", "cpu"]
    process = zygote.start(words, workspace, {})
    while process.poll() is None and written(run / "metrics.jsonl") < 4:
        time.sleep(0.01)
    os.killpg(process.pid, getattr(signal, name))  # the loader's workers hear it too
    _, err = process.communicate(120)
    assert process.returncode == 128 + getattr(signal, name), err
    assert "Traceback" not in err and f"{name}: finishing the step" in err
    (saved,) = runs.Run(run).whole_checkpoints()
    step = int(saved.name.removeprefix("step-"))
    assert step == written(run / "metrics.jsonl") and step < 300
    last = err.splitlines()[-1]
    assert last == (
        f"govor: {name}: models/whisper/toy is saved after step {step}; go on with: govor train toy.yaml --set name=toy "
        "--device cpu --resume"
    )
    if name == "SIGTERM":
        more = ["--set", f"finetune.max_steps={step + 3}"]
        govor(*last.partition("govor train")[2].split()[:0], "train", "toy.yaml", "--set", "name=toy", "--device", "cpu",
              "--resume-changed", *more)  # fmt: skip
        assert [row["step"] for row in read_metrics(run, "train")] == list(range(1, step + 4))
        assert all(
            json.loads((path / "state.json").read_text())["metrics"] for path in runs.Run(run).whole_checkpoints()
        )


def test_a_second_signal_ends_at_once(workspace: Path, tiny_folder: Path, zygote: Zygote) -> None:
    file = recipe_of(workspace, tiny_folder, finetune=LONG)
    code = (
        "import time\nfrom govor.finetune import checkpoints\n"
        "checkpoints.save = lambda *a, **k: time.sleep(60)\n"
        "from govor.cli import main\nmain()\n"
    )
    process = zygote.start(["train", str(file), "--device", "cpu"], workspace, {}, code)
    while process.poll() is None and written(workspace / "models/whisper/toy/metrics.jsonl") < 2:
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    time.sleep(0.5)
    assert process.poll() is None, "it is saving"
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 143


def test_an_interrupted_run_is_the_run_that_was_not(workspace: Path, tiny_folder: Path) -> None:
    """Stopped between evaluations, and at a step that was to be evaluated: the same losses, figures and checkpoints."""
    settings: dict[str, object] = {**FINETUNE, "epochs": 4, "dropout": 0.1}
    file = recipe_of(workspace, tiny_folder, finetune=settings, evaluation={"evaluations": 3})
    whole, _ = trained(file, "name=whole")

    class Interrupting(Silent):
        at: ClassVar[int] = 0

        def step(self, record: Any, total_steps: int) -> None:
            if record.step == self.at:
                os.kill(os.getpid(), signal.SIGTERM)

    from govor.finetune.stopping import Interrupted

    for at in (3, 8):
        Interrupting.at = at
        with pytest.raises(Interrupted, match=f"is saved after step {at}") as caught:
            train(runs.Workspace(), recipes.load(str(file), ["name=cut"]), Interrupting(), device="cpu", resume=at == 8)
        assert caught.value.exit_code == 143
    cut, _ = trained(file, "name=cut", resume=True)
    for kind in ("train", "eval"):
        rows = [[(row["step"], row["loss"]) for row in read_metrics(run, kind)] for run in (whole, cut)]
        assert rows[0] == rows[1]
    names = [[path.name for path in runs.Run(run).whole_checkpoints()] for run in (whole, cut)]
    assert names[0] == names[1]


def test_a_signal_before_the_first_step_brings_the_old_run_back(
    workspace: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from govor.finetune.stopping import Interrupted

    file = recipe_of(workspace, tiny_folder)
    run, _ = trained(file)
    record = (run / "run_manifest.json").read_text()
    monkeypatch.setattr("govor.finetune.session._trainer", lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(Interrupted, match="nothing was trained yet"):
        trained(file, overwrite=True)
    assert (run / "run_manifest.json").read_text() == record


def test_ignored_signals_stay_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    from govor.finetune.stopping import Stop

    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # what nohup does
    try:
        with Stop():
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_two_processes_stop_together(workspace: Path, tiny_folder: Path, zygote: Zygote) -> None:
    file = recipe_of(workspace, tiny_folder, finetune={**LONG, "clips_per_step": 4}, evaluation={"evaluations": 2})
    run = workspace / "models/whisper/toy"
    torchrun = ["--standalone", "--nproc-per-node", "2", "-m", "govor", "train", file.name, "--device", "cpu"]
    process = zygote.start(torchrun, workspace, {}, TORCHRUN)
    while process.poll() is None and written(run / "metrics.jsonl") < 3:
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)  # to the launcher, which sends it on
    _, err = process.communicate(120)
    (saved,) = runs.Run(run).whole_checkpoints()
    step = int(saved.name.removeprefix("step-"))
    assert step == written(run / "metrics.jsonl")
    assert f"is saved after step {step}; go on with: govor train toy.yaml --device cpu --resume" in err


def test_ctrl_c_of_any_command_says_what_is_kept(workspace: Path) -> None:
    code = (
        "import os, signal, sys\nfrom govor import cli\n"
        "from govor import recipe\n"
        "recipe.load = lambda *a: os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.argv = ['govor', 'train', 'whisper']\ncli.main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        cwd=workspace,
        preexec_fn=_heeding_ctrl_c,
    )
    assert (done.returncode, done.stderr) == (130, "govor: interrupted; what was finished is kept.\n")


# ---- the checklist (T16)


def test_the_checklist_stands_before_the_first_step_with_figures(workspace: Path, tiny_folder: Path) -> None:
    _, told = trained(recipe_of(workspace, tiny_folder))
    lines = {note.partition(":")[0]: note for note in told.notes if note.startswith("check ")}
    assert list(lines) == ["check manifests", "check audio", "check folder", "check disk", "check GPU memory"]
    assert "12 training clips" in lines["check manifests"] and "12 of 12 sampled clips" in lines["check audio"]
    assert "MiB free" in lines["check disk"] or "GiB free" in lines["check disk"]


def test_a_disk_without_room_for_the_checkpoints_is_refused(
    workspace: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = recipe_of(workspace, tiny_folder)
    run, _ = trained(file)
    (_, last) = runs.Run(run).whole_checkpoints()
    one = sum(path.stat().st_size for path in last.iterdir())
    plain = shutil.disk_usage(workspace)
    for free, fits in ((int(1.9 * one), False), (int(2.1 * one), True)):
        monkeypatch.setattr(checklist.shutil, "disk_usage", lambda _, free=free: plain._replace(free=free))
        if fits:
            trained(file, "name=other", overwrite=True)
        else:
            with pytest.raises(GovorError, match="MiB free and this run's checkpoints"):
                trained(file, "name=other")
            assert not Path("models/whisper/other").exists()
    monkeypatch.setattr(checklist.shutil, "disk_usage", lambda _: plain._replace(free=one // 10))
    trained(file, overwrite=True)  # the old run makes room


# ---- packages (T17, T19)


@pytest.mark.parametrize("stage", ["verify", "ct2", "model_card"])
def test_a_package_stands_until_the_new_one_is_whole(
    workspace: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    from govor.families.whisper.exports import CTranslate2, Transformers
    from govor.package import build

    if stage == "ct2":
        pytest.importorskip("ctranslate2")
    run, _ = trained(recipe_of(workspace, tiny_folder))
    formats: list[Any] = ["hf", "ct2"] if stage == "ct2" else ["hf"]
    build.package(runs.Run(run), formats, None)
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}

    def fail(*_: object) -> None:
        raise GovorError("broken")

    with monkeypatch.context() as patch:
        places = {
            "verify": (Transformers, "verify"),
            "ct2": (CTranslate2, "write"),
            "model_card": (build, "model_card"),
        }
        patch.setattr(*places[stage], fail)
        with pytest.raises(GovorError, match="broken"):
            build.package(runs.Run(run), formats, "step-000003")
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_a_killed_package_leaves_nothing_for_ever(
    workspace: Path, tiny_folder: Path, govor: Run, zygote: Zygote
) -> None:
    run, _ = trained(recipe_of(workspace, tiny_folder))
    code = (
        "import os, signal, sys\nfrom pathlib import Path\nfrom govor import files, runs\nfrom govor.package import build\n"
        "plain, count = files.put_in_place, int(sys.argv[1])\n"
        "def put(*a, **k):\n"
        "    global count\n"
        "    count -= 1\n"
        "    if count < 0: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return plain(*a, **k)\n"
        "files.put_in_place = build.put_in_place = put\n"
        "build.package(runs.Run(Path('models/whisper/toy')), ['hf'], None)\n"
    )
    for moves in (0, 3):
        ended = zygote.run([moves], workspace, {}, code)
        assert ended.returncode == -signal.SIGKILL and not (run / "package.json").exists()
    (run / ".hf").mkdir()  # of earlier versions
    (run / ".hf.12345678.tmp").mkdir()
    (run / "checkpoints/.best.json.12345678.tmp").touch()
    done = govor("package", run)
    assert not leftovers(run) and not leftovers(run.parent) and (run / "package.json").exists()
    assert f"next  govor transcribe {run} AUDIO" in done.stderr


# ---- ranks, notes, logs (O02, O04, O11, O12, O15)


def checkpoint(folder: Path, step: int, **metrics: float | None) -> None:
    path = folder / f"step-{step:06d}"
    path.mkdir(parents=True)
    (path / "state.json").write_text(json.dumps({"step": step, "metrics": metrics, "data_sha256": ""}))


def test_of_equal_metrics_the_lower_loss_is_best(tmp_path: Path) -> None:
    run = runs.Run(tmp_path)
    for step, (wer, loss) in enumerate(
        [(0.5, 1.0), (0.4, 0.9), (0.4, 0.7), (0.4, 0.7), (0.6, 0.5), (None, 0.1)], start=1
    ):
        checkpoint(run.checkpoints, step, wer=wer, loss=loss)
    assert [path.name[-1] for path in checkpoints.best_by(run, Metric("wer", "lower"))] == [
        "3",
        "4",
        "2",
        "1",
        "5",
        "6",
    ]


def test_a_metric_that_is_never_measured_is_said(
    workspace: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from govor.finetune.validation import Validation

    monkeypatch.setattr(Validation, "_rates", lambda *_: {"wer": None, "cer": None})
    file = recipe_of(workspace, tiny_folder, evaluation={"metric": "wer", "decode_clips": 2})
    run, told = trained(file)
    said = [note for note in told.notes if "wer could not be measured" in note]
    assert len(said) == 1 and "ranked by loss" in said[0]
    best = json.loads((run / "checkpoints/best.json").read_text())["checkpoint"]
    assert best == checkpoints.best_by(runs.Run(run), LOSS)[0].name


def test_a_log_moves_between_evaluations(workspace: Path, tiny_folder: Path, govor: Run) -> None:
    file = recipe_of(workspace, tiny_folder, finetune={**FINETUNE, "epochs": 20}, evaluation={"evaluations": 1})
    done = govor("train", file, "--device", "cpu")
    lines = [line for line in done.stderr.splitlines() if line.startswith("step ") and " of 60" in line]
    assert 10 <= len(lines) <= 25 and all("loss " in line and "left " in line for line in lines[1:])


def test_names_are_no_markup_and_commands_can_be_pasted(capsys: pytest.CaptureFixture[str]) -> None:
    import shlex

    from govor.cli import console

    with console.bar("transcribe [live] [/x]", 1) as bar:
        bar.advance()
    console.table("phase [/x]: [live]", [{"[bold]": "[red]a[/]", "b": 1}])
    shown = capsys.readouterr().err
    assert "transcribe [live] [/x]" in shown and "phase [/x]: [live]" in shown
    assert "[bold]" in shown and "[red]a[/]" in shown
    words = ["govor", "evaluate", "models/my run [x]", "--manifest", "ša'b;rm -rf $HOME/a.jsonl"]
    assert shlex.split(console.command(*words)) == words


def test_a_phase_may_be_called_what_looks_like_markup(workspace: Path, tiny_folder: Path, govor: Run) -> None:
    phases = [{"name": "[/x]", "epochs": 1}, {"name": "[live] a", "epochs": 1}]
    file = recipe_of(workspace, tiny_folder, finetune={**FINETUNE, "phases": phases})
    done = govor("train", file, "--device", "cpu")
    assert "phase [/x]: steps 1 to 3" in done.stderr and "phase [live] a" in done.stderr


def test_spaces_in_names_are_quoted_in_the_next_command(workspace: Path, tiny_folder: Path, govor: Run) -> None:
    split = make_split(workspace, name="moj skup [1]")
    file = toy_recipe(split.relative_to(workspace), tiny_folder, workspace / "toy.yaml")
    done = govor("train", file, "--device", "cpu")
    assert (
        "next  govor evaluate models/whisper/toy --manifest 'manifests/splits/moj skup [1]/test.jsonl'" in done.stderr
    )


@pytest.mark.parametrize("stated", ["Bosnian", "bos", "bosanski", "bs"])
def test_a_recipes_language_and_tracker_are_understood(
    workspace: Path, tiny_folder: Path, govor: Run, stated: str
) -> None:
    file = recipe_of(workspace, tiny_folder)
    govor("train", file, "--set", f"examples.language={stated}", "--set", "tracking.to=tensorboard", "--device", "cpu")
    record = json.loads(Path("models/whisper/toy/run_manifest.json").read_text())
    assert record["language_token"] == record["recipe"]["examples"]["language"] == "bs"
    assert list(Path("models/whisper/toy/tracking/tensorboard").iterdir())
    refused = govor("train", file, "--overwrite", "--set", "examples.language=Bosnisch1", "--device", "cpu", expect=2)
    assert "'Bosnisch1' is no language code or name of a language" in refused.stderr


@pytest.mark.parametrize("part", ["", "/checkpoints/step-000006"])
def test_an_unpackaged_run_is_a_base_model(workspace: Path, tiny_folder: Path, govor: Run, part: str) -> None:
    file = recipe_of(workspace, tiny_folder)
    run, _ = trained(file)
    done = govor("train", file, "--set", "name=second", "--set", f"base_model={run}{part}", "--device", "cpu")
    assert f"of {run} a model of its own" in done.stderr
    began, ended = (read_metrics(Path("models/whisper/second"), "eval")[0], read_metrics(run, "eval")[-1])
    assert began["step"] == 0 and began["loss"] == pytest.approx(ended["loss"], rel=1e-5)


def test_the_log_has_memory_and_utilisation_without_a_gpu(workspace: Path, tiny_folder: Path) -> None:
    trained(recipe_of(workspace, tiny_folder))
    rows = [json.loads(line) for line in Path("logs/training/toy.log").read_text().splitlines()]
    steps = [row for row in rows if row["message"] == "step"]
    assert steps and all(row["gpu_utilization"] is None and row["memory"] is None for row in steps)
