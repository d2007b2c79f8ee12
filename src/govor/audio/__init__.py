"""Recordings: what they are, and their samples at 16 kHz mono.

A recording is what its bytes say, whatever its name. libsndfile reads wav, flac, mp3, ogg and opus; PyAV (the `media`
extra) what it cannot open: m4a, aac, webm, mp4. `govor.audio.containers` counts what is there where headers do not know it.
"""

from govor.audio.files import AUDIO_SUFFIXES, find_audio, split_blob
from govor.audio.opened import AudioInfo
from govor.audio.pauses import cut_at_pauses
from govor.audio.recording import CutShort, decode, probe, stream
from govor.audio.samples import SAMPLE_RATE, Samples, resample

__all__ = [
    "AUDIO_SUFFIXES",
    "SAMPLE_RATE",
    "AudioInfo",
    "CutShort",
    "Samples",
    "cut_at_pauses",
    "decode",
    "find_audio",
    "probe",
    "resample",
    "split_blob",
    "stream",
]
