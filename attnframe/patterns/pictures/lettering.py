"""Words in a picture, with nothing but the font that Pillow carries.

It covers little more than ASCII, so accented Latin letters are written as a letter plus a mark drawn here, and œ as oe;
other scripts take a system font where one is installed, and else show the font's box for a missing glyph.
"""

from __future__ import annotations

import math
import unicodedata
from bisect import bisect_right
from functools import lru_cache
from typing import Final

from PIL import Image, ImageChops, ImageDraw, ImageFont

_LONGEST_LABEL_EMS: Final = 8
_FALLBACK_FONTS: Final = ("DejaVuSans.ttf", "NotoSans-Regular.ttf", "Arial Unicode.ttf", "arial.ttf", "Arial.ttf")
_SPELT_OUT: Final = str.maketrans({"œ": "oe", "Œ": "OE", "æ": "ae", "Æ": "AE", "–": "-", "—": "-", "\u2011": "-"})

# Marks as polylines, in font sizes: x from the middle of the letter, y up from a little above it, for the cedilla
# from the base line; a single point is a dot. By combining character.
_MARKS: Final[dict[str, tuple[tuple[tuple[float, float], ...], ...]]] = {
    "\u0300": (((-0.13, 0.17), (0.05, 0.02)),),
    "\u0301": (((0.13, 0.17), (-0.05, 0.02)),),
    "\u0302": (((-0.15, 0.02), (0.0, 0.17), (0.15, 0.02)),),
    "\u0303": (((-0.17, 0.04), (-0.09, 0.12), (0.08, 0.05), (0.17, 0.13)),),
    "\u0308": (((-0.13, 0.08),), ((0.13, 0.08),)),
    "\u030a": (((-0.09, 0.1), (0.0, 0.19), (0.09, 0.1), (0.0, 0.01), (-0.09, 0.1)),),
    "\u030c": (((-0.15, 0.17), (0.0, 0.02), (0.15, 0.17)),),
    "\u0327": (((0.0, 0.02), (0.0, -0.05), (0.09, -0.1), (0.05, -0.19), (-0.1, -0.19)),),
}
_CEDILLA: Final = "\u0327"
_FINENESS: Final = 4


def shorten(text: str, size: int, room: int | None = None) -> str:
    """One printable line of `text`, at most `room` pixels wide (a label's most by default), cut with an ellipsis."""
    room = _LONGEST_LABEL_EMS * size if room is None else room
    # Cut before measuring: a label may be a whole book.
    line = "".join(" " if c.isspace() else c for c in text[:400] if c.isspace() or c.isprintable()).strip()
    if len(text) <= 400 and text_width(line, size) <= room:
        return line
    fitting = bisect_right(range(len(line) + 1), room, key=lambda length: text_width(line[:length] + "…", size)) - 1
    return line[: max(0, fitting)].rstrip() + "…"


@lru_cache(maxsize=16)
def _built_in_font(size: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size=size)
    if not isinstance(font, ImageFont.FreeTypeFont):
        raise RuntimeError("this build of Pillow has no FreeType: install Pillow from its wheels")
    return font


@lru_cache(maxsize=16)
def _fallback_font(size: int) -> ImageFont.FreeTypeFont | None:
    for name in _FALLBACK_FONTS:
        try:
            return ImageFont.truetype(name, size)
        except OSError:
            continue
    return None


@lru_cache(maxsize=4096)
def _built_in_has(character: str) -> bool:
    font = _built_in_font(24)
    missing = font.getmask("\ue123")
    glyph = font.getmask(character)
    return character == " " or (glyph.size, bytes(glyph)) != (missing.size, bytes(missing))


@lru_cache(maxsize=4096)
def _lettering(text: str, size: int) -> tuple[ImageFont.FreeTypeFont, str, tuple[tuple[int, str], ...]]:
    """The font for `text`, the letters to write with it, and the marks to add: (place of the letter, mark)."""
    letters: list[str] = []
    marks: list[tuple[int, str]] = []
    for character in unicodedata.normalize("NFD", unicodedata.normalize("NFC", text).translate(_SPELT_OUT)):
        if character in _MARKS and letters:
            marks.append((len(letters) - 1, character))
        else:
            letters.append(character)
    fallback = None if all(map(_built_in_has, letters)) else _fallback_font(size)
    if fallback is not None:
        return fallback, unicodedata.normalize("NFC", text), ()
    return _built_in_font(size), "".join(letters), tuple(marks)


def text_width(text: str, size: int) -> int:
    """Pixels from the first letter's start to the last one's end."""
    font, letters, _ = _lettering(text, size)
    return math.ceil(font.getlength(letters))


@lru_cache(maxsize=1024)
def text_mask(text: str, size: int) -> Image.Image:
    """Coverage of `text` (8 bit), of one height for each size, so that base lines agree."""
    font, letters, marks = _lettering(text, size)
    base = math.ceil(1.05 * size)
    mask = Image.new("L", (max(1, text_width(text, size)), base + math.ceil(0.3 * size)))
    draw = ImageDraw.Draw(mask)
    draw.text((0, base), letters, fill=255, font=font, anchor="ls")
    if not marks:
        return mask
    fine = Image.new("L", (mask.width * _FINENESS, mask.height * _FINENESS))
    pen = ImageDraw.Draw(fine)
    stroke = max(_FINENESS, round(0.085 * size * _FINENESS))
    for place, mark in marks:
        start = font.getlength(letters[:place])
        left, top, right, _ = font.getbbox(letters[place], anchor="ls")
        height = -top + 0.04 * size
        if mark == _CEDILLA:
            height = 0.0
        elif letters[place] in "ij":
            height = -font.getbbox("x", anchor="ls")[1] + 0.04 * size
            draw.rectangle((start + left, 0, start + right - 1, base - height), fill=0)
        for line in _MARKS[mark]:
            points = [
                ((start + (left + right) / 2 + x * size) * _FINENESS, (base - height - y * size) * _FINENESS)
                for x, y in line
            ]
            if len(points) == 1:
                pen.circle(points[0], 0.065 * size * _FINENESS, fill=255)
            else:
                pen.line(points, fill=255, width=stroke, joint="curve")
    return ImageChops.lighter(mask, fine.reduce(_FINENESS))
