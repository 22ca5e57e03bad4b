import json

from aitax_ray.doctor.findings import Finding, format_findings, is_broken

FINDINGS = [
    Finding("versions", "ok", "all the same"),
    Finding("storage", "broken", "s3://KEY:SECRET@bucket cannot be read", "check the rights"),
    Finding("clock", "warning", "a\x1b[31mb", "start chrony"),
]


def test_each_finding_is_a_line_with_its_remedy_below_and_the_last_line_counts() -> None:
    assert format_findings(FINDINGS, as_json=False).splitlines() == [
        "ok      versions  all the same",
        "BROKEN  storage   s3://***@bucket cannot be read",
        "                  -> check the rights",
        "WARNING clock     a\\x1b[31mb",
        "                  -> start chrony",
        "1 broken, 1 to look at, 1 fine",
    ]


def test_programs_get_the_same_without_secrets() -> None:
    found = json.loads(format_findings(FINDINGS, as_json=True))
    assert [one["level"] for one in found] == ["ok", "broken", "warning"]
    assert found[1] == {
        **{"area": "storage", "level": "broken", "text": "s3://***@bucket cannot be read"},
        "remedy": "check the rights",
    }


def test_only_what_is_broken_is_broken() -> None:
    assert is_broken(FINDINGS)
    assert not is_broken([FINDINGS[0], FINDINGS[2]])
