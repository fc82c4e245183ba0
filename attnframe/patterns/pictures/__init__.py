"""Patterns as pictures: heat maps for the screen, figures for papers, and what heads are good for."""
