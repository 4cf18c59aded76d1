"""Text of right-to-left scripts in the order in which it stands on paper, left to right.

The Unicode bidirectional algorithm (UAX 9) without explicit embeddings, which no paper shows. PDF
content is in this order by custom, and programs that read it turn it round.
"""

from __future__ import annotations

import unicodedata
from itertools import groupby

_MIRRORED = str.maketrans("()[]{}<>«»‹›", ")(][}{><»«›‹")

_STRONG = {"L": "L", "R": "R", "AL": "R"}


def visual_order(text: str) -> str:
    """`text` as it stands on one line, from left to right."""
    if not any(unicodedata.bidirectional(character) in ("R", "AL", "AN") for character in text):
        return text
    levels = _levels(text)
    places = list(range(len(text)))
    for level in range(max(levels), 0, -1):
        places = _turned(places, [levels[place] >= level for place in places])
    # what reads the file turns brackets round with the text in which they stand (rule L4)
    shown = [
        text[place].translate(_MIRRORED) if levels[place] % 2 else text[place] for place in places
    ]
    return "".join(shown)


def _turned(places: list[int], is_turned: list[bool]) -> list[int]:
    """`places` with each run of those to be turned in opposite order (rule L2)."""
    turned: list[int] = []
    start = 0
    for turns, run in groupby(is_turned):
        end = start + len(list(run))
        turned += reversed(places[start:end]) if turns else places[start:end]
        start = end
    return turned


def _levels(text: str) -> list[int]:
    kinds = _resolved(text)
    base = next((kind for kind in kinds if kind in "LR"), "L")
    ground = 1 if base == "R" else 0
    return [
        {"L": 2 * ground, "R": 1, "n": 2}.get(kind, ground)
        for kind in _without_neutrals(kinds, base)
    ]


def _resolved(text: str) -> list[str]:
    """L, R, n (a number among right-to-left text) or " " (anything else) for each character."""
    kinds: list[str] = []
    strong = "L"
    for character in text:
        kind = unicodedata.bidirectional(character)
        if kind in _STRONG:
            strong = _STRONG[kind]
            kinds.append(strong)
        elif kind == "NSM":
            kinds.append(kinds[-1] if kinds else " ")
        elif kind == "AN" or (kind == "EN" and strong == "R"):
            kinds.append("n")
        elif kind == "EN":
            kinds.append("L")
        else:
            kinds.append(" ")
    for place, character in enumerate(text[1:-1], start=1):
        # "12.5" and "1/2" stay in one piece, and so does "5%"
        kind = unicodedata.bidirectional(character)
        around = kinds[place - 1], kinds[place + 1]
        if (kind in ("ES", "CS") and around == ("n", "n")) or (kind == "ET" and "n" in around):
            kinds[place] = "n"
    return kinds


def _without_neutrals(kinds: list[str], base: str) -> list[str]:
    """Neutral characters go with what is on both their sides, else with the line."""
    resolved: list[str] = []
    runs = [(kind, len(list(run))) for kind, run in groupby(kinds)]
    sides = {"L": "L", "R": "R", "n": "R"}
    for place, (kind, length) in enumerate(runs):
        if kind != " ":
            resolved += [kind] * length
            continue
        before = sides[runs[place - 1][0]] if place else base
        after = sides[runs[place + 1][0]] if place + 1 < len(runs) else base
        resolved += [before if before == after else base] * length
    return resolved
