"""quickstart: the whole main job once, on real speech or one's own."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from govor.cli import console
from govor.cli.models import check_model
from govor.cli.options import Language, License, examples, workspace

if TYPE_CHECKING:
    from govor.corpus.records import Clip
    from govor.recipe import Recipe

# The test set is what scoring takes its time from: enough clips for an interval, few enough for two cores.
_MAX_TEST_CLIPS = 150
_MIN_CLIPS = 12


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        epilog=examples(
            "govor quickstart",
            "govor quickstart --audio recordings/ --language he",
            "govor quickstart --fast-dev-run",
        )
    )(quickstart)


def quickstart(
    audio: Annotated[
        Path | None,
        typer.Option("--audio", help="A folder of x.wav + x.txt; real Czech speech by default.", show_default=False),
    ] = None,
    language: Language = None,
    license: License = None,
    base_model: Annotated[str | None, typer.Option(help="Another model than the recipe's.", show_default=False)] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Override a setting of the recipe.", show_default=False),
    ] = None,
    fast_dev_run: Annotated[bool, typer.Option(help="A handful of clips and two steps, in a minute or two.")] = False,
    overwrite: Annotated[bool, typer.Option(help="Train anew although a run of that name exists.")] = False,
) -> None:
    """Do the main job end to end: a real Whisper gets better at real speech, with proof.

    manifest → validate → normalise → split → score → fine-tune → score → compare → package → transcribe. What an
    earlier call finished is reused.
    """
    from govor import recipe as recipes
    from govor.errors import GovorError
    from govor.finetune.begun import standing as how_far

    started = time.perf_counter()
    name = "quickstart" if audio is None else _name(audio)
    # A slip in the settings is told before the work that comes before training.
    recipes.load("quickstart", [f"name={name}", "data.split=later", *(set_ or [])])
    check_model(base_model or "openai/whisper-base")
    clips = _corpus(audio, language, license)
    split = _split(clips, name, fast_dev_run, guessed=audio is not None)
    recipe = _recipe(name, split, base_model, set_ or [], fast_dev_run)
    test = split / "test.jsonl"

    standing = how_far(workspace(), recipe)
    if standing == "other" and not (overwrite or fast_dev_run):
        raise GovorError(
            f"models/{recipe.family}/{recipe.name} was trained on other data or with other settings; give --overwrite to "
            "train it anew, or another name (--set name=…)."
        )
    before = _scores(recipe.base_model, test)
    run = _train(recipe, standing)
    after = _scores(str(run), test)
    headline = _headline(recipe.name, before, after)
    from govor.measure.report.build import report
    from govor.runs import Run

    with _stage("report"):
        page = Path(workspace().relative(report(Run(run, workspace()), overwrite=True)))
    spoken = _package(run, test, headline)
    console.say()
    _table(headline)
    _examples(headline)
    console.say(f"transcribed by the package  {spoken['id']}: {spoken['text']}")
    _next(run, page, test, recipe, time.perf_counter() - started)


def _name(audio: Path) -> str:
    plain = "".join(
        letter if letter.isascii() and (letter.isalnum() or letter in "-_") else "-" for letter in audio.resolve().name
    )
    name = audio.resolve().name
    told = plain.strip("-")
    # Two folders whose names look alike in plain letters must not share a run.
    return f"quickstart-{told}" if told == name and len(name) < 80 else f"quickstart-{told[:60]}{_short_hash(audio)}"


def _short_hash(audio: Path) -> str:
    from govor.files import sha256_of_lines

    return sha256_of_lines([str(audio.resolve())])[:8]


@contextmanager
def _stage(title: str) -> Iterator[None]:
    console.note(f"── {title}")
    yield


def _corpus(audio: Path | None, language: str | None, license: str | None) -> list[Clip]:
    """Manifest, validated and normalised clips, with what was dropped written down."""
    from collections import Counter

    from govor.corpus import fillets
    from govor.corpus.formats import read_source
    from govor.corpus.inventory import Statement
    from govor.corpus.manifests import read_clips, write_clips, write_rows
    from govor.corpus.normalize import normalize_clips
    from govor.corpus.validate import Checks, Limits, validate
    from govor.errors import GovorError
    from govor.jsons import write_json
    from govor.runs import Workspace

    folder = Path("manifests") / ("quickstart" if audio is None else _name(audio))
    if audio is not None and license is None:
        console.note(
            "licence: taken as your own recordings where none is stated beside them (--license says otherwise)"
        )
    kept: list[Clip] = []
    dropped: list[dict[str, Any]] = []
    with _stage("manifest"):
        if audio is None:
            source = list(read_clips(fillets.prepare(console.note)))
        elif language is None:
            raise GovorError(
                "The language of the recordings is not stated; give --language, for example --language he."
            )
        else:
            source = list(
                console.counted(
                    read_source(Workspace(), audio, Statement(language, license), dropped.append, notice=console.note),
                    "manifest",
                    None,
                )
            )
        unread = len(dropped)
        write_clips(folder / "manifest.jsonl", source)
    with _stage("validate and normalise"):
        rows = (clip.to_row() for clip in source)
        # Nothing is sliced here, so what is longer than a window is left out.
        with console.bar("validate", len(source)) as shown:
            for running in validate(Workspace(), rows, Checks(Limits(max_seconds=30.0)), kept.append, dropped.append):
                shown.to(running.inventory, len(source))
                report = running.as_dict()
        for sentence in running.advice():
            console.note(sentence)
        counts: Counter[str] = Counter()
        clips = [_stated(clip) for clip in normalize_clips(kept, counts) if clip.transcript]
        write_clips(folder / "normalized.jsonl", clips)
        write_rows(folder / "dropped.jsonl", dropped)
        write_json(folder / "validation_report.json", report)
    console.note(
        f"kept {len(clips)} of {len(source) + unread} clips; the rest stands in {folder / 'dropped.jsonl'} with reasons"
    )
    if len(clips) < _MIN_CLIPS:
        why = f" (first reason: {dropped[0]['rule']}: {dropped[0]['message']})" if dropped else ""
        raise GovorError(
            f"{len(clips)} usable clips were found and at least {_MIN_CLIPS} are needed{why}; add recordings with their x.txt beside them."
        )
    return clips


def _stated(clip: Clip) -> Clip:
    return clip if clip.license else clip.replace(license="own")


def _split(clips: list[Clip], name: str, small: bool, guessed: bool) -> Path:
    """A test set of unseen sources; two speakers say most of the Czech lines, so speakers may cross there."""
    from govor.corpus.split import SplitSettings, split, write_split
    from govor.errors import GovorError

    hours = sum(clip.duration for clip in clips)
    share = min(0.1, _MAX_TEST_CLIPS / len(clips))
    settings = SplitSettings(
        test_share=share, validation_share=share / 2, allow_overlap=() if guessed else ("speaker",)
    )
    with _stage("split"):
        try:
            division = split(clips, settings)
        except GovorError as error:
            if not guessed:
                raise
            console.note(f"warning: {error}")
            console.note(
                "going on with overlapping sources and speakers: scores on unseen speakers will be worse than shown"
            )
            wider = settings.model_copy(update={"allow_overlap": ("speaker", "source"), "test_share": max(share, 0.1)})
            division = split(clips, wider)
        target = Path("manifests") / "splits" / (f"{name}-fast-dev" if small else name)
        write_split(target, division, {"validation": 8, "test": 8} if small else None)
    counts = ", ".join(f"{part} {values['clips']}" for part, values in division.proof["parts"].items())
    crossing = [kind for kind, pairs in division.proof["overlaps"].items() if any(pairs.values())]
    console.note(f"{counts} clips of {hours / 3600:.2f} h; crossing: {', '.join(crossing) or 'nothing'} (proof.json)")
    return target


def _recipe(name: str, split: Path, base_model: str | None, overrides: list[str], small: bool) -> Recipe:
    from govor import recipe as recipes
    from govor.finetune.request import shortened

    fixed = [f"name={name}", f"data.split={split.as_posix()}"]
    chosen = [f"base_model={base_model}"] if base_model else []
    recipe = recipes.load("quickstart", [*fixed, *chosen, *overrides])
    return shortened(recipe) if small else recipe


def _scores(model: str, test: Path) -> dict[str, Path]:
    """Score padded and on the speech, or reuse scorings of the same model on the same clips."""
    from govor.cli.summary import tell_failed
    from govor.families.opening import scored_name
    from govor.measure.evaluate import EvalOptions, evaluate
    from govor.measure.lines import score_line
    from govor.measure.scoring import ClipSet

    with _stage(f"score {scored_name(model)}"):
        scored = evaluate(workspace(), model, ClipSet.read(workspace(), test), EvalOptions(existing="renew"), console)
        for one in scored:
            if not one.reused:
                console.note(score_line(one.result))
                tell_failed([one.result])
    return {one.result["context"]: one.file for one in scored}


def _train(recipe: Recipe, standing: str) -> Path:
    """Train, go on with what was interrupted, or reuse a finished run of the same recipe and data."""
    from govor.cli.finetune import run_training, tell_unread
    from govor.finetune.request import Request

    run = workspace().run(recipe.family, recipe.name).folder
    with _stage(f"fine-tune {recipe.base_model}"):
        if standing == "finished":
            console.note(f"reusing {run}")
        else:
            request = Request(recipe, resume=standing == "begun", overwrite=standing == "other")
            tell_unread(run_training(request))
    return run


def _headline(run: str, before: dict[str, Path], after: dict[str, Path]) -> dict[str, Any]:
    from govor.measure.headline import add_to_headline

    with _stage("compare"):
        pairs = {context: (before[context], after[context]) for context in before}
        return add_to_headline(workspace(), run, pairs, True, console)


def _package(run: Path, test: Path, headline: dict[str, Any]) -> dict[str, str]:
    """Package the run and transcribe one held-out clip with the package."""
    from govor.corpus.manifests import Manifest
    from govor.families.opening import open_model
    from govor.package.build import package
    from govor.runs import Run
    from govor.timing.longform import transcribe_recording
    from govor.timing.transcribe import options_for

    with _stage("package"):
        if not (run / "package.json").exists():
            checks = package(Run(run), ["hf"]).checks["hf"]
            console.note(
                f"stock transformers gives the trained logits on {checks['clips']} clips (difference {checks['max_logit_difference']:.1e})"
            )
        clip = Manifest(test)[0]
        opened = open_model(str(run))
        heard = transcribe_recording(opened.recogniser, clip.file, options_for(opened, clip.language, previous=False))
        text = " ".join(piece.text for piece in heard)
    return {"id": clip.id, "text": text}


def _table(headline: dict[str, Any]) -> None:
    from rich.markup import escape
    from rich.table import Table

    from govor.metrics.compare import format_p

    table = Table(title=f"{escape(headline['run'])}: word error rate on unseen clips, with 95 % intervals")
    for column in ("audio context", "before", "after", "change", "paired p", "CER before", "CER after"):
        table.add_column(column, justify="left" if column == "audio context" else "right")
    for context, item in headline["contexts"].items():
        wer = item["comparison"]["wer"]
        change = "n/a" if wer["relative_change"] is None else f"{wer['relative_change']:+.1%}"
        sides = [_rate(item[side], "wer") for side in ("before", "after")]
        letters = ["n/a" if item[side]["cer"] is None else f"{item[side]['cer']:.3f}" for side in ("before", "after")]
        table.add_row(context, *sides, change, format_p(wer["p_value"]), *letters)
    console.out.print(table)
    first = next(iter(headline["contexts"].values()))
    console.say(f"{first['after']['clips']} clips; {first['after']['interval']['note']}")
    if first["after"].get("about_words"):
        console.say(first["after"]["about_words"])


def _rate(summary: dict[str, Any], name: str) -> str:
    value, spread = summary[name], summary[f"{name}_interval"]
    if value is None:
        return "n/a"
    return f"{value:.3f}" + (f" [{spread[0]:.3f}, {spread[1]:.3f}]" if spread else "")


def _examples(headline: dict[str, Any]) -> None:
    """Three clips from the quarters of the list, not picked for looks."""
    from govor.measure.scoring import read_eval
    from govor.metrics.recognition import by_id

    files = headline["contexts"]["padded"]["files"]
    before, after = (by_id(read_eval(Path(files[side]))[1], side) for side in ("before", "after"))
    names = sorted(after)
    console.say("\nThree clips, taken evenly from the test set (padded):")
    for share in (1, 2, 3):
        name = names[len(names) * share // 4]
        for label, text in (
            ("reference", after[name]["reference"]),
            ("before", before[name]["hypothesis"]),
            ("after", after[name]["hypothesis"]),
        ):
            console.say(f"  {label:<10}{text}")
        console.say()


def _next(run: Path, page: Path, test: Path, recipe: Recipe, seconds: float) -> None:
    longer, split = f"{recipe.name}-longer", ["--set", f"data.split={recipe.data.split}"]
    lines = [
        f"\nreport   {page}   (open it in a browser)",
        f"model    {run}",
        f"time     {seconds / 60:.1f} min",
        "\nNext:",
        f"  {console.command('govor', 'transcribe', run, 'YOUR.wav')}",
        f"  {console.command('govor', 'train', 'quickstart', '--set', f'name={longer}', *split, '--set', 'finetune.epochs=6')}",
        f"  {console.command('govor', 'evaluate', f'models/{recipe.family}/{longer}', '--manifest', test)}",
        "  govor quickstart --audio YOUR_FOLDER --language xx",
    ]
    console.say("\n".join(lines))
