"""The built site: links, and what a browser makes of each page. `make test-docs` runs this."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urldefrag

import pytest

from tests.site.browser import SITE, WIDTHS, looked_at, pages

# What may be named outside: links that a reader may click, never anything that a page loads.
LOADS = {"img": "src", "script": "src", "link": "href", "iframe": "src", "source": "src"}


class _Page(HTMLParser):
    """Its ids, its links, and what it loads."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.feed(file.read_text("utf-8"))

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attributes}
        self.ids |= {given["id"]} if "id" in given else set()
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        if (name := LOADS.get(tag)) and name in given:
            self.loads.append(given[name])


PARSED = {page: _Page(SITE / page) for page in pages()}


def target(page: str, link: str) -> tuple[str, str]:
    """The file that a link of a page leads to, and the place in it."""
    path, fragment = urldefrag(link)
    file = (SITE / page).parent / unquote(path) if path else SITE / page
    return str(file.resolve().relative_to(SITE.resolve())), unquote(fragment)


def test_the_main_pages_are_there() -> None:
    assert {"index.html", "getting-started.html", "troubleshooting.html"} <= PARSED.keys()
    assert len(PARSED) > 40


@pytest.mark.parametrize("page", PARSED)
def test_no_link_is_broken(page: str) -> None:
    for link in PARSED[page].links:
        if link.startswith(("http:", "https:", "mailto:")):
            continue
        file, fragment = target(page, link)
        if file == ".":
            file = "index.html"
        assert (SITE / file).is_file(), link
        if fragment and not fragment.startswith("__"):
            assert fragment in PARSED[file].ids, link


@pytest.mark.parametrize("page", PARSED)
def test_nothing_is_loaded_from_elsewhere(page: str) -> None:
    for load in PARSED[page].loads:
        assert not load.startswith(("http:", "https:", "//")), load
        assert load.startswith("data:") or (SITE / target(page, load)[0]).exists(), load


@pytest.fixture(scope="module")
def found() -> dict[str, dict[str, Any]]:
    return looked_at()


def test_a_browser_shows_every_page(found: dict[str, dict[str, Any]]) -> None:
    assert len(found) == len(PARSED) * len(WIDTHS)
    empty = [place for place, seen in found.items() if not seen["heading"] or seen["words"] < 20]
    assert empty == []
    assert [place for place, seen in found.items() if seen["broken"]] == []


def test_no_page_is_wider_than_the_screen(found: dict[str, dict[str, Any]]) -> None:
    wide = {place: seen["overflow"] for place, seen in found.items() if seen["overflow"] > 0}
    assert wide == {}


def test_the_browser_asked_nobody_else(found: dict[str, dict[str, Any]]) -> None:
    assert {host for seen in found.values() for host in seen["asked"]} == {"127.0.0.1"}


@pytest.mark.parametrize("page", ["states.html", "turn.html"])
def test_the_diagrams_are_drawn(page: str) -> None:
    text = (SITE / page).read_text("utf-8")
    assert text.count("<svg") > 1
    assert "stateDiagram" not in text
    assert 'class="diagram"' in text
