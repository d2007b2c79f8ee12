"""Words on the clock."""
