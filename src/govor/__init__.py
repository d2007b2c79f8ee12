"""govor: from a folder of recordings to a speech recogniser that is measurably better."""

__version__ = "0.1.0"
