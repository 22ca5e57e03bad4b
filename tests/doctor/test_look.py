"""What the doctor sees of a dashboard. tests/test_jobs.py and tests/test_clusters.py let it look at real clusters."""

import http.server
import threading
from collections.abc import Iterator

import pytest

from aitax_ray.doctor.look import check_dashboard, look_at_cluster


class Dashboard(http.server.BaseHTTPRequestHandler):
    needs_token = True

    def do_GET(self) -> None:
        refused = self.needs_token and not self.headers.get("Authorization")
        self.send_response(401 if refused else 200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def url(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(Dashboard, "needs_token", True)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Dashboard) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_a_dashboard_that_refuses_is_broken_with_the_way_to_the_token(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    (found,) = check_dashboard(url)
    assert (found.level, found.text) == ("broken", f"{url} refuses: HTTP 401")
    assert "export RAY_AUTH_MODE=token" in found.remedy


def test_a_dashboard_without_token_is_a_warning(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Dashboard, "needs_token", False)
    assert [one.level for one in check_dashboard(url)] == ["ok", "warning"]


def test_a_dashboard_that_is_not_there_is_broken(url: str) -> None:
    (found,) = check_dashboard(f"{url}0000")  # no such port
    assert found.level == "broken"
    assert "does not answer" in found.text


def test_from_another_machine_only_the_dashboard_is_looked_at(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Dashboard, "needs_token", False)
    monkeypatch.setenv("RAY_ADDRESS", url)
    nodes, found = look_at_cluster(None)
    assert [node.name for node in nodes] == ["this machine"]
    assert [one.area for one in found] == ["dashboard", "token", "cluster"]
    assert "ray job submit" in found[-1].remedy
