"""The corpus stage on real recordings: Czech dialogue and Spanish telephone prompts."""

import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pytest

from govor.audio import SAMPLE_RATE, decode
from govor.corpus.fingerprint import Index, fingerprint
from govor.corpus.manifests import Manifest, read_clips, read_rows
from govor.corpus.vad import open_vad

Run = Callable[..., CompletedProcess[str]]
pytestmark = pytest.mark.real


def test_silero_hears_speech_and_no_silence(real_czech: Path) -> None:
    clips = [clip for clip in Manifest(real_czech) if 2 < clip.duration < 6][:5]
    detector = open_vad("silero")
    for clip in clips:
        samples = decode(clip.audio)
        quiet = np.zeros(3 * SAMPLE_RATE, np.float32)
        spans = detector.speech(np.concatenate([quiet, samples, quiet]))
        assert spans and spans[0][0] > 2.5 and spans[-1][1] < 3 + clip.duration + 0.7
        assert sum(end - start for start, end in spans) > 0.4 * clip.duration
    assert detector.speech(np.zeros(5 * SAMPLE_RATE, np.float32)) == []


def test_lines_of_one_actor_are_no_copies_of_each_other(real_czech: Path) -> None:
    clips = [clip for clip in Manifest(real_czech) if clip.speaker == "big" and 0.7 < clip.duration < 20][:150]
    with Index() as index:
        for clip in clips:
            index.add(fingerprint(decode(clip.audio)))
        matches = [(clips[m.first].transcript, clips[m.second].transcript) for m in index.matches()]
    assert all(one == other for one, other in matches), matches


def test_the_chain_runs_on_two_real_corpora(real_czech: Path, workspace: Path, govor: Run) -> None:
    govor("prepare", "fillets-cs")
    govor("prepare", "asterisk-es")
    govor("validate", "manifests/fillets-cs.jsonl", "manifests/asterisk-es.jsonl", expect=1)
    govor("normalize", "manifests/kept.jsonl")
    short = ("--min-source-seconds", "0.5")  # a third of the telephone prompts are one word
    govor("preprocess", "manifests/normalized.jsonl", "--name", "two", "--vad", "energy", *short, expect=1)
    govor("balance", "manifests/two.jsonl")
    govor("split", "manifests/two.jsonl", "--name", "two", "--allow-overlap", "speaker", expect=1)
    govor("licenses", "manifests/two.jsonl")
    rules = {row["rule"] for _, row in read_rows("manifests/dropped.jsonl")}
    assert "duplicate_audio" in rules and "near_duplicate" in rules, "both corpora hold copies under two names"
    proof = json.loads(Path("manifests/splits/two/proof.json").read_text())
    crossing = {kind for kind, pairs in proof["overlaps"].items() if any(pairs.values())}
    assert crossing == {"speaker"} and all({"cs", "es"} == set(part["languages"]) for part in proof["parts"].values())
    clips = list(read_clips("manifests/two.jsonl"))
    assert len(clips) > 2100 and all(clip.license and clip.duration <= 30 for clip in clips)
