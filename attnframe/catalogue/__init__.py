"""Every variant on one HTML page: its formula, what it costs, and its pattern on the same sentence."""

from attnframe.catalogue.assembly import catalogue_html
from attnframe.catalogue.content import Catalogue, CatalogueEntry, Maps, Sizes
from attnframe.catalogue.costs import Cost, costs
from attnframe.catalogue.sentence import MASKS, SENTENCE, maps_on_sentence

__all__ = [
    "MASKS",
    "SENTENCE",
    "Catalogue",
    "CatalogueEntry",
    "Cost",
    "Maps",
    "Sizes",
    "catalogue_html",
    "costs",
    "maps_on_sentence",
]
