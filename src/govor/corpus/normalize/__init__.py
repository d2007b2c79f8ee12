"""Training text: cleaned so that a model learns words and not typing habits, nothing a reader would miss removed.

Scoring has its own normaliser (`govor.measure.text`): the two serve different ends and are different objects.
"""

from govor.corpus.normalize.generic import RULES, Rule, normalize_clips, normalize_text

__all__ = ["RULES", "Rule", "normalize_clips", "normalize_text"]
