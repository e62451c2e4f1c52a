"""What a failed run says never gives a secret away, whatever the author's own error quotes."""

import pytest

from stackyard.training.failures import without


@pytest.mark.parametrize(
    ("value", "text", "told"),
    [
        pytest.param("s3cr3t", "cannot open db://me:s3cr3t@host", "cannot open db://me:(KEY)@host", id="in an address"),
        pytest.param("one\ntwo", "bad key two", "bad key (KEY)", id="a line of it"),
        pytest.param("", "nothing is set", "nothing is set", id="not set"),
    ],
)
def test_a_secret_in_an_error_is_replaced_by_its_name(value: str, text: str, told: str) -> None:
    assert without({"KEY": value}, text) == told
