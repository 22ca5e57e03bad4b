import inspect
import pickle

import pytest

from aitax_ray import errors
from aitax_ray.errors import AitaxError, MissingArtifactError, RequestError

ERRORS = [kind for _, kind in inspect.getmembers(errors, inspect.isclass)]
MADE = {MissingArtifactError: ("train", "/root"), RequestError: ("too many photographs", 413)}


def test_every_error_is_one_that_the_command_line_knows() -> None:
    assert len(ERRORS) > 1
    assert [kind for kind in ERRORS if not issubclass(kind, AitaxError)] == []


def test_the_tree_in_the_docstring_shows_every_error() -> None:
    drawn = [
        line.replace("├──", "").replace("└──", "").split()[0] for line in (errors.__doc__ or "").splitlines()[2:-2]
    ]
    assert sorted(drawn) == sorted(kind.__name__ for kind in ERRORS)


@pytest.mark.parametrize("kind", ERRORS)
def test_an_error_survives_the_way_from_another_process(kind: type[AitaxError]) -> None:
    error = kind(*MADE.get(kind, ("what is wrong: what to do",)))
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind
    assert str(again) == str(error)
    assert vars(again) == vars(error)


@pytest.mark.parametrize("kind", ERRORS)
def test_no_message_holds_a_secret_of_an_address(kind: type[AitaxError]) -> None:
    address = "s3://KEY:SECRET@bucket/root"
    error = MissingArtifactError("train", address) if kind is MissingArtifactError else kind(f"{address}: no")
    assert "s3://***@bucket/root" in str(error)
    assert "SECRET" not in f"{error!r} {vars(error)} {pickle.dumps(error)!r}"


def test_a_missing_artifact_names_the_command_that_makes_it() -> None:
    assert "run `aitax train --root s3://b/x` first" in str(MissingArtifactError("train", "s3://b/x"))
