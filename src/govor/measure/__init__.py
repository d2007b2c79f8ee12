"""Scores with confidence."""
