"""S3 for Arrow, with our retries: Arrow's own client gives up early, and loses its settings on the way to a process.

S3 is asked again 0, 0.05, 0.1, 0.2, ... s after a 5xx, a throttled request or a lost connection: 51 s in all. Arrow's
own choice gives up after 6 s, and after 3 requests in the processes to which a filesystem was sent. Credentials,
region and address come from the usual chain.
"""

import re
import time
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs

MAX_ATTEMPTS = 11
FIRST_WAIT_S = 0.025
CONNECT_TIMEOUT_S, SILENCE_TIMEOUT_S = 5.0, 30.0
# The client of AWS does not send a request again when the body of the answer 503 is longer than what was asked for.
NOT_RETRIED = re.compile("Failed to flush response stream")

# What people can do about an error: a pattern for Arrow's text, and the remedy.
REMEDIES = (
    (
        "SLOW_?DOWN|HTTP status 5|NETWORK_CONNECTION|curlCode|SERVICE_UNAVAILABLE|INTERNAL_FAILURE|REQUEST_TIMEOUT",
        "the storage did not answer although it was asked again for about a minute: check that it is up and that this "
        "machine reaches it; then the same command goes on",
    ),
    ("NO_SUCH_BUCKET", "create the bucket first, or correct its name"),
    (
        "ACCESS_DENIED|HTTP status 40[13]|INVALID_ACCESS_KEY_ID|SIGNATURE_DOES_NOT_MATCH|EXPIRED_TOKEN",
        "check the credentials (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, ~/.aws, or the role of the machine) and "
        "what they may do",
    ),
    ("HTTP status 301|PERMANENT_REDIRECT", "set AWS_DEFAULT_REGION to the region of the bucket"),
)


def remedy(reason: str) -> str:
    """Say what to do about an error; "" when nothing is known."""
    return next((text for pattern, text in REMEDIES if re.search(pattern, reason, re.IGNORECASE)), "")


def with_retries(fs: pafs.S3FileSystem) -> pafs.PyFileSystem:
    """Give the same S3 with our retries. It can be sent to other processes."""
    return pafs.PyFileSystem(S3Handler(dict(fs.__reduce__()[1][0])))


class S3Handler(pafs.FileSystemHandler):  # type: ignore[misc]  # pyarrow has no types
    """The methods of Arrow's S3FileSystem. Folders are not made: S3 has none, and each level would take a request."""

    def __init__(self, options: dict[str, Any]) -> None:
        self.options = options
        self.fs = pafs.S3FileSystem(
            **options
            | {
                "retry_strategy": pafs.AwsDefaultS3RetryStrategy(max_attempts=MAX_ATTEMPTS),
                "connect_timeout": CONNECT_TIMEOUT_S,
                "request_timeout": SILENCE_TIMEOUT_S,
                "allow_delayed_open": True,  # a small file takes one request and not three
                "background_writes": True,  # otherwise closing completes an object of which a part was not sent
            }
        )

    def __reduce__(self) -> tuple[type["S3Handler"], tuple[dict[str, Any]]]:
        return type(self), (self.options,)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, S3Handler) and self.options == other.options

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = None  # type: ignore[assignment]

    def get_type_name(self) -> str:
        return "s3"

    def normalize_path(self, path: str) -> str:
        return str(self.fs.normalize_path(path))

    def get_file_info(self, paths: list[str]) -> Any:
        return self.fs.get_file_info(paths)

    def get_file_info_selector(self, selector: pafs.FileSelector) -> Any:
        return self.fs.get_file_info(selector)

    def create_dir(self, path: str, recursive: bool) -> None:
        pass

    def delete_dir(self, path: str) -> None:
        self.fs.delete_dir(path)

    def delete_dir_contents(self, path: str, missing_dir_ok: bool = False) -> None:
        self.fs.delete_dir_contents(path, missing_dir_ok=missing_dir_ok)

    def delete_root_dir_contents(self) -> None:
        raise NotImplementedError("all buckets are not deleted at once")

    def delete_file(self, path: str) -> None:
        self.fs.delete_file(path)

    def move(self, src: str, dest: str) -> None:
        self.fs.move(src, dest)

    def copy_file(self, src: str, dest: str) -> None:
        self.fs.copy_file(src, dest)

    def open_input_file(self, path: str) -> pa.PythonFile:
        return pa.PythonFile(_RetriedFile(self.fs.open_input_file(path)), mode="r")

    open_input_stream = open_input_file

    def open_output_stream(self, path: str, metadata: Any) -> pa.NativeFile:
        return self.fs.open_output_stream(path, metadata=metadata)

    def open_append_stream(self, path: str, metadata: Any) -> pa.NativeFile:
        raise NotImplementedError("S3 does not append")


class _RetriedFile:
    """A file that is read, with the retries that the client leaves out."""

    def __init__(self, file: pa.NativeFile) -> None:
        self._file = file
        self.seek, self.tell, self.close = file.seek, file.tell, file.close

    @property
    def closed(self) -> bool:
        return bool(self._file.closed)

    def read(self, num_bytes: int | None = None) -> bytes:
        return bytes(self._again(self._file.read, num_bytes))

    def read_buffer(self, num_bytes: int | None = None) -> pa.Buffer:
        return self._again(self._file.read_buffer, num_bytes)

    def _again(self, read: Callable[[int | None], Any], num_bytes: int | None) -> Any:
        start = self._file.tell()
        for attempt in range(MAX_ATTEMPTS):
            try:
                return read(num_bytes)
            except OSError as error:
                if not NOT_RETRIED.search(str(error)):
                    raise
                last = error
            self._file.seek(start)
            time.sleep(FIRST_WAIT_S * 2**attempt)
        raise last
