from importlib.resources import files
from typing import get_args

import pytest

from aitax_ray.errors import SettingsError
from aitax_ray.settings import ByRecipe, build_settings
from aitax_ray.training.recipes import BASE, RecipeName, read_recipe
from aitax_ray.training.settings import TrainSettings

NAMES = get_args(RecipeName)


def settings(**given: object) -> TrainSettings:
    return build_settings(TrainSettings, {"root": "r", **given})


def test_each_file_is_a_recipe_and_each_recipe_a_file() -> None:
    found = {file.name.removesuffix(".yaml") for file in files("aitax_ray.training").joinpath("recipes").iterdir()}
    assert found == {BASE, *NAMES}


def test_the_base_has_every_value_that_a_recipe_decides_and_nothing_else() -> None:
    by_recipe = {
        name
        for name, field in TrainSettings.model_fields.items()
        if any(isinstance(mark, ByRecipe) for mark in field.metadata)
    }
    assert set(read_recipe(None)) == by_recipe


@pytest.mark.parametrize("name", NAMES)
def test_every_recipe_holds_valid_settings(name: RecipeName) -> None:
    made = settings(recipe=name)
    assert {key: getattr(made, key) for key in read_recipe(name)} == read_recipe(name)


def test_what_the_user_gives_wins_over_the_recipe() -> None:
    given = settings(recipe="ai-taxonomist", lr=0.5, epochs=3)
    assert (given.lr, given.epochs, given.optimizer) == (0.5, 3, "sgd")


def test_another_recipe_keeps_what_the_user_gave() -> None:
    given = settings(epochs=20)  # the same value as in base.yaml
    assert given.recipe is None
    scratch = given.with_recipe("from-scratch")
    assert (scratch.recipe, scratch.epochs, scratch.pretrained) == ("from-scratch", 20, False)
    assert settings().with_recipe("from-scratch").epochs == read_recipe("from-scratch")["epochs"] != 20


def test_recipes_that_differ_have_other_results() -> None:
    assert settings(recipe="linear-probe").result_fields() != settings(recipe="fine-tune").result_fields()


def test_an_unknown_recipe_is_refused_with_the_known_ones() -> None:
    with pytest.raises(SettingsError, match=r"--recipe: .*'linear-probe'.*'ai-taxonomist'"):
        settings(recipe="cake")


def test_settings_are_shown_of_a_recipe_only() -> None:
    shown = settings(recipe="linear-probe", views=3).shown()
    assert (shown["arch"], shown["views"], shown["lr"]) == ("timm/tf_efficientnet_lite0", 3, None)
    assert "root" not in shown
    assert settings(**shown).result_fields() == settings(recipe="linear-probe", views=3).result_fields()
    with pytest.raises(SettingsError, match="--show needs --recipe NAME"):
        settings().shown()
