"""The source text that the attention of a run consists of, beside attnframe itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from torch import nn

from attnframe.model import AttentionFactory
from attnframe.sources import files_behind


def source_files(attention: AttentionFactory) -> dict[str, Path]:
    """By module name the files that define the variants of `attention`, and what these use of their own package.

    Of attnframe itself only the files of variants: its version stands for everything else. A file of a plugin folder
    is a package of its own. Raises `UserError` for a variant that cannot be built.
    """
    return files_behind(type(part) for built in _built(attention) for part in built.modules())


def _built(attention: AttentionFactory) -> Iterator[nn.Module]:
    """Each different attention module once."""
    for site, choices in attention.choices.items():
        for layer, choice in enumerate(choices):
            if choice not in choices[:layer]:
                yield attention.build(site, layer)
