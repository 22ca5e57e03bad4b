"""serving.settings: the settings that `aitax serve` and serve_config.yaml share."""

import pytest
from pydantic import ValidationError

from aitax_ray.serving.settings import CHANGEABLE, ApplicationArgs, ServeSettings, change


def test_an_engine_is_all_that_must_be_given() -> None:
    assert ApplicationArgs(engine="e").model_dump(exclude_defaults=True) == {"engine": "e"}
    with pytest.raises(ValidationError, match="engine"):
        ApplicationArgs.model_validate({})


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_batch_size": 0}, {"num_illustrations": 0}, {"num_illustrations": 21}, {"batch_budget_s": 0},
        {"classifier_cpus": 0}, {"classifier_gpus": -1}, {"max_waiting": 0}, {"engin": "f"}, {"port": 8000},
    ],
)  # fmt: skip
def test_invalid_settings_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        ApplicationArgs.model_validate({"engine": "e", **wrong})


@pytest.mark.parametrize("name", ["ingress", "classifier", "retrieval"])
def test_the_largest_number_of_replicas_is_not_below_the_smallest(name: str) -> None:
    with pytest.raises(ValidationError, match=f"--max-{name}-replicas must not be below"):
        ApplicationArgs.model_validate({"engine": "e", f"min_{name}_replicas": 2})
    ApplicationArgs.model_validate({"engine": "e", f"min_{name}_replicas": 2, f"max_{name}_replicas": 2})


def test_the_command_line_has_the_same_settings_and_the_address() -> None:
    shared, served = ApplicationArgs.model_fields, ServeSettings.model_fields
    assert served.keys() - shared.keys() == {"host", "port", "request_timeout_s"}
    assert {name: served[name].description for name in shared} == {n: f.description for n, f in shared.items()}


def test_settings_that_may_change_are_settings_and_the_others_stay() -> None:
    args = ApplicationArgs(engine="e", max_waiting=7)
    assert set(CHANGEABLE) <= ApplicationArgs.model_fields.keys()
    expected = ApplicationArgs(engine="e", max_waiting=7, num_illustrations=2)
    assert change(args, {"num_illustrations": 2}) == expected
    assert change(args, {}) == args


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"num_illustrations": 99}, "--num-illustrations: Input should be less than"),
        ({"engine": "f"}, "engine cannot be changed here, only illustrate, num_illustrations, "),
    ],
)
def test_a_wrong_change_is_logged_and_ends_no_replica(
    wrong: dict[str, object], reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert change(ApplicationArgs(engine="e"), wrong) is None
    assert f"the user_config of the ingress is not used: {reason}" in caplog.text
