"""Trackers get the figures of each epoch: TensorBoard's files always, MLflow and Weights & Biases with --track.

When a tracker fails, for example because its server does not answer, training continues without this tracker.
"""

import contextlib
import logging
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from aitax_ray.errors import SettingsError
from aitax_ray.workspace import Workspace

TENSORBOARD = "model/tensorboard"
CURVES = "model/curves.png"
IDS = "model/runs/trackers.json"  # the run id of each tracker, so that an interrupted training continues these runs
PROJECT = "aitax_ray"

log = logging.getLogger(__name__)
Row = dict[str, Any]


class Tracker(Protocol):
    """The methods of a tracker. With `run_id` its run can be continued later; "" for a tracker without run ids."""

    run_id: str

    def log(self, epoch: int, figures: Mapping[str, float]) -> None:
        """Store the figures of an epoch."""

    def end(self, is_complete: bool, files: Sequence[Path]) -> None:
        """Store these files, and end the run."""


class TensorBoard:
    """Writes TensorBoard's event files to model/tensorboard/: `tensorboard --logdir ROOT/model/tensorboard`."""

    run_id = ""

    def __init__(self, ws: Workspace) -> None:
        from tensorboardX import SummaryWriter

        self._ws = ws
        self._folder = tempfile.TemporaryDirectory(prefix="aitax-tensorboard-")
        self._writer = SummaryWriter(self._folder.name)
        ws.storage.delete(TENSORBOARD)  # all epochs are logged again, also those before an interruption

    def log(self, epoch: int, figures: Mapping[str, float]) -> None:
        """Add the figures: under train/, val/ or run/."""
        for name, value in figures.items():
            side = "train" if name.startswith("train_") else "val" if name in ("loss", "top1", "top5") else "run"
            self._writer.add_scalar(f"{side}/{name.removeprefix('train_')}", value, epoch)
        self._writer.flush()
        self._upload()

    def end(self, is_complete: bool, files: Sequence[Path]) -> None:
        """Close the files."""
        self._writer.close()
        self._upload()  # the writer has a thread, which may have written more since the last upload
        self._folder.cleanup()

    def _upload(self) -> None:
        self._ws.storage.upload(Path(self._folder.name), TENSORBOARD)  # the root may be an object store


class Mlflow:
    """A run of MLflow, on the server that MLFLOW_TRACKING_URI names."""

    def __init__(self, name: str, settings: Mapping[str, Any], run_id: str) -> None:
        import mlflow

        self._mlflow = mlflow
        mlflow.set_experiment(PROJECT)
        run = mlflow.start_run(run_id=run_id or None, run_name=name)
        self.run_id = run.info.run_id
        # A run that goes on begins with all earlier epochs, and MLflow would keep both figures of an epoch.
        self._last_epoch = int(run.data.metrics.get("epoch", 0))
        if not run_id:
            mlflow.log_params(dict(settings))

    def log(self, epoch: int, figures: Mapping[str, float]) -> None:
        """Add the figures."""
        if epoch > self._last_epoch:
            self._mlflow.log_metrics({"epoch": epoch, **figures}, step=epoch)

    def end(self, is_complete: bool, files: Sequence[Path]) -> None:
        """Keep the files, and end the run."""
        for file in files:
            self._mlflow.log_artifact(str(file))
        self._mlflow.end_run("FINISHED" if is_complete else "KILLED")


class Wandb:
    """A run of Weights & Biases. Its environment variables apply: with WANDB_MODE=offline it stays on this machine."""

    def __init__(self, name: str, settings: Mapping[str, Any], run_id: str) -> None:
        import wandb

        self._run = wandb.init(project=PROJECT, name=name, config=dict(settings), id=run_id or None, resume="allow")
        self.run_id = self._run.id

    def log(self, epoch: int, figures: Mapping[str, float]) -> None:
        """Add the figures."""
        self._run.log(dict(figures), step=epoch)

    def end(self, is_complete: bool, files: Sequence[Path]) -> None:
        """Keep the files, and end the run."""
        for file in files:
            self._run.save(str(file), base_path=str(file.parent), policy="now")
        self._run.finish(exit_code=0 if is_complete else 1)


EXTERNAL: dict[str, Callable[[str, Mapping[str, Any], str], Tracker]] = {"mlflow": Mlflow, "wandb": Wandb}


class Trackers:
    """All trackers of a run. A tracker that fails is not called again."""

    def __init__(self, trackers: Mapping[str, Tracker]) -> None:
        self._trackers = dict(trackers)

    def log(self, row: Row) -> None:
        """Give all trackers the figures of an epoch."""
        figures = {
            name: float(value)
            for name, value in row.items()
            if isinstance(value, int | float) and name not in ("epoch", "is_best")
        }
        self._each(lambda tracker: tracker.log(int(row["epoch"]), figures))

    def end(self, is_complete: bool, files: Sequence[Path]) -> None:
        """End all trackers."""
        self._each(lambda tracker: tracker.end(is_complete, files))

    def _each(self, call: Callable[[Tracker], None]) -> None:
        for name, tracker in list(self._trackers.items()):
            try:
                call(tracker)
            except Exception as error:  # of any library, and of any server
                log.warning(
                    "training continues without %s, which failed: %s",
                    name,
                    " ".join(str(error).split())[:200],
                )
                del self._trackers[name]


@contextlib.contextmanager
def tracking(ws: Workspace, names: Sequence[str], settings: Mapping[str, Any]) -> Iterator[Trackers]:
    """Open the trackers while the context lasts. At its end they store model/curves.png.

    Raises SettingsError when a package is not installed.
    """
    ids: dict[str, str] = ws.storage.read_json(IDS) if ws.storage.exists(IDS) else {}
    trackers: dict[str, Tracker] = {}
    run_name = ws.storage.address().rstrip("/").rsplit("/", 1)[-1]
    for name in names:
        try:
            trackers[name] = EXTERNAL[name](run_name, settings, ids.get(name, ""))
        except ImportError as error:
            raise SettingsError(f"--track {name} needs a package: pip install 'aitax-ray[{name}]'") from error
        except Exception as error:
            log.warning("training starts without %s, which failed: %s", name, " ".join(str(error).split())[:200])
    if names:
        ws.storage.write_json(IDS, {name: trackers[name].run_id for name in names if name in trackers})
    all_of_them, is_complete = Trackers({**trackers, "tensorboard": TensorBoard(ws)}), False
    try:
        yield all_of_them
        is_complete = True
    finally:
        with tempfile.TemporaryDirectory() as folder:
            if ws.storage.exists(CURVES):
                ws.storage.fetch(CURVES, Path(folder))
            all_of_them.end(is_complete, sorted(Path(folder).iterdir()))
