"""Sentence pairs: where they come from, how they become words, ids and batches. Knows no model."""
