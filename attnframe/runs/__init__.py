"""A run on disk: its folder, and the model that its settings make. Knows neither Lightning nor Hydra."""
