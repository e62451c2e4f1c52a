"""Two thousand spoilt specs: each is loaded or refused in words, never with a traceback."""

from __future__ import annotations

import random

import pytest

from stackyard.spec import SpecError, load

CASES = 2_000
NASTY = [
    *("yes", "010", "1e3", "0x10", ".nan", "-.inf", "1:30", "~", "null", "-1", "0", "1.5", "true", "2024-01-01"),
    *('"', "'", "[", "]", "{", "}", "&a", "*a", "!!str", "|", ">", "%", "@", "`", "- ", "? ", ": ", "#", "---", "..."),
    *(
        "<<",
        "\t",
        "\0",
        "\ufeff",
        "\u2028",
        "é",
        "\U0001f600",
        "\\",
        "\r",
        "\n\n  ",
        "9" * 400,
        "x" * 300,
        "../..",
        "/",
    ),
    *("10s", "64KiB", "a:b", "local", "before", "after", "binary", "multiclass", "string", "measured_at", "overrides:"),
]


def _spoilt(text: str, random: random.Random) -> bytes:
    """The text after one to four changes that a hand, a merge or a disk may make."""
    for _ in range(random.randint(1, 4)):
        lines = text.splitlines(keepends=True) or ["\n"]
        at, other = random.randrange(len(lines)), random.randrange(len(lines))
        match random.randrange(9):
            case 0:
                del lines[at]
            case 1:
                lines.insert(other, lines[at])
            case 2:
                lines[at], lines[other] = lines[other], lines[at]
            case 3:
                lines[at] = " " * random.randrange(8) + lines[at].lstrip()
            case 4:
                lines[at] = lines[at].split(":")[0] + ": " + random.choice(NASTY) + "\n"
            case 5:
                lines[at] = lines[at].replace(random.choice(lines[at]), random.choice(NASTY), 1)
            case 6:
                lines[at] = "".join(random.sample(lines[at], len(lines[at])))
            case 7:
                cut = random.randrange(len(text) + 1)
                lines = [text[:cut] + random.choice(NASTY) + text[cut:]]
            case 8:
                lines = lines[:at]
        text = "".join(lines)
    raw = bytearray(text.encode())
    if raw and random.random() < 0.15:
        raw[random.randrange(len(raw))] = random.randrange(256)
    return random.randbytes(random.randrange(300)) if random.random() < 0.03 else bytes(raw)


def _problems(checkout) -> list[str]:
    try:
        load(checkout.stack)
    except SpecError as refusal:
        return [str(problem) for problem in refusal.problems] or ["refused without a reason\n"]
    return []


@pytest.mark.parametrize("part", range(4))
def test_a_spoilt_spec_is_loaded_or_refused_in_words(part, checkout):
    sound = {file: file.read_text(encoding="utf-8") for file in (checkout.project, checkout.stack)}
    refused = 0
    for case in range(part * CASES // 4, (part + 1) * CASES // 4):
        chance = random.Random(case)
        for file, text in sound.items():
            spoil = chance.random() < (0.85 if file == checkout.project else 0.4)
            file.write_bytes(_spoilt(text, chance) if spoil else text.encode())
        told = _problems(checkout)
        refused += bool(told)
        for line in told:
            assert line.isprintable(), f"seed {case}: {line!r}"
            assert len(line) < 1000, f"seed {case}: {line}"
            assert "pydantic" not in line, f"seed {case}: {line}"
    assert refused > CASES // 4 * 0.6  # most are spoilt indeed
