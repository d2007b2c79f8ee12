"""The model card: what it was trained on, under which licences, what it scored before and after."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from govor.files import read_json


def model_card(run: Path, checkpoint: Path) -> str:
    """Markdown with the metadata block that model hubs read; `checkpoint` is the one that is packaged."""
    record = read_json(run / "run_manifest.json")
    scores = (
        read_json(Path("manifests") / f"eval_{run.name}.json")
        if (Path("manifests") / f"eval_{run.name}.json").exists()
        else None
    )
    data, result = record["data"], record["result"]
    languages = record["languages"]
    metadata = {
        "library_name": "transformers",
        "pipeline_tag": "automatic-speech-recognition",
        "base_model": record["base_model"],
        "language": languages,
        "tags": ["govor", record["family"]],
    }
    lines = [
        "---",
        yaml.safe_dump(metadata, sort_keys=False, allow_unicode=True).rstrip(),  # quotes what YAML would misread: no
        "---",
        "",
        f"# {run.name}",
        "",
        f"{record['base_model']}, fine-tuned with govor {record['environment']['govor']} for {', '.join(languages)}.",
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
        *_usage(run.name, record["family"], record.get("language_token") or languages[0]),
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


def _usage(name: str, family: str, language: str) -> list[str]:
    if family != "whisper":
        return ["```sh", f"govor transcribe {name} clip.wav --language {language}", "```"]
    return [
        "```python",
        "from transformers import pipeline",
        f'asr = pipeline("automatic-speech-recognition", "{name}")',
        f'print(asr("clip.wav", generate_kwargs={{"language": "{language}"}})["text"])',
        "```",
    ]


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
