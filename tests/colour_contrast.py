"""How far colours stand out from each other."""

from __future__ import annotations

import numpy as np


def luminance(colours: np.ndarray) -> np.ndarray:
    """Relative luminance, https://www.w3.org/TR/WCAG21/#dfn-relative-luminance."""
    share = colours[:, :3] / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    return linear @ np.array([0.2126, 0.7152, 0.0722])


def contrast(one: str, other: str) -> float:
    """https://www.w3.org/TR/WCAG21/#dfn-contrast-ratio of two colours as computed styles give them."""
    numbers = [[float(part) for part in colour[4:-1].split(",")[:3]] for colour in (one, other)]
    dark, light = sorted(luminance(np.array(numbers)))
    return float((light + 0.05) / (dark + 0.05))
