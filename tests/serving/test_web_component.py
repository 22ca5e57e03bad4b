"""The web component of ai-taxonomist, as npm has it, in Chromium: a page of another origin that asks the service.

`make test` installs it where there is npm. Without it these tests are skipped, except in CI.
"""

import functools
import http.server
import re
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.engines import COLOURS, photo, write_small_engine
from tests.serving.browser import IS_CI, NEEDS_CHROMIUM, chromium
from tests.serving.service import LocalBackend, serve

PACKAGES = Path(__file__).parents[1] / "clients/node_modules"
COMPONENT, ESBUILD = PACKAGES / "ai-taxonomist/dist/src/index.js", PACKAGES / ".bin/esbuild"
pytestmark = [
    NEEDS_CHROMIUM,
    pytest.mark.skipif(not COMPONENT.exists() and not IS_CI, reason="tests/clients/node_modules is not installed"),
]
PAGE = """<!doctype html><meta charset="utf-8"><title>A page</title><body><script src="bundle.js"></script>
<script>
    const element = document.createElement("ai-taxonomist");
    new URLSearchParams(location.search).forEach((value, name) => element.setAttribute(name, value));
    document.body.append(element);
</script>"""
DOI = "https://doi.org/10.15468/dl.colour"


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    backend = LocalBackend(write_small_engine(tmp_path_factory.mktemp("engine") / "colours-1"))
    for client in serve(backend):
        yield str(client.base_url)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *given: object) -> None:
        pass


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A web site with the component in its page."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "index.html").write_text(PAGE, encoding="utf-8")
    command = [ESBUILD, COMPONENT, "--bundle", f"--outfile={folder / 'bundle.js'}", "--log-level=error"]
    subprocess.run(command, check=True, timeout=60)
    handler = functools.partial(QuietHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


class Visitor:
    """A window with the component."""

    def __init__(self, browser: Browser, origin: str) -> None:
        self._origin = origin
        self.page: Page = browser.new_context(locale="fr-FR").new_page()
        self.errors: list[str] = []
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        # The component shows photographs from where they were published.
        self.page.route("https://photos.example/**", lambda route: route.fulfill(body=photo(COLOURS["22"])))

    def open(self, api_url: str, backend_format: str) -> Locator:
        attributes = {"apiUrl": api_url, "backendFormat": backend_format, "apiKey": "any"}
        self.page.goto(f"{self._origin}/?{urlencode(attributes)}")
        return self.page.locator("ai-taxonomist")

    def drop(self, *files: tuple[str, str, bytes]) -> None:
        """Drop files (name, type, content) on the component."""
        self.page.evaluate(
            """files => {
                const data = new DataTransfer(), picker = document.querySelector("ai-taxonomist").shadowRoot
                    .querySelector("image-picker").shadowRoot.querySelector("file-drop");
                for (const [name, type, bytes] of files)
                    data.items.add(new File([new Uint8Array(bytes)], name, {type}));
                picker.dispatchEvent(new DragEvent("drop", {dataTransfer: data, bubbles: true}));
            }""",
            [[name, kind, list(content)] for name, kind, content in files],
        )


@pytest.fixture
def visitor(browser: Browser, origin: str) -> Iterator[Visitor]:
    visitor = Visitor(browser, origin)
    yield visitor
    visitor.page.context.close()


@pytest.fixture
def red(tmp_path: Path) -> Path:
    path = tmp_path / "red.jpg"
    path.write_bytes(photo(COLOURS["11"], (400, 300), "JPEG"))
    return path


FORMATS = pytest.mark.parametrize(("path", "backend_format"), [("", "c4c"), ("/v2/identify/all", "pn")])


@FORMATS
def test_it_shows_the_species_and_similar_photographs(
    visitor: Visitor, address: str, red: Path, path: str, backend_format: str
) -> None:
    component = visitor.open(address + path, backend_format)
    component.locator("#fileUpload").set_input_files([red])
    first = component.locator("li.result").first
    expect(first).to_have_text(re.compile(r"100%\s*Ruber primus L\.\s*le rouge\s*Coloridae"))
    expect(first.locator("a.gbif")).to_have_attribute("href", "https://www.gbif.org/species/11")
    pictures = first.locator("img")
    expect(pictures).to_have_count(3)
    expect(pictures.first).to_have_attribute("alt", re.compile("author 0"))
    visitor.page.wait_for_function(
        """() => [...document.querySelector("ai-taxonomist").shadowRoot.querySelector("taxon-results").shadowRoot
            .querySelectorAll("img")].every(image => image.naturalWidth > 0)"""
    )
    assert visitor.errors == []


@FORMATS
def test_it_shows_the_doi_and_the_species_list(visitor: Visitor, address: str, path: str, backend_format: str) -> None:
    component = visitor.open(address + path, backend_format)
    if backend_format == "pn":  # see docs/api.md
        visitor.page.evaluate(
            """async service => {
                const status = await (await fetch(`${service}/status`)).json();
                document.querySelector("ai-taxonomist").doiUrl = `https://doi.org/${status.gbif_doi}`;
            }""",
            address,
        )
    footer = component.locator("ai-footer")
    expect(footer.get_by_title("Open GBIF DOI")).to_have_attribute("href", DOI)
    expect(footer).to_contain_text(f"trained on the GBIF Occurrence Download: {DOI}")
    footer.get_by_title("Open species list").click()
    rows = footer.locator("li.result")
    expect(rows).to_have_count(3)
    expect(rows.first).to_have_text(re.compile(r"Caeruleus tertius L\.\s*Coloridae\s*the caeruleus one"))
    assert visitor.errors == []


@FORMATS
def test_it_shows_why_there_is_no_answer(visitor: Visitor, address: str, path: str, backend_format: str) -> None:
    component = visitor.open(address + path, backend_format)
    visitor.drop(("drawing.svg", "image/svg+xml", b"<svg/>"))
    expect(component.locator("taxon-results")).to_contain_text("Error: Unsupported Media Type")


def test_photographs_of_one_individual_are_added_and_removed(visitor: Visitor, address: str, red: Path) -> None:
    component = visitor.open(address, "c4c")
    score = component.locator("li.result .score").first
    visitor.drop(("red.webp", "image/webp", photo(COLOURS["11"], form="WebP")))
    expect(score).to_have_text("100%")
    component.locator("image-selected #fileUpload").set_input_files([green(red)])
    expect(component.locator("image-selected .imgContainer")).to_have_count(2)
    expect(score).to_have_text("50%")
    component.locator("image-selected .imgRemove").last.click()
    expect(score).to_have_text("100%")


def green(path: Path) -> Path:
    other = path.with_name("green.png")
    other.write_bytes(photo(COLOURS["22"]))
    return other


def test_its_requests_and_answers_are_the_same_in_both_formats(address: str, red: Path) -> None:
    script, package = PACKAGES.parent / "web_component.mjs", PACKAGES / "ai-taxonomist"
    ran = subprocess.run(["node", script, package, address, red], capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.count("100 % Ruber primus L. (Coloridae) le rouge https://www.gbif.org/species/11") == 4
