import re
from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import Field, ValidationError, model_validator

from aitax_ray.errors import SettingsError
from aitax_ray.pipeline import STAGES, Stage
from aitax_ray.serving.settings import ServeSettings
from aitax_ray.settings import HOW, How, Settings, StageSettings, build_settings, flag, read_config

# Every flag of every command that has settings. A new one is a decision: think of the user first, then write it here.
STAGE = "root force"
INFERENCE = f"{STAGE} inference_batch_size num_classifiers use_gpu"
FLAGS = {
    "manifest": f"{STAGE} doi download_key archive names species photos providers checklist label license number seed "
    "vernacular_names lineage request_again dry_run gbif_url wait_s contact",
    "download": f"{STAGE} image_size concurrency per_host per_host_rate host_limits timeout_s connect_timeout_s "
    "read_timeout_s max_bytes max_pixels max_memory attempts shard_size num_actors fallback gbif_url retry_failed "
    "prune respect_robots allow_private_hosts contact",
    "split": f"{STAGE} val test group_by split_file min_images holdout_species max_images labels license max_distance "
    "rules min_side seed",
    "train": f"{STAGE} recipe arch pretrained weights crop_size head head_first train_backbone views epochs "
    "final_epochs batch_size accumulate optimizer lr momentum weight_decay layer_decay clip_norm "
    "freeze_norm ema schedule warmup factor patience threshold threshold_mode cooldown min_lr eps "
    "augment min_scale vertical_flip random_erasing mixup cutmix label_smoothing imbalanced "
    "long_tail select_by stop_after max_minutes seed precision compile track num_workers min_workers use_gpu "
    "cpus_per_worker max_failures",
    "evaluate": f"{INFERENCE} target_precision coverage false_reject_rate min_group compare photos",
    "index": f"{INFERENCE} sides views recall memory compression leaves leaves_to_search reorder shown_license "
    "thumbnails thumbnail_size photographs_per_shard add",
    "publish": f"{STAGE} min_score max_total_score quantize quantization max_quantization_loss allow_worse to",
    "serve": "engine project illustrate num_illustrations allow_private_hosts keys cors_origins allowed_hosts "
    "keep_queries max_kept_bytes "
    "access_log log_clients max_batch_size batch_budget_s classifier_cpus classifier_gpus max_waiting "
    "min_ingress_replicas max_ingress_replicas "
    "min_classifier_replicas max_classifier_replicas min_retrieval_replicas max_retrieval_replicas "
    "retrieval_parts target_ongoing_requests target_ongoing_calls upscale_delay_s downscale_delay_s "
    "host port request_timeout_s",
}
MODELS: dict[str, type[Settings]] = {stage.name: stage.settings for stage in STAGES} | {"serve": ServeSettings}


class SomeSettings(StageSettings):
    image_size: Annotated[int, Field(ge=32)] = 512
    """Shorter side."""
    optimizer: Literal["adamw", "sgd"] = "adamw"
    """Either."""
    concurrency: Annotated[int, HOW] = Field(64, ge=1)
    """At a time."""
    use_gpu: Annotated[bool | None, HOW] = None
    """By default when there is one."""

    @model_validator(mode="after")
    def _fits(self) -> "SomeSettings":
        if self.image_size > 1000 and self.optimizer == "sgd":
            raise ValueError("--image-size above 1000 needs --optimizer adamw")
        return self


def test_a_flag_beats_the_file_and_the_file_beats_the_default() -> None:
    flags, file = {"root": "r", "image_size": 64}, {"image_size": 128, "concurrency": 2}
    built = build_settings(SomeSettings, flags, file)
    assert (built.image_size, built.concurrency, built.optimizer) == (64, 2, "adamw")
    assert build_settings(SomeSettings, {"root": "r"}).image_size == 512


def test_a_flag_that_says_no_beats_a_file_that_says_yes() -> None:
    assert build_settings(SomeSettings, {"root": "r", "use_gpu": False}, {"use_gpu": True}).use_gpu is False


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "--root is needed"),
        ({"root": "r", "image_sise": 1}, "--image-sise is not a setting here"),
        ({"root": "r", "image_size": 8}, "--image-size: Input should be greater than or equal to 32"),
        ({"root": "r", "optimizer": "adam"}, "--optimizer: Input should be 'adamw' or 'sgd'"),
        ({"root": "r", "image_size": 2000, "optimizer": "sgd"}, "--image-size above 1000 needs --optimizer adamw"),
        ({"concurrency": 0}, "--root is needed; --concurrency: Input should be greater than or equal to 1"),
    ],
)
def test_a_wrong_setting_is_named_by_its_flag(given: dict[str, object], message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        build_settings(SomeSettings, given)
    assert str(caught.value) == message
    assert caught.value.exit_status == 2


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        SomeSettings(root="r").image_size = 64


def test_settings_that_say_how_are_not_among_those_that_decide_the_result() -> None:
    assert SomeSettings(root="r").result_fields() == {"image_size": 512, "optimizer": "adamw"}
    other = SomeSettings(root="elsewhere", force=True, concurrency=3, use_gpu=True)
    assert other.result_fields() == SomeSettings(root="r").result_fields()
    assert SomeSettings(root="r", image_size=64).result_fields() != other.result_fields()


def test_a_field_is_spelled_as_its_flag() -> None:
    assert flag("allow_private_hosts") == "--allow-private-hosts"


def write(folder: Path, text: str) -> Path:
    path = folder / "aitax.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_file_has_one_section_per_stage_with_keys_as_flags_or_as_fields(tmp_path: Path) -> None:
    path = write(tmp_path, "train:\n  batch-size: 8\n  lr: 0.1\nindex:\n  use_gpu: no\nsplit:\n")
    assert read_config(path) == {"train": {"batch_size": 8, "lr": 0.1}, "index": {"use_gpu": False}, "split": {}}


@pytest.mark.parametrize("text", ["", "# nothing but a comment\n", "---\n"])
def test_a_file_without_content_has_no_settings(tmp_path: Path, text: str) -> None:
    assert read_config(write(tmp_path, text)) == {}


def test_an_absent_file_has_no_settings(tmp_path: Path) -> None:
    assert read_config(tmp_path / "aitax.yaml") == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train: [1\n", "cannot be read as YAML"),
        ("\x01", "cannot be read as YAML"),
        ("lr: 0.1\n", "must hold one section per stage"),
        ("- train\n", "must hold one section per stage"),
    ],
)
def test_a_file_of_another_form_is_refused_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(SettingsError, match=message) as caught:
        read_config(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_a_file_that_is_a_folder_or_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path, tmp_path / "binary"):
        with pytest.raises(SettingsError, match="cannot be read as YAML"):
            read_config(path)


@pytest.mark.parametrize("name", MODELS)
def test_the_flags_are_those_decided_on(name: str) -> None:
    assert set(MODELS[name].model_fields) == set(FLAGS[name].split())


@pytest.mark.parametrize("name", MODELS)
def test_every_setting_is_explained(name: str) -> None:
    fields = MODELS[name].model_fields
    assert [field for field, info in fields.items() if not (info.description or "").strip().endswith((".", "px"))] == []


@pytest.mark.parametrize("name", MODELS)
def test_unknown_settings_are_forbidden_and_known_ones_are_frozen(name: str) -> None:
    assert MODELS[name].model_config["extra"] == "forbid"
    assert MODELS[name].model_config["frozen"] is True


def test_a_setting_that_several_stages_have_is_the_same_in_each() -> None:
    found: dict[str, set[str]] = {}
    for stage in STAGES:
        for name, info in stage.settings.model_fields.items():
            how = any(isinstance(mark, How) for mark in info.metadata)
            found.setdefault(name, set()).add(f"{info.annotation} = {info.default!r}{' (how)' if how else ''}")
    # `build --views` goes to `train` alone, see pipeline.build.
    assert {name for name, kinds in found.items() if len(kinds) > 1} == {"views"}


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.name)
def test_where_the_work_is_done_decides_no_result(stage: Stage) -> None:
    fields = build_settings(stage.settings, {"root": "r"}).result_fields()
    where = {
        "root",
        "force",
        "use_gpu",
        "num_workers",
        "min_workers",
        "num_actors",
        "num_classifiers",
        "concurrency",
        "contact",
    }
    assert where & set(fields) == set()


def test_the_example_file_holds_every_setting_with_its_default_and_its_help() -> None:
    text = (Path(__file__).parent.parent / "aitax.yaml").read_text(encoding="utf-8")
    sections = re.split(r"^(\w+):\n", text, flags=re.MULTILINE)[1:]
    assert set(read_config(Path(__file__).parent.parent / "aitax.yaml")) == set(sections[::2])
    assert list(MODELS) == sections[::2]
    for (name, model), body in zip(MODELS.items(), sections[1::2], strict=True):
        shown = dict(re.findall(r"^  # ([a-z_0-9]+):(?: (.*))?$", body, flags=re.MULTILINE))
        # A root is given anew for each command, and --force is no habit.
        wanted = {f: field for f, field in model.model_fields.items() if f not in ("root", "force")}
        assert list(shown) == list(wanted), name
        for field_name, field in wanted.items():
            default = "" if field.is_required() or field.default in (None, ()) else field.default
            assert shown[field_name] == (str(default).lower() if isinstance(default, bool) else str(default))
            assert f"  # {field.description}\n  # {field_name}:" in body
