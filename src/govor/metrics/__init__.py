"""Rates and how sure they are: of texts, labels and pairs of scorings. No model is needed here."""
