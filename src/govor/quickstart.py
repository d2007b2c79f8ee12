"""The whole main job once, by the same stages as everybody: real speech or one's own → a model that is measurably better."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from govor import recipe as recipes
from govor.corpus import fillets
from govor.corpus.formats import read_source
from govor.corpus.inventory import Statement
from govor.corpus.manifests import Manifest, read_clips, write_clips, write_rows
from govor.corpus.normalize import normalize_clips
from govor.corpus.records import Clip
from govor.corpus.validate import Checks, Limits, validate
from govor.errors import GovorError
from govor.files import sha256_of_lines
from govor.finetune.begun import Standing, standing
from govor.finetune.request import shortened
from govor.jsons import write_json
from govor.progress import SILENT, Progress, counted
from govor.recipe import Recipe
from govor.runs import Json, Run, Workspace

# The test set is what scoring takes its time from: enough clips for an interval, few enough for two cores.
_MAX_TEST_CLIPS = 150
_MIN_CLIPS = 12
_LONGEST_PLAIN_NAME = 80


@dataclass(frozen=True, slots=True)
class Wish:
    """What is asked for: recordings in `audio` with their language, or real Czech speech by default.

    `overrides` are `NAME=VALUE` of the recipe `quickstart`; `small` is a handful of clips and two steps.
    """

    audio: Path | None = None
    language: str | None = None
    license: str | None = None
    base_model: str | None = None
    overrides: tuple[str, ...] = ()
    small: bool = False
    overwrite: bool = False

    @property
    def name(self) -> str:
        """What the run and its folders are called."""
        if self.audio is None:
            return "quickstart"
        name = self.audio.resolve().name
        plain = "".join(letter if letter.isascii() and (letter.isalnum() or letter in "-_") else "-" for letter in name)
        plain = plain.strip("-")
        if plain == name and len(name) < _LONGEST_PLAIN_NAME:
            return f"quickstart-{plain}"
        # Two folders whose names look alike in plain letters must not share a run.
        return f"quickstart-{plain[:60]}{sha256_of_lines([str(self.audio.resolve())])[:8]}"

    def recipe(self, split: str) -> Recipe:
        """The recipe of the run on a split.

        Raises:
            GovorError: a setting is wrong.
        """
        chosen = [f"base_model={self.base_model}"] if self.base_model else []
        recipe = recipes.load("quickstart", [f"name={self.name}", f"data.split={split}", *chosen, *self.overrides])
        return shortened(recipe) if self.small else recipe


@dataclass(frozen=True, slots=True)
class Quickstarted:
    """What came of it: the run and its recipe, the report's page, the test manifest, before and after, one clip (id and text)
    as the package transcribes it, and how long it all took."""

    run: Run
    recipe: Recipe
    page: Path
    test: Path
    headline: Json
    spoken: tuple[str, str]
    seconds: float


def quickstart(workspace: Workspace, wish: Wish, progress: Progress = SILENT) -> Quickstarted:
    """manifest → validate → normalise → split → score → fine-tune → score → compare → report → package → transcribe.

    What an earlier call finished is reused.

    Raises:
        GovorError: too few recordings can be used, or a run of that name is of other data or settings.
    """
    started = time.perf_counter()
    wish.recipe("later")  # a slip in the settings is told before the work that comes before training
    clips = _corpus(workspace, wish, progress)
    split = _split(workspace, clips, wish, progress)
    recipe, test = wish.recipe(workspace.as_given(split)), split / "test.jsonl"
    begun = standing(workspace, recipe)
    if begun == "other" and not (wish.overwrite or wish.small):
        raise GovorError(
            f"models/{recipe.family}/{recipe.name} was trained on other data or with other settings; give --overwrite to "
            "train it anew, or another name (--set name=…)."
        )
    before = _scores(workspace, recipe.base_model, test, progress)
    run = _train(workspace, recipe, begun, progress)
    after = _scores(workspace, str(run.folder), test, progress)
    from govor.measure.headline import add_to_headline
    from govor.measure.report.build import report

    _begin("compare", progress)
    pairs = {context: (before[context], after[context]) for context in before if context in after}
    headline = add_to_headline(workspace, recipe.name, pairs, True, progress)
    _begin("report", progress)
    page = report(run, overwrite=True)
    spoken = _package(run, test, progress)
    return Quickstarted(run, recipe, page, test, headline, spoken, time.perf_counter() - started)


def _begin(stage: str, progress: Progress) -> None:
    progress.note(f"── {stage}")


def _corpus(workspace: Workspace, wish: Wish, progress: Progress) -> list[Clip]:
    """Manifest, validated and normalised clips, with what was dropped written down."""
    folder = workspace.manifests / wish.name
    dropped: list[Json] = []
    source = _source(workspace, wish, dropped, progress)
    unread = len(dropped)
    write_clips(folder / "manifest.jsonl", source)
    _begin("validate and normalise", progress)
    valid: list[Clip] = []
    # Nothing is sliced here, so what is longer than a window is left out.
    checks, rows = Checks(Limits(max_seconds=30.0)), (clip.to_row() for clip in source)
    with progress.bar("validate", len(source)) as bar:
        for report in validate(workspace, rows, checks, valid.append, dropped.append):
            bar.to(report.inventory, len(source))
    for sentence in report.advice():
        progress.note(sentence)
    clips = [_stated(clip) for clip in normalize_clips(valid, Counter()) if clip.transcript]
    write_clips(folder / "normalized.jsonl", clips)
    write_rows(folder / "dropped.jsonl", dropped)
    write_json(folder / "validation_report.json", report.as_dict())
    where = workspace.as_given(folder / "dropped.jsonl")
    progress.note(f"kept {len(clips)} of {len(source) + unread} clips; the rest stands in {where} with reasons")
    if len(clips) < _MIN_CLIPS:
        why = f" (first reason: {dropped[0]['rule']}: {dropped[0]['message']})" if dropped else ""
        raise GovorError(
            f"{len(clips)} usable clips were found and at least {_MIN_CLIPS} are needed{why}; add recordings with their x.txt beside them."
        )
    return clips


def _source(workspace: Workspace, wish: Wish, dropped: list[Json], progress: Progress) -> list[Clip]:
    """The recordings as clips; what cannot be read goes to `dropped`."""
    if wish.audio is not None and wish.license is None:
        progress.note(
            "licence: taken as your own recordings where none is stated beside them (--license says otherwise)"
        )
    _begin("manifest", progress)
    if wish.audio is None:
        return list(read_clips(fillets.prepare(progress.note)))
    if wish.language is None:
        raise GovorError("The language of the recordings is not stated; give --language, for example --language he.")
    statement = Statement(wish.language, wish.license)
    clips = read_source(workspace, wish.audio, statement, dropped.append, notice=progress.note)
    return list(counted(clips, progress, "manifest", None))


def _stated(clip: Clip) -> Clip:
    return clip if clip.license else clip.replace(license="own")


def _split(workspace: Workspace, clips: list[Clip], wish: Wish, progress: Progress) -> Path:
    """A test set of unseen sources; two speakers say most of the Czech lines, so speakers may cross there."""
    from govor.corpus.split import SplitSettings, split, write_split

    own = wish.audio is not None
    hours = sum(clip.duration for clip in clips)
    share = min(0.1, _MAX_TEST_CLIPS / len(clips))
    settings = SplitSettings(test_share=share, validation_share=share / 2, allow_overlap=() if own else ("speaker",))
    _begin("split", progress)
    try:
        division = split(clips, settings)
    except GovorError as error:
        if not own:
            raise
        progress.note(f"warning: {error}")
        progress.note(
            "going on with overlapping sources and speakers: scores on unseen speakers will be worse than shown"
        )
        wider = settings.model_copy(update={"allow_overlap": ("speaker", "source"), "test_share": max(share, 0.1)})
        division = split(clips, wider)
    target = workspace.manifests / "splits" / (f"{wish.name}-fast-dev" if wish.small else wish.name)
    write_split(target, division, {"validation": 8, "test": 8} if wish.small else None)
    counts = ", ".join(f"{part} {values['clips']}" for part, values in division.proof["parts"].items())
    crossing = [kind for kind, pairs in division.proof["overlaps"].items() if any(pairs.values())]
    progress.note(f"{counts} clips of {hours / 3600:.2f} h; crossing: {', '.join(crossing) or 'nothing'} (proof.json)")
    return target


def _scores(workspace: Workspace, model: str, test: Path, progress: Progress) -> dict[str, Path]:
    """Score padded and on the speech, or reuse scorings of the same model on the same clips."""
    from govor.families.opening import scored_name
    from govor.measure.evaluate import EvalOptions, evaluate
    from govor.measure.lines import failed_lines, score_lines
    from govor.measure.scoring import ClipSet

    _begin(f"score {scored_name(model)}", progress)
    # By the bare search: what an untouched model does on bare speech shall be seen, and drawing its loops again takes long.
    options = EvalOptions(existing="renew", plain=True)
    scored = evaluate(workspace, model, ClipSet.read(workspace, test), options, progress)
    for one in scored:
        for line in [] if one.reused else [score_lines(one.result), *failed_lines([one.result])]:
            progress.note(line)
    return {one.result["context"]: one.file for one in scored}


def _train(workspace: Workspace, recipe: Recipe, begun: Standing, progress: Progress) -> Run:
    """Train, go on with what was interrupted, or reuse a finished run of the same recipe and data."""
    from govor.finetune.reporting import shown_in
    from govor.finetune.train import train

    run = workspace.run(recipe.family, recipe.name)
    _begin(f"fine-tune {recipe.base_model}", progress)
    if begun == "finished":
        progress.note(f"reusing {workspace.as_given(run.folder)}")
        return run
    with shown_in(progress, f"train {recipe.name}") as shown:
        finished = train(workspace, recipe, shown, resume=begun == "begun", overwrite=begun == "other")
    for line in finished.warnings():
        progress.note(line)
    return run


def _package(run: Run, test: Path, progress: Progress) -> tuple[str, str]:
    """Package the run and transcribe one held-out clip with the package."""
    from govor.families.opening import open_model
    from govor.package.build import package
    from govor.timing.longform import transcribe_recording
    from govor.timing.transcribe import options_for

    _begin("package", progress)
    if not run.packaged:
        checks = package(run, ["hf"]).checks["hf"]
        progress.note(
            f"stock transformers gives the trained logits on {checks['clips']} clips (difference {checks['max_logit_difference']:.1e})"
        )
    clip = Manifest(test, run.workspace.root)[0]
    opened = open_model(str(run.folder), workspace=run.workspace)
    pieces = transcribe_recording(opened.recogniser, clip.file, options_for(opened, clip.language, previous=False))
    return clip.id, " ".join(piece.text for piece in pieces)
