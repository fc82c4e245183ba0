"""An HTML document taken apart, and a text that would break out of one."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from typing import Any, NoReturn

HOSTILE = "</script><img src=x onerror=\"document.title='owned'\"><!--<script>&amp;'\u2028"


class Document(HTMLParser):
    """Text of the script and style elements of a document, every tag with its attributes, and the policy."""

    def __init__(self, document: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.raw: dict[str, list[str]] = {"script": [], "style": []}
        self._inside = ""
        self.feed(document)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag in self.raw:
            self._inside = tag
            self.raw[tag].append("")

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.raw[self._inside][-1] += data

    @property
    def data(self) -> dict[str, Any]:
        """The JSON, in which NaN and Infinity are no numbers."""

        def refuse(name: str) -> NoReturn:
            raise AssertionError(f"{name} is not JSON")

        found: dict[str, Any] = json.loads(self.raw["script"][0], parse_constant=refuse)
        return found

    @property
    def policy(self) -> dict[str, list[str]]:
        (content,) = [
            attrs["content"] for _, attrs in self.tags if attrs.get("http-equiv") == "Content-Security-Policy"
        ]
        assert content is not None
        return {words[0]: words[1:] for words in map(str.split, re.split(r";\s*", content))}
