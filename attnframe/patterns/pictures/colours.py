"""From a weight to a colour: near white at 0, dark blue at 1, and dark orange at -1."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

Colour = tuple[int, int, int]

ROUNDING: Final = 1e-3
"""So far a weight may lie beyond 0 or 1 before that is said: what float arithmetic leaves."""


def weight_colour(weight: float) -> Colour:
    """The colour (red, green, blue, 0 to 255) that a weight is drawn in: from near white at 0 to dark blue at 1."""
    return signed_colour(max(weight, 0.0))


def signed_colour(weight: float) -> Colour:
    """The same for weights from -1 to 1: what is below 0 is orange, the darker the further from it."""
    red, green, blue = signed_ramp()[255 + round(min(max(weight, -1.0), 1.0) * 255)].tolist()
    return red, green, blue


@lru_cache(maxsize=1)
def signed_ramp() -> NDArray[np.uint8]:
    """511 colours, [511, 3], for weights from -1 to 1; the one in the middle is that of 0.

    Lightness falls evenly in Oklab on both sides, so that order shows in lightness alone and survives every colour
    blindness and grey print; which side it is shows in blue against orange, which no common colour blindness confuses.
    """
    place = np.linspace(0, 1, 256)
    sine = np.sin(np.pi * place)
    # As strong as sRGB can show without clipping, which would bend the even fall of lightness.
    blue = _oklab_to_srgb(place, 0.004 + 0.104 * sine + 0.085 * place, 235 + 37 * place)
    orange = _oklab_to_srgb(place, 0.004 + 0.090 * sine + 0.058 * place, 70 - 24 * place)
    return np.concatenate([orange[:0:-1], blue])


def weight_ramp() -> NDArray[np.uint8]:
    """256 colours, [256, 3], for weights from 0 to 1."""
    return signed_ramp()[255:]


def _oklab_to_srgb(
    place: NDArray[np.float64], chroma: NDArray[np.float64], degrees: NDArray[np.float64]
) -> NDArray[np.uint8]:
    """Colours [n, 3] whose lightness falls from 0.985 to 0.285 along `place`, with `degrees` of hue.

    Conversion from Oklab to linear sRGB: Ottosson 2020, "A perceptual color space for image processing",
    https://bottosson.github.io/posts/oklab/
    """
    lightness = 0.985 - 0.70 * place
    hue = np.radians(degrees)
    a, b = chroma * np.cos(hue), chroma * np.sin(hue)
    long = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3
    medium = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3
    short = (lightness - 0.0894841775 * a - 1.2914855480 * b) ** 3
    linear = np.stack(
        [
            4.0767416621 * long - 3.3077115913 * medium + 0.2309699292 * short,
            -1.2684380046 * long + 2.6097574011 * medium - 0.3413193965 * short,
            -0.0041960863 * long - 0.7034186147 * medium + 1.7076147010 * short,
        ],
        axis=1,
    )
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return (encoded * 255).round().astype(np.uint8)
