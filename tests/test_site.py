"""The site of the guides builds without a warning, and asks no other host for anything."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LINKS = {"next", "prev", "canonical", "alternate"}  # a <link> of these kinds is not loaded
ELSEWHERE = re.compile(r"\s*(?:https?:)?//", re.IGNORECASE)


class Loaded(HTMLParser):
    """Collects what a browser loads to show a page. Links that people may follow are not loaded."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.addresses += [given[name] for name in ("src", "srcset", "poster", "data") if name in given]
        if tag == "link" and given.get("rel") not in LINKS:
            self.addresses.append(given["href"])
        assert "mermaid" not in given.get("class", ""), "the theme would fetch mermaid from unpkg.com"


def styles_of(text: str) -> Iterator[str]:
    """What a style sheet loads."""
    yield from re.findall(r"url\(\s*[\"']?([^\"')]+)", text)
    yield from re.findall(r"@import\s+[\"']([^\"']+)", text)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site as `make site` builds it."""
    folder = tmp_path_factory.mktemp("site")
    (command,) = re.findall(r"\$\(BIN\)/(mkdocs build .*)", (ROOT / "Makefile").read_text(encoding="utf-8"))
    built = subprocess.run(
        [sys.executable, "-m", *command.split(), "--site-dir", folder],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert "--strict" in command
    assert built.returncode == 0, built.stdout + built.stderr
    return folder


def test_every_page_is_there(site: Path) -> None:
    pages = {path.relative_to(ROOT / "docs").with_suffix(".html") for path in (ROOT / "docs").rglob("*.md")}
    assert pages | {Path("404.html")} == {path.relative_to(site) for path in site.rglob("*.html")}


def test_nothing_is_loaded_from_other_hosts(site: Path) -> None:
    for path in site.rglob("*.html"):
        page = Loaded()
        text = path.read_text(encoding="utf-8")
        page.feed(text)
        loaded = [*page.addresses, *styles_of(text)]
        assert len(loaded) > 3
        assert [address for address in loaded if ELSEWHERE.match(address)] == [], path.name
    for path in site.rglob("*.css"):
        assert [one for one in styles_of(path.read_text(encoding="utf-8")) if ELSEWHERE.match(one)] == [], path.name
    for path in site.rglob("*.svg"):
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"(href|src)\s*=\s*[\"'](https?:)?//", text), path.name
