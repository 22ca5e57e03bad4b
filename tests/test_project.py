"""The files by which others know the project: CITATION.cff, and the workflow of CI."""

import re
import tomllib
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
# Of https://github.com/citation-file-format/citation-file-format/blob/main/schema-guide.md, version 1.2.0.
NEEDED = {"authors", "cff-version", "message", "title"}
ALLOWED = NEEDED | {
    "abstract", "commit", "contact", "date-released", "doi", "identifiers", "keywords", "license", "license-url",
    "preferred-citation", "references", "repository", "repository-artifact", "repository-code", "type", "url",
    "version",
}  # fmt: skip


def read(path: str) -> Any:
    return yaml.safe_load((ROOT / path).read_text(encoding="utf-8"))


def test_the_citation_follows_its_format_and_the_package() -> None:
    citation = read("CITATION.cff")
    assert set(citation) >= NEEDED
    assert set(citation) <= ALLOWED
    assert (citation["cff-version"], citation["type"]) == ("1.2.0", "software")
    assert (citation["version"], citation["license"]) == (PROJECT["version"], PROJECT["license"])
    assert citation["authors"]
    assert all(author["name"] for author in citation["authors"])
    assert all(isinstance(word, str) for word in citation["keywords"])


def test_the_workflow_runs_what_a_developer_runs() -> None:
    jobs = read(".github/workflows/ci.yml")["jobs"]
    assert set(jobs) == {"ci", "kuberay"}
    job = jobs["ci"]
    assert [step["run"] for step in job["steps"] if "run" in step] == [".ci/run"]
    first, beyond = map(int, re.findall(r"3\.(\d+)", PROJECT["requires-python"]))
    assert job["strategy"]["matrix"]["python"] == [f"3.{first}", f"3.{beyond - 1}"]
