"""evaluate --hallucination, --timestamps: what a scoring of texts does not show."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from govor.cli import console
from govor.cli.models import EngineName, PrecisionName, check_model, open_model
from govor.runs import Workspace

ContextName = Literal["padded", "speech"]


def run_hallucination(
    model: str,
    contexts: Sequence[ContextName],
    engine: EngineName,
    precision: PrecisionName,
    device: str,
    overwrite: bool,
    as_json: bool,
) -> None:
    """What a model writes for silence, noise and music, in each context."""
    from govor.corpus.vad import open_vad
    from govor.files import refuse_existing
    from govor.jsons import write_json

    check_model(model, engine, device)
    from govor.measure.hallucination import measure, sentence  # only now: it imports torch

    opened = open_model(model, engine, precision, device)
    detector = open_vad("auto", console.note)
    suffix = "-ct2" if engine == "ct2" else ""
    made, found = [], []
    for context in contexts:
        target = Workspace().evals / f"{opened.name}{suffix}__hallucination__{context}.json"
        refuse_existing(target, overwrite, "--overwrite to measure it again")
        with console.bar(f"listen to nothing, {context}", None) as bar:
            result = measure(opened.recogniser, opened.language, context, detector, bar.advance)
        result = {"model": opened.name + suffix, "source": model, "context": context, **result}
        write_json(target, result)
        made.append(str(target))
        found.append(result)
    console.result("\n".join(map(sentence, found)), found, as_json)
    console.made(", ".join(made))


def run_timestamps(
    model: str,
    manifest: Path,
    contexts: Sequence[ContextName] | None,
    max_samples: int | None,
    precision: PrecisionName,
    device: str,
    overwrite: bool,
    as_json: bool,
) -> None:
    """How well a model times words, on splices of the manifest's clips; in the context of its record if none is given."""
    from govor.corpus.manifests import fingerprint
    from govor.errors import GovorError
    from govor.files import refuse_existing
    from govor.jsons import write_json
    from govor.measure.evaluate import dataset_name
    from govor.measure.scoring import check_clips, clips_to_score

    clips = clips_to_score(manifest, max_samples)
    check_model(model, device=device)
    # Only now: these import torch, which takes seconds.
    from govor.families.base import Aligner
    from govor.measure.timestamps import TROUBLES, measure
    from govor.timing.any_length import in_taught_language
    from govor.timing.heads import measure_heads
    from govor.timing.splice import splices

    opened = open_model(model, precision=precision, device=device)
    check_clips(opened.recogniser, clips, manifest, opened.language_token)
    dataset = dataset_name(manifest) + (f"-{max_samples}" if max_samples is not None else "")
    shapes = contexts or [opened.context]
    targets = {shape: Workspace().evals / f"{opened.name}__timestamps__{dataset}__{shape}.json" for shape in shapes}
    for target in targets.values():
        refuse_existing(target, overwrite, "--overwrite to measure it again")
    # The heads are chosen on one half of the clips, and judged on the other.
    half = len(clips) // 2
    clips = [in_taught_language(opened, clip) for clip in clips]
    made = list(
        splices(clips[half:], 40, 1, on_unreadable=lambda clip, why: console.note(f"left out  {clip.id}: {why}"))
    )
    if not made:
        raise GovorError(f"{manifest} holds no two short clips of one language to splice.")
    results = []
    for shape, target in targets.items():
        chosen = (
            measure_heads(opened.recogniser, clips[:half], shape) if isinstance(opened.recogniser, Aligner) else None
        )
        if chosen:
            heads = len(chosen.chosen.heads)
            console.note(f"{heads} heads chosen on {chosen.borders} borders of one half of the clips")
        with console.bar(f"time {len(made)} splices, {shape}", len(made) * len(TROUBLES)) as bar:
            listening = chosen.chosen if chosen else None
            found = measure(opened.recogniser, made, shape, listening, TROUBLES, bar.advance)
        about = {"model": opened.name, "source": model, "set": dataset, "context": shape}
        result = {**about, "manifest": fingerprint(manifest), "max_samples": max_samples, **found}
        write_json(target, result)
        results.append(result)
    console.result("\n".join(map(_offset_line, results)), results if len(results) > 1 else results[0], as_json)
    for result in results:
        shown = [
            {
                "": name if name != "all" else "as recorded",
                **{to: result[name].get(key, "") for to, key in _SHOWN.items()},
            }
            for name in ("all", *TROUBLES)
            if isinstance(result.get(name), dict)
        ]
        console.table(f"{result['context']}: offset from the truth in seconds, share of words in their own line", shown)
    console.made(", ".join(map(str, targets.values())))


_SHOWN = {
    "offset s": "offset_seconds",
    "onset s": "onset_seconds",
    "end s": "end_seconds",
    "p90 s": "p90_seconds",
    "in line": "coverage",
    "words": "words",
    "unsaid left out": "unsaid_left_out",
}


def _offset_line(result: dict[str, Any]) -> str:
    found = result["all"]
    if found["offset_seconds"] is None:
        return f"{result['model']}: no word could be placed"
    guess = "; approximate, this family has no aligner" if result["approximate"] else ""
    return (
        f"{result['model']} on {result['splices']} splices of {result['set']}: mean offset "
        f"{found['offset_seconds'] * 1000:.0f} ms, {found['coverage']:.1%} of {found['words']} words in their own line{guess}"
    )
