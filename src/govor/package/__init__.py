"""What ships: weights, processor, record and model card, proven to be what was trained."""
