"""The time grid of log-mel spectrograms, which all speech models here share."""

from govor.audio import SAMPLE_RATE

HOP = 160  # samples: one mel frame is 10 ms
WINDOW = 400
FRAMES_PER_SECOND = SAMPLE_RATE // HOP
