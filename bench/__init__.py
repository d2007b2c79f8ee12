"""Side-by-side measurements against peers, each in one run. Ratios count; absolute times are of one machine."""
