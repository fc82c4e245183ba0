"""Searching for the best settings, on Optuna."""
