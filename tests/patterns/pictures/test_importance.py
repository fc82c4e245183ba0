"""Pictures of what each head is good for: every change has the place and the colour that it should have."""

from __future__ import annotations

import math

import pytest
from PIL import Image

from attnframe.patterns.pictures.colours import weight_colour
from attnframe.patterns.pictures.importance import MAX_WIDTH, SiteChanges, change_colour, draw_importance

SITE = SiteChanges("cross", {(0, 0): 0.1, (0, 1): 0.4, (0, 2): 0.2, (1, 0): -0.3}, {0: 3.0, 1: -0.02}, 5.0)


def areas(image: Image.Image, colour: tuple[int, int, int]) -> list[tuple[int, int]]:
    """Where pixels of exactly this colour are."""
    pixels = image.load()
    assert pixels is not None
    return [(x, y) for y in range(image.height) for x in range(image.width) if pixels[x, y] == colour]


def below_the_legend(places: list[tuple[int, int]]) -> list[tuple[int, int]]:
    return [(x, y) for x, y in places if y > 100]


def test_each_change_has_its_place_and_colour() -> None:
    image = draw_importance({"zeroed": [SITE]}, title="title")
    centres = {}
    for place, change in (*SITE.heads.items(), ("all", 3.0)):
        if place != (0, 1):
            cells = below_the_legend(areas(image, change_colour(change, 0.4) if place != "all" else weight_colour(1)))
            assert len(cells) > 400, place
            centres[place] = (min(x for x, _ in cells), min(y for _, y in cells))
    # Heads from left to right in the first row; what is beyond the scale has its end's colour, as the largest head has.
    assert centres[0, 0][1] == centres[0, 2][1] == centres["all"][1] < centres[1, 0][1]
    assert centres[1, 0][0] == centres[0, 0][0] < centres["all"][0] < centres[0, 2][0]
    strongest = below_the_legend(areas(image, weight_colour(1)))
    assert max(x for x, _ in strongest) > centres[0, 2][0]


def test_colours_grow_with_the_change_and_a_fall_is_another_hue() -> None:
    colours = [change_colour(share / 10, 2.0) for share in range(21)]
    assert [sum(colour) for colour in colours] == sorted((sum(colour) for colour in colours), reverse=True)
    assert colours[-1] == weight_colour(1.0) == change_colour(7.0, 2.0)
    red, _, blue = change_colour(-1.0, 2.0)
    assert red > blue
    assert change_colour(-3.0, 2.0) == change_colour(-2.0, 2.0)
    assert change_colour(0.0, 2.0) == weight_colour(0.0)


def test_both_modes_share_a_scale() -> None:
    weak = SiteChanges("cross", {(0, 0): 0.2, (0, 1): 0.05}, {})
    image = draw_importance({"zeroed": [SITE], "uniform": [weak]}, title="title")
    half = below_the_legend(areas(image, weight_colour(0.5)))
    # Head 3 on the left, head 1 on the right.
    assert min(x for x, _ in half) < image.width / 2 < max(x for x, _ in half)
    alone = draw_importance({"uniform": [weak]}, title="title")
    assert not below_the_legend(areas(alone, weight_colour(0.5)))


@pytest.mark.parametrize(("layers", "heads"), [(1, 1), (3, 40), (96, 96), (2, 300)])
def test_models_of_every_size_fit(layers: int, heads: int) -> None:
    changes = {(layer, head): 0.01 * head for layer in range(layers) for head in range(heads)}
    site = SiteChanges("cross", changes, dict.fromkeys(range(layers), 1.0), 2.0)
    image = draw_importance({"zeroed": [site] * 3, "uniform": [site] * 3}, title="t" * 300, subtitle="s" * 300)
    assert image.width <= MAX_WIDTH
    assert image.height < 4500


def test_layers_may_differ_and_heads_be_missing() -> None:
    odd = [
        SiteChanges("encoder_self", {}, {0: 0.3, 2: 0.1}),
        SiteChanges("cross", {(1, 4): 0.2}, {0: 0.3, 1: 0.2}, math.nan),
    ]
    image = draw_importance({"zeroed": odd, "uniform": odd[:1]}, title="title")
    assert below_the_legend(areas(image, weight_colour(1)))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_has_no_say_in_the_scale(value: float) -> None:
    broken = SiteChanges("cross", {(0, 0): value, (0, 1): 0.5, (0, 2): 0.25}, {})
    image = draw_importance({"zeroed": [broken]}, title="title")
    assert below_the_legend(areas(image, weight_colour(0.5)))


def test_a_model_that_nothing_changes() -> None:
    none = SiteChanges("cross", {(0, 0): 0.0, (0, 1): 0.0}, {0: 0.0}, 0.0)
    image = draw_importance({"uniform over the keys": [none]}, title="title")
    assert not below_the_legend(areas(image, weight_colour(1)))


def test_nothing_to_draw() -> None:
    with pytest.raises(ValueError, match="no changes to draw"):
        draw_importance({"zeroed": []}, title="title")
