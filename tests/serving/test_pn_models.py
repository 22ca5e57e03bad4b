"""serving.pn_models: what no model of the format may do."""

from pydantic import BaseModel

from aitax_ray.serving.pn_models import PnModel, PnResult


def subclasses(model: type[BaseModel]) -> list[type[BaseModel]]:
    return [each for child in model.__subclasses__() for each in (child, *subclasses(child))]


def test_a_value_is_there_or_its_key_is_not() -> None:
    models = [model for model in subclasses(PnModel) if not model.__name__.endswith("Parameters")]
    assert PnResult in models
    for model in models:
        for name, field in model.model_fields.items():
            assert field.exclude_if is not None or type(None) not in getattr(field.annotation, "__args__", ()), (
                model,
                name,
            )


def test_keys_are_in_camel_case() -> None:
    keys = {field.alias for model in subclasses(PnModel) for field in model.model_fields.values()}
    assert {"remainingIdentificationRequests", "preferedReferential", "scientificNameWithoutAuthor"} <= keys
    assert not any("_" in str(key) for key in keys)
