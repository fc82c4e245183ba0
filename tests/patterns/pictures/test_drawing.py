from __future__ import annotations

import unicodedata
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from attnframe.data.schema import Alignment
from attnframe.patterns.pictures import lettering
from attnframe.patterns.pictures.colours import signed_colour, weight_colour
from attnframe.patterns.pictures.drawing import draw_patterns
from attnframe.patterns.pictures.layout import MAX_HEIGHT, MAX_WIDTH, PatternLayout, pattern_layout

ODD_LABELS = (
    "",
    " ",
    "a\nb\t\r",
    "😀👩\u200d🚀",
    "שלום",
    "مرحبا",
    "anticonstitutionnellement-vôtre",
    "\ud800x",
    "«\u00a0“”’",
    "日本語",
    "\u0301\u0327",
    "\x00\x1b[0m",
    "e" + "\u0301" * 99,
    "x" * 10_007,
    "\u202eabc",
)


def _weights(*shape: int, seed: int = 3) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def _labels(count: int) -> list[str]:
    return [f"mot{i}" for i in range(count)]


def _draw(weights: Tensor, alignment: Alignment | None = None) -> tuple[Image.Image, PatternLayout]:
    layers, heads, queries, keys = weights.shape
    query_labels, key_labels = _labels(queries), _labels(keys)
    image = draw_patterns(weights, query_labels=query_labels, key_labels=key_labels, title="t", alignment=alignment)
    return image, pattern_layout(layers, heads, query_labels=query_labels, key_labels=key_labels)


def _assert_cells_show(image: Image.Image, layout: PatternLayout, weights: Tensor) -> None:
    for layer, head, query, key in np.ndindex(*weights.shape):
        pixel = image.getpixel(layout.cell_centre(layer, head, query, key))
        assert pixel == weight_colour(float(weights[layer, head, query, key])), (layer, head, query, key)


@pytest.mark.parametrize("shape", [(2, 3, 5, 7), (1, 1, 1, 1), (3, 5, 11, 23), (1, 7, 31, 83), (2, 2, 7, 601)])
def test_every_cell_has_the_colour_of_its_weight(shape: tuple[int, ...]) -> None:
    weights = _weights(*shape)
    image, layout = _draw(weights)
    assert layout.cell >= 1
    _assert_cells_show(image, layout, weights)


def test_captions_have_the_numbers_of_the_layers() -> None:
    weights = _weights(3, 2, 5, 7)
    words = {"query_labels": _labels(5), "key_labels": _labels(7)}
    whole, layout = _draw(weights)
    part = draw_patterns(weights[[0, 2]], **words, layers=[0, 2], title="t")
    other = pattern_layout(2, 2, **words)
    for head in range(2):
        for row, number in enumerate((0, 2)):
            found, expected = (
                image.crop((left, top - there.key_label_height - 22, right, bottom)).tobytes()
                for image, there, (left, top, right, bottom) in (
                    (part, other, other.panel_box(row, head)),
                    (whole, layout, layout.panel_box(number, head)),
                )
            )
            assert found == expected, (number, head)
    assert part.tobytes() != draw_patterns(weights[[0, 2]], **words, title="t").tobytes()
    with pytest.raises(ValueError, match=r"layers \[1\] are not the numbers of 2 layers"):
        draw_patterns(weights[:2], **words, layers=[1], title="t")


def test_neighbouring_cells_do_not_overlap_and_fill_their_panel() -> None:
    layout = pattern_layout(2, 3, query_labels=_labels(5), key_labels=_labels(7))
    covered = np.zeros(layout.size, dtype=int)
    panels = 0
    for layer, head in np.ndindex(2, 3):
        left, top, right, bottom = layout.panel_box(layer, head)
        panels += (right - left) * (bottom - top)
        for query, key in np.ndindex(5, 7):
            left, top, right, bottom = layout.cell_box(layer, head, query, key)
            covered[left:right, top:bottom] += 1
    assert covered.max() == 1
    assert covered.sum() == panels


def _lightness(colour: tuple[int, int, int]) -> float:
    """CIE 1976 L* (0 to 100) of an sRGB colour: IEC 61966-2-1 for the luminance, CIE 15 for the rest."""
    linear = [c / 255 / 12.92 if c / 255 <= 0.04045 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in colour]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return 116 * luminance ** (1 / 3) - 16 if luminance > 216 / 24389 else luminance * 24389 / 27


def test_the_ramp_gets_darker_at_every_step_by_about_the_same() -> None:
    steps = np.diff([_lightness(weight_colour(i / 16)) for i in range(17)])
    assert steps.max() < 0
    assert steps.min() / steps.max() < 2
    assert _lightness(weight_colour(0)) > 95
    assert _lightness(weight_colour(1)) < 20
    assert len({weight_colour(i / 255) for i in range(256)}) > 250


def test_weights_beyond_the_scale_take_the_colour_of_its_end_and_the_bar_says_so() -> None:
    weights = torch.tensor([[[[0.0, 0.5, 1.5]]]])
    image, layout = _draw(weights)
    _assert_cells_show(image, layout, weights.clamp(0, 1))
    inside, _ = _draw(weights.clamp(0, 1))
    header = (0, 0, image.width, layout.panel_box(0, 0)[1] - layout.key_label_height)
    assert image.crop(header).tobytes() != inside.crop(header).tobytes()
    rounding, _ = _draw(weights.clamp(-1e-6, 1 + 1e-6))
    assert rounding.tobytes() == inside.tobytes()


@pytest.mark.parametrize(("low", "high"), [(-0.5, 0.75), (-1.75, 0.5), (-0.25, 2.5)])
def test_weights_below_zero_are_orange_on_a_scale_with_two_sides(low: float, high: float) -> None:
    weights = torch.tensor([[[[low, 0.0, high]], [[0.25, low / 2, 1.0]]]])
    image, layout = _draw(weights)
    most = max(1.0, -low, high)
    for head, key in np.ndindex(2, 3):
        value = float(weights[0, head, 0, key])
        pixel = image.getpixel(layout.cell_centre(0, head, 0, key))
        expected = signed_colour(value / most)
        assert isinstance(pixel, tuple)
        assert max(abs(a - b) for a, b in zip(pixel, expected, strict=True)) <= 3
        assert value == 0 or (pixel[0] > pixel[2]) == (value < 0), "orange below 0, blue above"
    plain, _ = _draw(weights.abs().clamp(0, 1))
    header = (0, 0, image.width, layout.panel_box(0, 0)[1] - layout.key_label_height)
    assert image.crop(header).tobytes() != plain.crop(header).tobytes(), "the bar says so"


def test_both_sides_get_darker_alike() -> None:
    steps = np.diff([_lightness(signed_colour(-i / 16)) for i in range(17)])
    assert steps.max() < 0
    assert steps.min() / steps.max() < 2
    for i in range(1, 17):
        assert abs(_lightness(signed_colour(-i / 16)) - _lightness(signed_colour(i / 16))) < 6
    assert signed_colour(0) == weight_colour(0) == weight_colour(-1)
    assert signed_colour(1) == weight_colour(1)


def test_orange_and_blue_stay_apart_for_who_sees_no_red_or_no_green() -> None:
    # What is left to them is blue against yellow, and yellow lies between red and green.
    for i in range(2, 17):
        red, green, blue = signed_colour(i / 16)
        assert blue - max(red, green) > 20
        red, green, blue = signed_colour(-i / 16)
        assert min(red, green) - blue > 15


@pytest.mark.parametrize(
    "shape",
    [(2, 4, 13, 11), (1, 8, 200, 200), (6, 16, 61, 67), (12, 12, 211, 7), (1, 1, 3, 5003), (1, 2, 5003, 3)],
)
def test_pictures_keep_to_the_largest_size(shape: tuple[int, ...]) -> None:
    image, layout = _draw(_weights(*shape))
    assert image.size == layout.size
    assert image.mode == "RGB"
    assert image.width <= MAX_WIDTH
    assert image.height <= MAX_HEIGHT


def test_the_most_panels_still_fit() -> None:
    image, _ = _draw(_weights(200, 200, 2, 3))
    assert image.width <= MAX_WIDTH
    assert image.height <= MAX_HEIGHT


def test_twelve_words_in_two_by_four_panels_have_large_cells_with_labels() -> None:
    labels = ["pommes"] * 12
    layout = pattern_layout(2, 4, query_labels=labels, key_labels=labels)
    assert layout.cell >= 20
    assert layout.font_size >= 12


def test_labels_go_where_cells_are_too_small_to_read_them() -> None:
    for tokens in (5, 12, 24, 40, 60, 83, 200):
        layout = pattern_layout(2, 4, query_labels=_labels(tokens), key_labels=_labels(tokens))
        assert (layout.font_size > 0) == (layout.query_label_width > 0) == (layout.key_label_height > 0)
        assert 0 < layout.font_size <= layout.cell or layout.font_size == 0
    assert layout.font_size == 0


def test_cells_smaller_than_a_pixel_show_mean_weights() -> None:
    weights = torch.zeros(1, 2, 3, 5003)
    weights[0, 1] = 0.5
    image, layout = _draw(weights)
    assert layout.cell < 1
    for head in range(2):
        panel = _pixels(image.crop(layout.panel_box(0, head)))
        assert (panel == weight_colour(0.5 * head)).all()


def _pixels(image: Image.Image) -> NDArray[np.uint8]:
    return np.asarray(image)


@pytest.mark.parametrize("label", ODD_LABELS, ids=range(len(ODD_LABELS)))
def test_any_label_stays_in_its_place(label: str) -> None:
    weights = _weights(1, 2, 3, 5)
    queries, keys = ["a", label, label], ["b", label, "c", label, label]
    image = draw_patterns(weights, query_labels=queries, key_labels=keys, title=label, subtitle=label)
    layout = pattern_layout(1, 2, query_labels=queries, key_labels=keys)
    assert image.size == layout.size
    _assert_cells_show(image, layout, weights)
    pixels = _pixels(image).copy()
    for frame in (pixels[:4], pixels[-4:], pixels[:, :4], pixels[:, -4:]):
        assert (frame == 255).all()


def test_labels_stand_at_their_own_row_and_column() -> None:
    queries, keys = ["", "mmm", ""], ["", "", "", "mmm", ""]
    image = draw_patterns(_weights(1, 1, 3, 5), query_labels=queries, key_labels=keys, title="")
    layout = pattern_layout(1, 1, query_labels=queries, key_labels=keys)
    left, top, right, bottom = layout.panel_box(0, 0)
    cell = int(layout.cell)
    beside = _pixels(image)[top:bottom, left - layout.query_label_width : left - 2]
    above = _pixels(image)[top - layout.key_label_height : top - 2, left:right]
    rows = np.unique(np.nonzero((beside < 255).any((1, 2)))[0] // cell)
    columns = np.unique(np.nonzero((above < 255).any((0, 2)))[0] // cell)
    assert rows.tolist() == [1]
    assert columns.tolist() == [3]


@pytest.fixture
def fresh_lettering() -> Iterator[None]:
    """No text is remembered from before the test, nor from it."""
    caches = (lettering._fallback_font, lettering._lettering, lettering.text_mask)
    for cached in caches:
        cached.cache_clear()
    yield
    for cached in caches:
        cached.cache_clear()


@pytest.mark.usefixtures("fresh_lettering")
def test_french_letters_need_no_font_but_pillows(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(size: int) -> None:
        raise AssertionError(f"looked for a system font of size {size}")

    monkeypatch.setattr(lettering, "_fallback_font", refuse)
    for letter in "éèêëçàâùûüîïôÿÉÈÊËÇÀÂÙÛÜÎÏÔ":
        plain = _pixels(lettering.text_mask(unicodedata.normalize("NFD", letter)[0], 13)).astype(int)
        marked = _pixels(lettering.text_mask(letter, 13)).astype(int)
        assert plain.shape == marked.shape, letter
        assert np.abs(marked - plain).sum() > 2 * 255, letter
        composed, decomposed = (unicodedata.normalize(form, letter) for form in ("NFC", "NFD"))
        assert lettering.text_mask(composed, 13).tobytes() == lettering.text_mask(decomposed, 13).tobytes()
    marks = {lettering.text_mask(letter, 13).tobytes() for letter in "éèêë"}
    assert len(marks) == 4
    assert lettering.text_mask("cœur", 13).tobytes() == lettering.text_mask("coeur", 13).tobytes()


@pytest.mark.usefixtures("fresh_lettering")
def test_other_scripts_are_drawn_where_no_system_font_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lettering, "_FALLBACK_FONTS", ("no such font.ttf",))
    assert _pixels(lettering.text_mask("Привет", 13)).max() > 128


def test_gold_links_are_outlined_and_sure_ones_are_thicker() -> None:
    weights = _weights(2, 3, 5, 7)
    gold = Alignment(frozenset({(6, 0), (2, 3)}), frozenset({(1, 4)}))
    image, layout = _draw(weights, gold)
    _assert_cells_show(image, layout, weights)
    plain, _ = _draw(weights)
    for layer, head, query, key in np.ndindex(*weights.shape):
        box = layout.cell_box(layer, head, query, key)
        changed = (_pixels(image.crop(box)) != _pixels(plain.crop(box))).any(-1).sum()
        side = layout.cell - 1
        if (key, query) in gold.sure:
            assert changed == side**2 - (side - 4) ** 2
        elif (key, query) in gold.possible:
            assert changed == side**2 - (side - 2) ** 2
        else:
            assert changed == 0


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_not_finite_are_refused(bad: float) -> None:
    weights = _weights(2, 3, 5, 7)
    weights[1, 2, 4, 6] = bad
    with pytest.raises(ValueError, match="NaN or infinity"):
        _draw(weights)


@pytest.mark.parametrize("shape", [(2, 3, 7, 5), (3, 5, 7), (1, 2, 3, 5, 7), (2, 3, 5, 8)])
def test_weights_of_another_shape_than_the_labels_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="5 query labels, 7 key labels"):
        draw_patterns(_weights(*shape), query_labels=_labels(5), key_labels=_labels(7), title="t")


@pytest.mark.parametrize("shape", [(0, 3, 5, 7), (2, 0, 5, 7), (2, 3, 0, 7), (2, 3, 5, 0), (201, 1, 2, 3)])
def test_nothing_and_too_much_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="cannot draw"):
        _draw(_weights(*shape))


@pytest.mark.parametrize("link", [(7, 0), (0, 5), (-1, 0)])
def test_links_outside_the_panels_are_refused(link: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="outside 5 queries x 7 keys"):
        _draw(_weights(2, 3, 5, 7), Alignment(frozenset({link})))


def test_weights_in_half_precision_with_gradients_are_drawn() -> None:
    weights = _weights(1, 2, 3, 5).bfloat16().requires_grad_()
    image, layout = _draw(weights)
    _assert_cells_show(image, layout, weights.detach().float())
