"""What `attnframe list` is asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from attnframe.cli.output import split_json_flag
from attnframe.cli.page_file import page_file
from attnframe.errors import UserError

_BACKENDS = "--backends"
_PAGE = "--page"
_PAGE_GROUP = "attention"


@dataclass
class ListArguments:
    """`page` is the file that a page goes to, and `settings` are the overrides that it is made with."""

    group: str | None = None
    with_backends: bool = False
    as_json: bool = False
    page: Path | None = None
    settings: list[str] = field(default_factory=list)


def parse(arguments: Sequence[str]) -> ListArguments:
    """Raises `UserError` for flags that do not go together."""
    asked, left = ListArguments(), list(arguments)
    words = []
    while left:
        item = left.pop(0)
        flag, is_joined, value = item.partition("=")
        if flag == _PAGE:
            asked.page = page_file(_PAGE, value if is_joined else left.pop(0) if left else "", "catalogue.html")
        elif item == _BACKENDS:
            asked.with_backends = True
        elif is_joined and not item.startswith("-"):
            asked.settings.append(item)
        else:
            words.append(item)
    groups, asked.as_json = split_json_flag(words, [_BACKENDS, _PAGE])
    if len(groups) > 1:
        raise UserError(f"{' '.join(groups)}: one group at a time, for example `attnframe list {groups[0]}`")
    asked.group = groups[0] if groups else None
    _check(asked)
    return asked


def _check(asked: ListArguments) -> None:
    if asked.with_backends and asked.group != _PAGE_GROUP:
        raise UserError(f"{_BACKENDS} belongs to `attnframe list {_PAGE_GROUP} {_BACKENDS}`")
    if asked.page is not None and asked.group != _PAGE_GROUP:
        raise UserError(f"{_PAGE} belongs to `attnframe list {_PAGE_GROUP} {_PAGE} FILE`")
    if asked.page is not None and asked.as_json:
        raise UserError(f"{_PAGE} and --json: give one of them")
    if asked.page is None and asked.settings:
        raise UserError(
            f"{asked.settings[0]}: a list takes no settings; a page does: `attnframe list {_PAGE_GROUP} {_PAGE} FILE`"
        )
