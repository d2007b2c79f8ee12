"""Words with times."""
