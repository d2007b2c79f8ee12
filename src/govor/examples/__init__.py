"""From a manifest row to a training example: what is decided here, families only render."""
