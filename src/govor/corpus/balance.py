"""What a corpus is made of, and what a person could do about it."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path

import jinja2

from govor.corpus.alike import name_key
from govor.corpus.manifests import Manifest
from govor.corpus.records import Clip, Row
from govor.errors import GovorError
from govor.files import refuse_existing, write_text
from govor.jsons import write_json
from govor.languages import language_key
from govor.progress import SILENT, Progress, counted
from govor.runs import Workspace

LENGTH_EDGES_SECONDS = (1, 2, 3, 5, 8, 12, 20, 30)
SNR_EDGES_DB = (0, 5, 10, 15, 20, 25, 30, 40)
_WORD = re.compile(r"[^\W\d_]+(?:['’\"״׳][^\W\d_]+)*")
_UNKNOWN = "unknown"
# Above this share of the hours one voice is what the model learns.
DOMINANT_SPEAKER_SHARE = 0.5
FEW_SPEAKERS = 10
RARE_LANGUAGE_SHARE = 0.05
NOISY_SNR_DB = 10
QUIET_SNR_DB = 30


Seconds = defaultdict[str, float]


def _seconds() -> Seconds:
    return defaultdict(float)


@dataclass
class Balance:
    """Collects counts row by row; memory grows with the number of speakers and words, not of rows."""

    clips: int = 0
    seconds: float = 0.0
    speakers: Seconds = field(default_factory=_seconds)
    dialects: Seconds = field(default_factory=_seconds)
    languages: Seconds = field(default_factory=_seconds)
    scripts: Seconds = field(default_factory=_seconds)
    datasets: Seconds = field(default_factory=_seconds)
    lengths: Seconds = field(default_factory=_seconds)
    noise: Seconds = field(default_factory=_seconds)
    words: Counter[str] = field(default_factory=Counter)
    letters: Counter[str] = field(default_factory=Counter)

    def see(self, clip: Clip) -> None:
        """The next row. Everything but words and letters is counted in seconds."""
        self.clips += 1
        self.seconds += clip.duration
        for name, seconds in _speaking(clip):
            self.speakers[name] += seconds
        self.dialects[name_key(clip.dialect or "") or _UNKNOWN] += clip.duration
        self.languages[language_key(clip.language)] += clip.duration
        self.scripts[clip.script or _UNKNOWN] += clip.duration
        self.datasets[str(clip.extra.get("dataset") or _UNKNOWN)] += clip.duration
        self.lengths[band(clip.duration, LENGTH_EDGES_SECONDS, "s")] += clip.duration
        self.noise[_UNKNOWN if clip.snr_db is None else band(clip.snr_db, SNR_EDGES_DB, "dB")] += clip.duration
        text = clip.transcript.casefold()
        self.words.update(_WORD.findall(text))
        self.letters.update(letter for letter in text if letter.isalpha())

    def as_dict(self) -> Row:
        """What `dataset_balance.json` holds."""
        running = sum(self.words.values())
        return {
            "clips": self.clips,
            "hours": round(self.seconds / 3600, 4),
            "speakers": {"count": len(set(self.speakers) - {_UNKNOWN}), "hours": _hours(self.speakers, 30)},
            "dialects": _hours(self.dialects),
            "languages": _hours(self.languages),
            "scripts": _hours(self.scripts),
            "datasets": _hours(self.datasets),
            "lengths": _in_order(self.lengths, LENGTH_EDGES_SECONDS, "s"),
            "snr": _in_order(self.noise, SNR_EDGES_DB, "dB"),
            "vocabulary": {
                "words": running,
                "different_words": len(self.words),
                "said_once": sum(count == 1 for count in self.words.values()),
                "most_frequent": dict(self.words.most_common(30)),
                "letters": dict(self.letters.most_common(60)),
            },
            "recommendations": self.recommendations(),
        }

    def recommendations(self) -> list[str]:
        """What to do next, in words; an empty corpus of good balance gets one line that says so."""
        advice = [*self._about_speakers(), *self._about_languages(), *self._about_sound(), *self._about_words()]
        return advice or ["Nothing stands out: speakers, languages, lengths and noise are spread well."]

    def _about_speakers(self) -> list[str]:
        unknown = self.speakers[_UNKNOWN] / self.seconds if self.seconds else 0
        named = {name: seconds for name, seconds in self.speakers.items() if name != _UNKNOWN}
        if unknown > 0.5:
            return [
                f"{unknown:.0%} of the hours have no speaker: state it (--speaker, a 'speaker' column, provenance.yaml), or nobody can tell whether a score holds for new voices."
            ]
        advice = []
        name, seconds = max(named.items(), key=lambda item: item[1])
        if seconds > DOMINANT_SPEAKER_SHARE * self.seconds and len(named) > 1:
            equal = (2 * seconds - self.seconds) / 3600
            advice.append(
                f"Speaker '{name}' says {seconds / self.seconds:.0%} of the hours: record {equal:.1f} h of others, or draw fewer of theirs."
            )
        # How many equally frequent voices would be as varied (inverse Simpson index).
        effective = sum(named.values()) ** 2 / sum(s * s for s in named.values())
        if len(named) >= FEW_SPEAKERS > 2 * effective:
            advice.append(
                f"{len(named)} speakers, but the hours are spread as if there were {effective:.1f}: record more of those who say little."
            )
        if len(named) < FEW_SPEAKERS:
            voices = "voice" if len(named) == 1 else "voices"
            advice.append(
                f"{len(named)} {voices}: record at least {FEW_SPEAKERS - len(named)} more, 10 minutes each helps more than hours of one."
            )
        return advice

    def _about_languages(self) -> list[str]:
        advice = []
        for kind, counts in (("Language", self.languages), ("Dialect", self.dialects)):
            named = {name: seconds for name, seconds in counts.items() if name != _UNKNOWN}
            if len(named) > 1:
                for name, seconds in sorted(named.items()):
                    if seconds < RARE_LANGUAGE_SHARE * self.seconds:
                        wanted = (RARE_LANGUAGE_SHARE * self.seconds - seconds) / 3600
                        advice.append(
                            f"{kind} '{name}' has {seconds / self.seconds:.1%} of the hours: {wanted:.2f} h more bring it to {RARE_LANGUAGE_SHARE:.0%}; until then give it a score of its own."
                        )
        scripts = {name for name in self.scripts if name != _UNKNOWN}
        if len(scripts) > 1:
            advice.append(f"Transcripts stand in {len(scripts)} scripts: govor normalize --script brings them to one.")
        return advice

    def _about_sound(self) -> list[str]:
        advice = []
        short = self.lengths[band(0.5, LENGTH_EDGES_SECONDS, "s")] / self.seconds
        if short > 0.2:
            advice.append(
                f"{short:.0%} of the hours are clips under 1 s: join neighbours, they teach little on their own."
            )
        long = self.lengths[band(1e9, LENGTH_EDGES_SECONDS, "s")] / self.seconds
        if long > 0:
            advice.append(f"{long:.0%} of the hours are recordings over 30 s: run govor preprocess, which slices them.")
        known = self.seconds - self.noise[_UNKNOWN]
        if known > 0.5 * self.seconds:
            noisy = sum(s for band, s in self.noise.items() if _below(band, SNR_EDGES_DB, NOISY_SNR_DB, "dB")) / known
            clean = sum(s for band, s in self.noise.items() if _above(band, SNR_EDGES_DB, QUIET_SNR_DB, "dB")) / known
            if noisy > 0.3:
                advice.append(
                    f"{noisy:.0%} of the hours have under {NOISY_SNR_DB} dB of signal over noise: listen to some before training."
                )
            if clean > 0.8:
                advice.append(
                    f"{clean:.0%} of the hours are studio-quiet: train with augmentation (--set examples.augment=configs/augment.yaml) if the model is to hear phones and rooms."
                )
        return advice

    def _about_words(self) -> list[str]:
        running = sum(self.words.values())
        if running and self.clips > 50 and len(self.words) / running < 0.02 and len(self.words) < 500:
            return [
                f"{len(self.words)} different words in {running}: a model will know these and no others; record free speech."
            ]
        return []


@dataclass(frozen=True, slots=True)
class Balanced:
    """The figures of a corpus, and the files that hold them: JSON, and a page to look at."""

    values: Row
    json_file: Path
    page: Path


def weigh(
    workspace: Workspace, source: Path, out: Path | None = None, overwrite: bool = False, progress: Progress = SILENT
) -> Balanced:
    """What a manifest is made of, into `manifests/dataset_balance.json` or `out`, and `reports/balance/NAME.html`.

    Raises:
        GovorError: no clips, or the result is there already.
    """
    target = out or workspace.manifests / "dataset_balance.json"
    refuse_existing(target, overwrite)
    manifest = Manifest(source, workspace.root)
    balance = Balance()
    for clip in counted(manifest, progress, "balance", len(manifest)):
        balance.see(clip)
    if not balance.clips:
        raise GovorError(f"{source} holds no clips, so there is nothing to weigh.")
    result = Balanced(balance.as_dict(), target, workspace.reports / "balance" / f"{source.stem}.html")
    write_json(target, result.values)
    write_text(result.page, page(source.stem, result.values))
    return result


def _speaking(clip: Clip) -> list[tuple[str, float]]:
    """Who speaks for how many seconds: the clip's speaker, else those of its segments; what is left is unknown."""
    if name_key(clip.speaker or ""):
        return [(name_key(str(clip.speaker)), clip.duration)]
    speakers: list[tuple[str, float]] = []
    left = clip.duration
    for segment in clip.segments:
        name = name_key(segment.speaker or "")
        seconds = min(max((clip.duration if segment.end is None else segment.end) - segment.start, 0.0), left)
        if name and seconds:
            speakers.append((name, seconds))
            left -= seconds
    return [*speakers, (_UNKNOWN, left)] if left > 1e-9 or not speakers else speakers


def page(title: str, values: Row) -> str:
    """The same as HTML with bars, to look at; opens from disk."""
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    text = (resources.files("govor.corpus") / "balance.html").read_text(encoding="utf-8")
    charts = [
        ("Speakers", "hours", values["speakers"]["hours"]),
        ("Languages", "hours", values["languages"]),
        ("Dialects", "hours", values["dialects"]),
        ("Scripts", "hours", values["scripts"]),
        ("Datasets", "hours", values["datasets"]),
        ("Lengths", "hours", values["lengths"]),
        ("Signal over noise", "hours", values["snr"]),
        ("Most frequent words", "times", values["vocabulary"]["most_frequent"]),
        ("Letters", "times", values["vocabulary"]["letters"]),
    ]
    shown = [(name, unit, counts) for name, unit, counts in charts if set(counts) - {_UNKNOWN}]
    return environment.from_string(text).render(title=title, values=values, charts=shown)


def band(value: float, edges: tuple[int, ...], unit: str) -> str:
    """The name of the band a value falls in: `≤ 5 s`, or `> 30 s` past the last edge."""
    for edge in edges:
        if value <= edge:
            return f"≤ {edge} {unit}"
    return f"> {edges[-1]} {unit}"


def _below(name: str, edges: tuple[int, ...], limit: int, unit: str) -> bool:
    return name in {f"≤ {edge} {unit}" for edge in edges if edge <= limit}


def _above(name: str, edges: tuple[int, ...], limit: int, unit: str) -> bool:
    return name in {f"≤ {edge} {unit}" for edge in edges if edge > limit} | {f"> {edges[-1]} {unit}"}


def _hours(seconds: Seconds, most: int = 100) -> dict[str, float]:
    return {name: round(value / 3600, 4) for name, value in sorted(seconds.items(), key=lambda item: -item[1])[:most]}


def _in_order(seconds: Seconds, edges: tuple[int, ...], unit: str) -> dict[str, float]:
    names = [*(f"≤ {edge} {unit}" for edge in edges), f"> {edges[-1]} {unit}", _UNKNOWN]
    return {name: round(seconds[name] / 3600, 4) for name in names if seconds[name]}
