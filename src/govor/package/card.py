"""The model card: what it was trained on, under which licences, what it scored before and after."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from govor.corpus.licenses import CUSTOM, canonical
from govor.files import workspace_path
from govor.jsons import read_json
from govor.languages import language_of_all

_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w.-]+")
# Our identifiers that the Hub calls otherwise than by the lower-case letters of the same, and those that it does not know.
_ON_THE_HUB = {"ODC-BY-1.0": "odc-by", "ODbL-1.0": "odbl", "GPL-2.0-only": "gpl-2.0", "GPL-3.0-only": "gpl-3.0"}
_NOT_ON_THE_HUB = ("own", "public-domain", "ivrit.ai", "research-only", "CC-BY-SA-2.0")


def model_card(run: Path, checkpoint: Path, formats: Sequence[str] = ("hf",)) -> str:
    """Markdown with the metadata block that model hubs read; `checkpoint` is the one that is packaged, in `formats`."""
    record = read_json(run / "run_manifest.json")
    scores = (
        read_json(Path("manifests") / f"eval_{run.name}.json")
        if (Path("manifests") / f"eval_{run.name}.json").exists()
        else None
    )
    data, result = record["data"], record["result"]
    languages = record["languages"]
    metadata = ModelCardData(
        library_name="transformers",
        pipeline_tag="automatic-speech-recognition",
        base_model=_model_name(record["base_model"]),
        language=languages,
        **_license(record["licenses"]),
        datasets=list(dict.fromkeys(part.rsplit("/", 1)[0] for part in data)),
        metrics=["wer", "cer"],
        tags=["govor", record["family"]],
        model_name=run.name,
        eval_results=_results(scores) if scores else None,
    )
    lines = [
        "---",
        metadata.to_yaml().rstrip(),  # quotes what YAML would misread: no
        "---",
        "",
        f"# {run.name}",
        "",
        f"{_model_name(record['base_model'])}, fine-tuned with govor {record['environment']['govor']} for {', '.join(languages)}.",
        "",
        "## Scores",
        "",
        *(
            _score_table(scores)
            if scores
            else ["Not scored yet: `govor evaluate` and `govor compare` fill this table."]
        ),
        "",
        "## Data",
        "",
        *(f"- {part}: {entry['rows']} clips, sha256 `{entry['sha256'][:16]}…`" for part, entry in data.items()),
        "- licences of the training clips: "
        + ", ".join(f"{name} ({count})" for name, count in record["licenses"].items()),
        "",
        "## Training",
        "",
        *_how(record, checkpoint),
        *(["- one language token for all clips: " + record["language_token"]] if record.get("language_token") else []),
        f"- audio context: {record['recipe']['examples']['context']}, "
        f"full-length share {record['recipe']['examples']['full_length_share']:g}",
        f"- {_which(result, checkpoint)}",
        "",
        "## Use",
        "",
        *_usage(workspace_path(run), record, formats),
        "",
        "`run_manifest.json` holds every setting, version and fingerprint of the run.",
        "",
    ]
    return "\n".join(lines)


def _how(record: dict[str, Any], checkpoint: Path) -> list[str]:
    """Steps, rates and method, as far as this checkpoint saw them."""
    settings, result = record["recipe"]["finetune"], record["result"]
    step = read_json(checkpoint / "state.json")["step"]
    lines = [
        f"- {step} of {result['total_steps']} steps of {settings['clips_per_step']} clips, {record['precision']}, seed "
        f"{settings['seed']}"
    ]
    for name, phase in record["phases"].items():
        if phase["steps"][0] < step:
            rates = ", ".join(f"{row['group']} {row['lr']:g}" for row in phase["groups"] if row["lr"])
            lines.append(
                f"- phase {name}: to step {min(phase['steps'][1], step)}, peak learning rates {rates}, {phase['schedule']}"
            )
    if settings["method"] == "lora":
        lora = settings["lora"]
        lines.append(f"- adapters of rank {lora['rank']}, alpha {lora['alpha']:g}, merged")
    return lines


def _which(result: dict[str, Any], checkpoint: Path) -> str:
    if checkpoint.name.startswith("average"):
        members = ", ".join(
            f"{m['checkpoint']} ({m['weight']:.3f})" for m in result.get("average", {}).get("members", [])
        )
        return f"the mean of several checkpoints was taken: {members}"
    if checkpoint.name == result["best_checkpoint"]:
        return f"the checkpoint with the lowest validation {result['metric']} was taken ({checkpoint.name})"
    return f"the checkpoint {checkpoint.name} was taken by hand"


def _model_name(source: str) -> str:
    """The base model as hubs name models: its id, or the last part of a local path (the rest is nobody's business)."""
    path = Path(source)
    if path.exists() or not _HUB_ID.fullmatch(source):
        return path.stem if path.is_file() else path.name
    return source


def _license(counts: dict[str, int]) -> dict[str, Any]:
    """The licence of all training clips where there is one and the Hub knows it, else "other" with their names."""
    names = list(dict.fromkeys(canonical(name) or name for name in counts))
    alone = names[0] if len(names) == 1 else None
    if alone and not alone.startswith(CUSTOM) and alone not in _NOT_ON_THE_HUB and canonical(alone):
        return {"license": _ON_THE_HUB.get(alone, alone.lower())}
    return {"license": "other", "license_name": " + ".join(name.removeprefix(CUSTOM) for name in names) or "unknown"}


def _results(scores: dict[str, Any]) -> list[EvalResult]:
    """The scores after training, as rates (1 is 100 %): padded and unpadded audio are results of their own."""
    found = []
    for context, item in scores["contexts"].items():
        after = item["after"]
        for metric in ("wer", "cer"):
            if after.get(metric) is not None:
                found.append(
                    EvalResult(
                        task_type="automatic-speech-recognition",
                        dataset_type=after["set"],
                        dataset_name=after["set"],
                        dataset_args={"clips": after["clips"]},
                        metric_type=metric,
                        metric_value=after[metric],
                        metric_name=f"{metric.upper()} ({context} audio)",
                    )
                )
    return found


def _usage(folder: str, record: dict[str, Any], formats: Sequence[str]) -> list[str]:
    """How to transcribe with the package in `folder`. A model of one language need not be told which."""
    token, languages = record.get("language_token"), record["languages"]
    told = None if token or language_of_all(languages) else languages[0]
    if record["family"] != "whisper":
        return ["```sh", f"govor transcribe {folder} clip.wav --language {token or languages[0]}", "```"]
    arguments = f', generate_kwargs={{"language": "{told}"}}' if told else ""
    lines = [
        "```python",
        "from transformers import pipeline",
        f'asr = pipeline("automatic-speech-recognition", "{folder}")',
        f'print(asr("clip.wav"{arguments})["text"])',
        "```",
    ]
    if "ct2" in formats:
        lines += [
            "",
            "```python",
            "from faster_whisper import WhisperModel",
            f'segments, _ = WhisperModel("{folder}/ct2").transcribe("clip.wav", language="{token or languages[0]}")',
            'print(" ".join(segment.text.strip() for segment in segments))',
            "```",
        ]
    return lines


def _score_table(scores: dict[str, Any]) -> list[str]:
    rows = ["| audio context | WER before | WER after | change | p |", "|---|---|---|---|---|"]
    for context, item in scores["contexts"].items():
        before, after = item["before"], item["after"]
        p = item["comparison"]["wer"]["p_value"]
        change = item["comparison"]["wer"]["relative_change"]
        shown = "n/a" if change is None else f"{change:+.1%}"
        rows.append(
            f"| {context} | {_rate(before)} | {_rate(after)} | {shown} | {'n/a' if p is None else f'{p:.4f}'} |"
        )
    after = next(iter(scores["contexts"].values()))["after"]
    note = after["interval"]["note"]
    return [
        *rows,
        "",
        f"Test set: {after['clips']} clips, {after['audio_seconds'] / 60:.1f} min; 95 % intervals, {note}.",
        *(["", f"{after['about_words']}."] if after.get("about_words") else []),
    ]


def _rate(summary: dict[str, Any]) -> str:
    if summary["wer"] is None:
        return "n/a"
    spread = summary["wer_interval"]
    return f"{summary['wer']:.3f}" + (f" [{spread[0]:.3f}, {spread[1]:.3f}]" if spread else "")
