"""A text and the places of its characters, through every cut and join."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from operator import attrgetter

from kosmos_loader.document import Span


@dataclass(frozen=True, slots=True)
class Text:
    """A text and the places of its characters, in order and without overlaps."""

    text: str = ""
    spans: tuple[Span, ...] = ()

    def __len__(self) -> int:
        return len(self.text)

    def __add__(self, other: Text) -> Text:
        if not self.text:
            return other
        return Text(self.text + other.text, (*self.spans, *_moved(other.spans, len(self.text))))

    def between(self, start: int, end: int) -> Text:
        """Characters `start..end`."""
        first = bisect_right(self.spans, start, key=attrgetter("end"))
        last = bisect_left(self.spans, end, key=attrgetter("start"))
        inside = (
            Span(max(span.start, start) - start, min(span.end, end) - start, span.page, span.box)
            for span in self.spans[first:last]
        )
        return Text(self.text[start:end], tuple(inside))

    def stripped(self, characters: str | None = None) -> Text:
        """Without `characters` (white space) at its ends."""
        bare = self.text.strip(characters)
        if len(bare) == len(self.text):
            return self
        start = len(self.text) - len(self.text.lstrip(characters))
        return self.between(start, start + len(bare))


def _moved(spans: Iterable[Span], by: int) -> Iterator[Span]:
    return (Span(span.start + by, span.end + by, span.page, span.box) for span in spans)
