"""Large files are cut by their content: nothing lost, bounded, and a change costs the chunks around it."""

from __future__ import annotations

import io
import random

import pytest

from stackyard.evacuation.chunking import LEAST, MOST, chunks


def cut(data: bytes, most: int | None = None) -> list[bytes]:
    stream = io.BytesIO(data)
    return list(chunks(lambda n: stream.read(n if most is None else min(n, most))))


CONTENTS = {
    "empty": b"",
    "one-byte": b"x",
    "zeros": bytes(9 << 20),
    "random": random.Random(1).randbytes(9 << 20),
    "text": b"step 12 loss 0.25 accuracy 0.75\n" * (7 << 15),
    "just-the-largest": random.Random(2).randbytes(MOST),
    "one-more": random.Random(3).randbytes(MOST + 1),
}


@pytest.mark.parametrize("data", CONTENTS.values(), ids=CONTENTS.keys())
def test_the_chunks_are_the_content_and_no_chunk_is_too_small_or_too_large(data: bytes) -> None:
    found = cut(data)
    assert b"".join(found) == data
    assert all(LEAST <= len(chunk) <= MOST for chunk in found[:-1])
    assert all(0 < len(chunk) <= MOST for chunk in found[-1:])


@pytest.mark.parametrize("most", [1 << 16, 1_000_003, 3 << 20], ids=["small-reads", "odd-reads", "large-reads"])
def test_where_it_is_cut_does_not_depend_on_how_it_is_read(most: int) -> None:
    data = CONTENTS["random"]
    assert cut(data, most) == cut(data)


def test_a_byte_put_in_front_costs_the_first_chunks_only() -> None:
    data = random.Random(4).randbytes(24 << 20)
    assert len(set(cut(data)) - set(cut(b"!" + data))) <= 2


def test_random_content_makes_chunks_of_about_a_mebibyte_and_a_quarter() -> None:
    found = cut(random.Random(5).randbytes(48 << 20))
    assert 24 <= len(found) <= 64
