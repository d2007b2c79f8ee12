"""What exists, and what is kept."""
