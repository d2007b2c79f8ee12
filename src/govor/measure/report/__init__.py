"""The report: one folder that opens from disk."""
