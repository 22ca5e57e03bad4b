"""The errors of aitax_ray. Each message is one sentence that a user can act on: what is wrong, then what to do.

    AitaxError              the command ends with exit status 1 and this one line
    ├── ArchiveError        the input is no Darwin Core Archive with photographs
    ├── GbifError           GBIF does not answer, or says no
    ├── DataError           too little data, or none, for what was asked
    ├── MissingArtifactError  a stage's input is not there; the message names the command that makes it
    ├── StaleArtifactError  a stage's input is older than what it was made from
    ├── StorageError        a root cannot be read or written
    ├── ClusterError        Ray does not start or is out of reach
    ├── EngineError         an engine is incomplete, altered or of another format
    ├── RequestError        a request for identification cannot be answered as it is
    └── SettingsError       settings contradict each other or the data: exit status 2
        └── ArchitectureError   an architecture is unknown or does not take the photographs: exit status 1

A bad photograph is no error: it is a row with a status and a reason. Messages hide the passwords and keys of addresses.
"""

from aitax_ray.web import hide_secrets


class AitaxError(Exception):
    """Base of all errors that the user can mend."""

    exit_status = 1

    def __init__(self, message: str = "") -> None:
        super().__init__(hide_secrets(message))


class ArchiveError(AitaxError):
    """The input is not a Darwin Core Archive with photographs."""


class GbifError(AitaxError):
    """GBIF cannot be reached, or refuses."""


class DataError(AitaxError):
    """There is too little data for what was asked."""


class MissingArtifactError(AitaxError):
    """A stage's input is not there."""

    def __init__(self, stage: str, root: str) -> None:
        super().__init__(f"nothing complete from `{stage}` under {root}: run `aitax {stage} --root {root}` first")
        self.stage, self.root = stage, hide_secrets(root)

    def __reduce__(self) -> tuple[type["MissingArtifactError"], tuple[str, str]]:
        return type(self), (self.stage, self.root)  # errors come from other processes too


class StaleArtifactError(AitaxError):
    """A stage's input was made from an artifact that has changed since."""


class StorageError(AitaxError):
    """A root that cannot be read or written."""


class ClusterError(AitaxError):
    """Ray does not start or cannot be reached."""


class EngineError(AitaxError):
    """An engine that cannot be loaded or trusted; `brief` says why without a path, so that anybody may read it."""

    def __init__(self, message: str = "", brief: str = "it cannot be loaded") -> None:
        super().__init__(message)
        self.brief = brief


class RequestError(AitaxError):
    """A request that cannot be answered as it is; `status` is the HTTP status that says so, with its `headers`."""

    def __init__(self, message: str, status: int = 400, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.headers = status, headers or {}


class SettingsError(AitaxError):
    """Settings that cannot be used."""

    exit_status = 2


class ArchitectureError(SettingsError):
    """An architecture that is not known, or does not suit the data."""

    exit_status = 1
