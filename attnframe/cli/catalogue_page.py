"""`attnframe list attention --page FILE`: every variant on one HTML page."""

from __future__ import annotations

import inspect
import re
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

import attnframe
from attnframe import discovery, registry
from attnframe.catalogue import Catalogue, CatalogueEntry, Sizes, catalogue_html, costs, maps_on_sentence
from attnframe.cli.capable_backends import backends_that_run, composed
from attnframe.cli.kept_verdicts import conformance
from attnframe.errors import UserError
from attnframe.model.accounting import DEFAULT_LENGTH
from attnframe.options import GIVEN, override_value
from attnframe.registry import Variant
from attnframe.runs import building
from attnframe.runs.folder import write_whole

# Attention over the sequence itself; what cross-attention costs is the same again, with another length.
_SITES = ("encoder_self", "decoder_self")
_LENGTH = "length"


def write_page(file: Path, settings: Sequence[str], places: dict[str, str]) -> None:
    """Write the page of every registered variant, whose files are shown as `places` has them.

    `settings` are overrides of the model's sizes and `length=TOKENS`. Raises `UserError`.
    """
    overrides = [item for item in settings if not item.startswith(f"{_LENGTH}=")]
    for item in overrides:
        if not re.match(r"model(\.[\w.]+)?=", item):
            raise UserError(f"{item}: the page takes model=NAME, model.SIZE=... and length=TOKENS")
    sizes = _sizes(overrides, [item.partition("=")[2] for item in settings if item not in overrides])
    html = catalogue_html(_catalogue(sizes, overrides, places))
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, html)
    except OSError as error:
        raise UserError(f"--page {file} cannot be written: {error.strerror or error}") from error


def _sizes(overrides: list[str], lengths: Sequence[str]) -> Sizes:
    length = lengths[-1] if lengths else str(DEFAULT_LENGTH)
    if not length.isdecimal() or int(length) < 1:
        raise UserError(f"{_LENGTH}={length}: {length!r} is no whole number from 1 on")
    model = composed(overrides)["model"]
    building.check_model(model)
    return Sizes(
        d_model=model["d_model"],
        encoder_d_model=building.encoder_of(model)["d_model"],
        num_heads=model["num_heads"],
        bias=model["bias"],
        length=int(length),
        sites=tuple(site for site in _SITES if site in building.sites_of(model)),
    )


def _catalogue(sizes: Sizes, overrides: list[str], places: dict[str, str]) -> Catalogue:
    variants = registry.variants()
    backends = backends_that_run(list(variants), overrides)
    return Catalogue(
        entries=[_entry(variant, sizes, backends[name], places[name]) for name, variant in variants.items()],
        sizes=sizes,
        versions={name: metadata.version(name) for name in ("attnframe", "torch")},
        notices=[
            f"{broken.file} is left out, for it failed to import: {broken.cause}"
            for broken in discovery.broken_plugins()
        ],
    )


def _entry(variant: Variant, sizes: Sizes, backends: list[str], place: str) -> CatalogueEntry:
    return CatalogueEntry(
        name=variant.name,
        is_plugin=not variant.cls.__module__.startswith(f"{attnframe.__name__}."),
        formula=variant.summary,
        text=_paragraphs(variant),
        options=[(option.name, option.type_name, override_value(option.default)) for option in variant.options],
        takes=[name for name in GIVEN if name in variant.takes],
        paper=variant.paper,
        file=place,
        backends=backends,
        conformance=conformance(variant),
        costs=costs(variant.name, sizes),
        maps=maps_on_sentence(variant.name),
    )


def _paragraphs(variant: Variant) -> list[str]:
    """The docstring after its first line; each item of a list is a paragraph of its own."""
    rest = (inspect.getdoc(variant.cls) or "").partition("\n")[2]
    parts = re.split(r"\n\s*\n|\n(?=\s*- )", rest)
    return [" ".join(part.split()) for part in parts if part.strip()]
