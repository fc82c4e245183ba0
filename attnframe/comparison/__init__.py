"""Finished runs put side by side: what they scored, how far apart they are, and whether that is a fair comparison."""
