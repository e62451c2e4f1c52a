"""`stackyard score` gets every row answered, whatever the service takes at once."""

import json
from typing import Any

import httpx
import pytest

from stackyard.cli import score
from stackyard.cli.failures import Failure
from stackyard.cli.stack import StackCard

CARD = StackCard.model_construct(addresses={"predict": "http://127.0.0.1:9/predict"})
TOO_MANY = {"error": "instances has too many", "problems": [{"path": "instances", "message": "has too many"}]}


def _client(most: int, status: int) -> httpx.Client:
    """A service that answers at most `most` rows at once, else `status`."""

    def answer(request: httpx.Request) -> httpx.Response:
        rows: list[dict[str, Any]] = json.loads(request.content)["instances"]
        if len(rows) > most:
            return httpx.Response(status, json=TOO_MANY)
        return httpx.Response(200, json={"predictions": [row["n"] for row in rows]})

    return httpx.Client(transport=httpx.MockTransport(answer))


@pytest.mark.parametrize("status", [413, 422], ids=["body-too-large", "too-many-rows"])
def test_rows_that_are_too_many_at_once_are_asked_in_smaller_parts_and_in_order(status: int) -> None:
    with _client(3, status) as client:
        assert score._post(client, CARD, [{"n": n} for n in range(10)]) == list(range(10))


def test_a_row_that_is_refused_alone_is_one_sentence() -> None:
    with _client(0, 422) as client, pytest.raises(Failure, match="the service answered 422"):
        score._post(client, CARD, [{"n": 1}, {"n": 2}])
