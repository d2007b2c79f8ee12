"""The report as people use it: sorted, filtered, listened to, in a real browser; usable with 20,000 clips."""

import json
from pathlib import Path

import pytest
import soundfile

from browser import needs_browser, opened, until
from conftest import speech
from govor.measure.headline import add_to_headline
from govor.measure.report.build import report as report_of
from govor.measure.scoring import write_eval
from govor.runs import Run, Workspace


def scored(model: str, hypotheses: list[tuple[str, str]], language: str = "he") -> Path:
    rows = [
        {"id": f"clip{i:05d}", "audio": f"audio/{i % 4}.wav", "offset": None, "duration": 1.0 + i % 9, "language": language,
         "speaker": f"דובר{i % 3}", "source": None, "snr_db": 12.0, "reference": said, "hypothesis": heard}
        for i, (said, heard) in enumerate(hypotheses)
    ]  # fmt: skip
    Path("m.jsonl").write_text('{"id": "a", "audio": "a", "transcript": "x", "duration": 1, "language": "he"}\n')
    path = Path(f"manifests/evals/{model}__m__speech")
    write_eval(Workspace(), path, rows, {"model": model, "set": "m", "context": "speech"}, Path("m.jsonl"))
    return path.with_name(path.name + ".json")


def report(before: list[tuple[str, str]], after: list[tuple[str, str]], most_audio: int = 2000) -> Path:
    Path("audio").mkdir()
    for number in range(4):
        soundfile.write(f"audio/{number}.wav", speech(["sol"], 1.0 + number), 16_000)
    add_to_headline(Workspace(), "run-1", {"speech": (scored("base", before), scored("run-1", after))})
    run = Path("models/whisper/run-1")
    run.mkdir(parents=True)
    metrics = [{"kind": "train", "step": s, "loss": 3 / s} for s in range(1, 40)] + [
        {"kind": "eval", "step": 40, "loss": 1.0, "wer": 0.5, "cer": 0.2}
    ]
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in metrics))
    return report_of(Run(run), Path("reports/run-1"), most_audio=most_audio)


SAID = "שלום עולם יפה"
BEFORE = [(SAID, SAID), (SAID, "שלום"), (SAID, "בית <script>alert(1)</script> ספר"), (SAID, "")] * 30
AFTER = [(SAID, SAID), (SAID, "שלום עולם"), (SAID, SAID), (SAID, "שלום אולם יפה מאוד מאוד")] * 30


@needs_browser
@pytest.mark.parametrize("dark", [False, True])
def test_it_sorts_filters_and_plays(workspace: Path, dark: bool) -> None:
    page_file = report(BEFORE, AFTER)
    with opened(page_file, dark) as page:
        assert page.locator("#count").inner_text() == "120 of 120 clips"
        rows = page.locator("#clips tbody tr")
        assert rows.count() < 120, "rows are drawn as they are scrolled to"
        assert [rows.first.locator("td.n").nth(i).inner_text() for i in range(2, 4)] == ["3", "3"], (
            "most errors come first"
        )
        page.locator("th[data-key=gain]").click()
        assert rows.first.locator("td.n").last.inner_text() == "+6"
        page.locator("th[data-key=gain]").click()
        assert rows.first.locator("td.n").last.inner_text() == "0"
        page.select_option("#part", "wrong")
        assert page.locator("#count").inner_text() == "60 of 120 clips"
        page.select_option("#part", "")
        page.select_option("#speaker", "דובר1")
        assert page.locator("#count").inner_text() == "40 of 120 clips"
        page.select_option("#speaker", "")
        page.keyboard.press("/")
        page.keyboard.type("אולם")
        assert page.locator("#count").inner_text() == "30 of 120 clips"
        assert page.locator("#clips tbody ins").first.inner_text() == "אולם"
        page.keyboard.press("Escape")
        page.keyboard.press("j")
        assert page.locator("tr.current").count() == 1
        page.keyboard.press(" ")
        until(page, "document.getElementById('player').currentTime > 0.05")
        assert page.locator("tr.current button").inner_text() == "⏸"
        # Right-to-left texts are laid out as such, and nothing of a hypothesis becomes markup.
        assert page.locator("#clips tbody [dir=auto]").first.evaluate("e => getComputedStyle(e).direction") == "rtl"
        assert page.locator("#clips tbody script").count() == 0
        background = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, background[4:-1].split(","))) < 200) == dark
        assert "WER, 95 %" in page.locator(".headline").inner_text()
        assert page.locator("#letters td[title*='→']").count() > 4 and page.locator("#words tr").count() >= 3


@needs_browser
def test_it_fits_a_telephone(workspace: Path) -> None:
    with opened(report(BEFORE[:8], AFTER[:8]), width=420) as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= 440


@needs_browser
def test_twenty_thousand_clips_stay_usable(workspace: Path) -> None:
    page_file = report(BEFORE * 167, AFTER * 167, most_audio=20)
    assert len(list((page_file.parent / "audio").iterdir())) == 20
    with opened(page_file) as page:
        assert page.locator("#count").inner_text() == "20,040 of 20,040 clips"
        page.locator("th[data-key=seconds]").click()
        rows = page.locator("#clips tbody tr")
        assert rows.count() < 400 and rows.first.locator("td.n").first.inner_text() == "9.0"
        assert "for the 20 clips with most errors" in page.content()


def test_it_says_that_few_clips_decide_and_make_the_errors(workspace: Path) -> None:
    said = [(SAID, SAID)] * 60
    before = [(SAID, "שלום") if i % 2 else pair for i, pair in enumerate(said)]
    after = [(SAID, "לא " * 300) if i == 7 else pair for i, pair in enumerate(said)]
    text = report(before, after).read_text(encoding="utf-8")
    assert "1 of 60 clips decides this (clip00007): without it WER " in text
    assert "1 of 60 clips makes 100% of all errors: clip00007" in text and "loops 1, cut by the limit 0" in text
