"""The page as people meet it: in Chromium, against the running application."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import Browser, BrowserContext, Page, Request, expect

from aitax_ray.serving.queries import QueryStore
from tests.engines import COLOURS, photo, write_small_engine
from tests.serving.browser import NEEDS_CHROMIUM, chromium
from tests.serving.service import LocalBackend, serve

pytestmark = NEEDS_CHROMIUM


@pytest.fixture(scope="module")
def backend(tmp_path_factory: pytest.TempPathFactory) -> LocalBackend:
    return LocalBackend(write_small_engine(tmp_path_factory.mktemp("engine") / "colours-1"))


@pytest.fixture(scope="module")
def address(backend: LocalBackend) -> Iterator[str]:
    for client in serve(backend):
        yield str(client.base_url)


@pytest.fixture
def kept(backend: LocalBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for photographs of visitors; only for the test that asks for it."""
    queries = QueryStore(str(tmp_path / "kept"), 10**9)
    queries.flush(20)
    monkeypatch.setattr(backend, "queries", queries)
    monkeypatch.setattr(backend, "info", backend.info.model_copy(update={"version": "keeping"}))
    return tmp_path / "kept"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


class Visit:
    """A visitor: a window, the requests that it sent, and the errors in its console."""

    def __init__(self, browser: Browser, address: str, **options: Any) -> None:
        self.context: BrowserContext = browser.new_context(**{"locale": "en-GB", **options})
        self.page: Page = self.context.new_page()
        self.requests: list[Request] = []
        self.errors: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", lambda line: self.errors.append(line.text) if line.type == "error" else None)
        self.address = address
        self.page.goto(address)

    def choose(self, *files: Path) -> None:
        self.page.set_input_files("#image", list(files))

    def identify(self, *files: Path) -> None:
        self.choose(*files)
        self.page.get_by_role("button", name="Identify").click()
        expect(self.page.locator("#answer .result, #answer .banner").first).to_be_visible()

    def violations(self) -> list[str]:
        """What axe-core finds wrong for people who cannot see, or not well, or use no mouse."""
        found = Axe().run(self.page).response["violations"]
        return [f"{each['id']}: {each['nodes'][0]['html']}" for each in found]


@pytest.fixture
def visit(browser: Browser, address: str, request: pytest.FixtureRequest) -> Iterator[Visit]:
    visit = Visit(browser, address, **getattr(request, "param", {}))
    yield visit
    visit.context.close()


@pytest.fixture
def red(tmp_path: Path) -> Path:
    path = tmp_path / "red.png"
    path.write_bytes(photo(COLOURS["11"], (1600, 1200)))
    return path


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "broken.jpg"
    path.write_bytes(b"no photograph")
    return path


def test_a_photograph_is_named_beside_similar_ones(visit: Visit, red: Path) -> None:
    visit.identify(red)
    first = visit.page.locator(".result").first
    expect(first.locator("h2 i")).to_have_text("Ruber primus")
    expect(first.locator(".score")).to_contain_text("almost certain")
    expect(visit.page.locator("#answer")).to_be_focused()
    pictures = first.locator(".similar img")
    expect(pictures).to_have_count(4)
    pictures.first.scroll_into_view_if_needed()
    visit.page.wait_for_function("[...document.querySelectorAll('.similar img')].every(i => i.complete)")
    assert pictures.evaluate_all("images => images.every(image => image.naturalWidth > 0)")
    expect(first.locator("figcaption").first).to_contain_text("author 0")
    assert visit.errors == []
    assert {request.url.split("/")[2] for request in visit.requests if request.url.startswith("http")} == {
        visit.address.split("/")[2]
    }


def test_large_pictures_are_made_smaller_before_they_are_sent(visit: Visit, red: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (1200, 1600, 3), np.uint8)
    Image.fromarray(noise).save(red)
    with visit.page.expect_request(lambda request: request.method == "POST") as sent:
        visit.identify(red)
    assert sent.value.sizes()["requestBodySize"] < red.stat().st_size / 2


@pytest.mark.parametrize(
    "visit", [{}, {"color_scheme": "dark"}, {"viewport": {"width": 360, "height": 740}}], indirect=True
)
def test_nothing_keeps_people_out(visit: Visit, red: Path, text: Path) -> None:
    width = visit.page.evaluate("innerWidth")
    assert visit.violations() == []
    visit.identify(red)
    assert visit.violations() == []
    assert visit.page.evaluate("document.documentElement.scrollWidth") <= width
    visit.page.get_by_role("link", name="Species list").click()
    expect(visit.page.locator("tbody tr")).to_have_count(3)
    assert visit.violations() == []
    assert visit.page.evaluate("document.documentElement.scrollWidth") <= width
    visit.page.get_by_role("link", name="About this engine").click()
    expect(visit.page.get_by_role("heading", name="How to cite")).to_be_visible()
    assert visit.violations() == []
    assert visit.page.evaluate("document.documentElement.scrollWidth") <= width
    visit.page.goto(visit.address)
    visit.identify(text)
    assert visit.violations() == []


def test_references_are_copied_and_the_pages_of_the_engine_are_shown(visit: Visit) -> None:
    visit.context.grant_permissions(["clipboard-read", "clipboard-write"])
    visit.page.get_by_role("link", name="How to cite").click()
    visit.page.get_by_role("button", name="Copy").first.click()
    expect(visit.page.get_by_text("Copied.").first).to_be_visible()
    assert "10.15468/dl.colour" in visit.page.evaluate("navigator.clipboard.readText()")
    visit.page.get_by_role("link", name="Evaluation").click()
    heading = visit.page.get_by_role("heading", name="How good is the engine?")
    expect(heading).to_have_css("color", "rgb(1, 2, 3)")  # its own style works, and so do its pictures
    assert visit.page.locator("img").evaluate("image => image.naturalWidth") == 1
    assert visit.errors == []


def test_photographs_that_are_kept_are_deleted_with_a_button(
    visit: Visit, kept: Path, red: Path, backend: LocalBackend
) -> None:
    assert backend.queries is not None
    visit.page.reload()
    expect(visit.page.locator(".notice")).to_contain_text("keeps your photographs")
    visit.identify(red)
    backend.queries.flush(20)
    assert len(list(kept.rglob("*.zip"))) == 1
    assert visit.violations() == []
    visit.page.get_by_role("button", name="Delete my photographs").click()
    expect(visit.page.get_by_text("Your photographs were deleted.")).to_be_visible()
    assert not list(kept.rglob("*.zip"))


def test_it_works_with_the_keyboard_alone(visit: Visit, red: Path) -> None:
    visit.choose(red)
    visit.page.locator("#image").focus()
    for _ in range(10):
        visit.page.keyboard.press("Tab")
        if visit.page.evaluate("document.activeElement.id") == "send":
            break
    visit.page.keyboard.press("Enter")
    expect(visit.page.locator(".result h2 i").first).to_have_text("Ruber primus")


@pytest.mark.parametrize("visit", [{"java_script_enabled": False}], indirect=True)
def test_it_works_without_scripts(visit: Visit, red: Path, text: Path) -> None:
    visit.identify(red)
    expect(visit.page.locator(".result h2 i").first).to_have_text("Ruber primus")
    expect(visit.page.locator(".asked img")).to_have_count(1)
    visit.identify(text)
    expect(visit.page.locator(".error")).to_contain_text("could not be used")


def test_what_is_no_photograph_is_refused_in_words(visit: Visit, text: Path) -> None:
    visit.identify(text)
    expect(visit.page.get_by_role("alert")).to_contain_text("The photographs could not be used: the photograph cannot")


def test_photographs_are_chosen_dropped_and_removed_and_five_are_enough(visit: Visit, red: Path) -> None:
    previews = visit.page.locator("#previews li")
    visit.choose(red, red)
    expect(previews).to_have_count(2)
    visit.page.evaluate(
        """() => {
            const data = new DataTransfer();
            data.items.add(new File(["x"], "note.txt", {type: "text/plain"}));
            for (const n of [1, 2, 3, 4]) data.items.add(new File(["x"], `${n}.png`, {type: "image/png"}));
            document.getElementById("drop").dispatchEvent(new DragEvent("drop", {dataTransfer: data, bubbles: true}));
        }"""
    )
    expect(previews).to_have_count(5)
    expect(visit.page.locator("#status")).to_contain_text("five photographs at most")
    visit.page.get_by_role("button", name="Remove 3.png").click()
    expect(previews).to_have_count(4)


def test_earlier_answers_stay_in_the_browser_until_they_are_deleted(visit: Visit, red: Path) -> None:
    visit.identify(red)
    entries = visit.page.locator("#history li")
    expect(entries).to_have_count(1)
    score = visit.page.locator(".score span").first.inner_text().partition(" – ")[0]
    visit.page.reload()
    expect(entries).to_contain_text(f"Ruber primus, {score}, ")
    visit.page.get_by_role("button", name="Delete them").click()
    expect(entries).to_have_count(0)
    visit.page.reload()
    expect(entries).to_have_count(0)


@pytest.mark.parametrize("visit", [{"locale": "fr-CH"}], indirect=True)
def test_the_page_speaks_the_language_of_the_visitor(visit: Visit) -> None:
    expect(visit.page.get_by_role("heading", level=1)).to_have_text("Quelle espèce est sur votre photo ?")
    visit.page.select_option("#lang", "de")
    expect(visit.page.get_by_role("heading", level=1)).to_have_text("Welche Art ist auf Ihrem Foto?")
    visit.page.get_by_role("link", name="Artenliste").click()
    visit.page.get_by_label("Wissenschaftlicher").fill("viridis")
    visit.page.keyboard.press("Enter")
    expect(visit.page.locator("tbody tr")).to_have_count(1)


def test_the_service_out_of_reach_is_said_in_words(visit: Visit, red: Path) -> None:
    visit.page.route("**/*", lambda route: route.abort())
    visit.choose(red)
    visit.page.get_by_role("button", name="Identify").click()
    expect(visit.page.locator("#status")).to_contain_text("cannot be reached")


@pytest.mark.parametrize(
    ("status", "kind", "body", "said"),
    [
        (503, "application/json", '{"code":503,"message":"<b>busy</b>"}', "cannot answer now"),
        (502, "text/html", "<h1>Bad Gateway</h1>", "cannot answer now"),
        (200, "text/html", "<h1>Welcome to the network of this hotel</h1>", "cannot be reached"),
    ],
)
def test_what_others_answer_is_not_put_into_the_page(
    visit: Visit, kept: Path, red: Path, status: int, kind: str, body: str, said: str
) -> None:
    visit.page.reload()
    visit.identify(red)
    visit.page.route("**/*", lambda route: route.fulfill(status=status, content_type=kind, body=body))
    for button in ("Delete my photographs", "Identify"):
        visit.page.get_by_role("button", name=button).click()
        expect(visit.page.locator("#status")).to_contain_text(said)
        expect(visit.page.get_by_role("button", name=button)).to_be_enabled()
        expect(visit.page.locator("#answer .result h2 i").first).to_have_text("Ruber primus")
