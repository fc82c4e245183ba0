"""Attention variants, one file each: write one, train it, see what it attends to."""
