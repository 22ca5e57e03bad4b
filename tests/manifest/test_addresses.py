import pytest

from aitax_ray.manifest.addresses import digest_address, unsign_address

ARCHIVE = "https://bucket.example/frogs.zip"


@pytest.mark.parametrize(
    "signature",
    [
        "X-Amz-Date=20260716T1&X-Amz-Expires=60&X-Amz-Credential=AKIA&X-Amz-Signature={}",
        "x-goog-date=20260716T1&x-goog-signature={}",
        "AWSAccessKeyId=AKIA&Expires={}&Signature=abc",
        "Expires={}&Signature=abc&Key-Pair-Id=K1",
        "sv=2024-11-04&se={}&sr=b&sp=r&sig=abc",
        "token={}",
    ],
)
def test_a_new_signature_is_the_same_file(signature: str) -> None:
    one, two = (f"{ARCHIVE}?{signature.format(value)}" for value in ("1", "2"))
    assert unsign_address(one) == unsign_address(two) == ARCHIVE
    assert digest_address(one) == digest_address(two) == digest_address(ARCHIVE)
    assert unsign_address(f"{one}&version=3") == f"{ARCHIVE}?version=3"


@pytest.mark.parametrize(
    "other",
    [
        "https://bucket.example/toads.zip?X-Amz-Signature=1",
        f"{ARCHIVE}?X-Amz-Signature=1&version=2",
        f"{ARCHIVE}?key=0000001",
        f"{ARCHIVE}?key=0000002",
        f"{ARCHIVE}?se=1",  # without a signature nothing says that this is a time
    ],
)
def test_another_path_or_parameter_is_another_file(other: str) -> None:
    assert digest_address(other) != digest_address(f"{ARCHIVE}?X-Amz-Signature=1")


def test_two_values_of_a_key_that_may_name_a_file_are_two_files() -> None:
    assert digest_address(f"{ARCHIVE}?key=1") != digest_address(f"{ARCHIVE}?key=2")
