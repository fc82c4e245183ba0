"""A package of someone else with an attention variant, its presets and its recipes."""
