"""What travels through Ray Data: tables of one row, a page or what came of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from kosmos_loader.document import Line, Page, PageInfo
from kosmos_loader.errors import require

_TOLD = ("page", "reading", "kept", "fatal")
"""What the driver is told of a page."""


def page_row(page: Page, outcome: Mapping[str, Any]) -> Any:
    """A page, with pixels where there is no `outcome` yet."""
    arrow = require("pyarrow", extra="ray")
    told = {"page": page.info.to_dict(), **outcome}
    if not outcome:
        told["text_layer"] = [line.to_dict() for line in page.text_layer]
        told["document_info"] = dict(page.document_info)
    pixels = None if outcome else np.ascontiguousarray(page.pixels).data.cast("B")
    schema = arrow.schema([("told", arrow.string()), ("pixels", arrow.binary())])
    return arrow.table({"told": [json.dumps(told)], "pixels": [pixels]}, schema=schema)


def page_of(told: Mapping[str, Any], pixels: Any) -> Page:
    """The page of such a row."""
    info = PageInfo.from_dict(told["page"])
    values = np.frombuffer(pixels.as_buffer(), np.uint8).reshape(info.height, info.width, 3)
    return Page(
        **vars(info),
        pixels=values.copy(),  # Ray's memory can be read and not written to
        text_layer=tuple(Line.from_dict(line) for line in told["text_layer"]),
        document_info=told["document_info"],
    )


def outcome_row(outcome: Mapping[str, Any]) -> Any:
    """What came of a page."""
    arrow = require("pyarrow", extra="ray")
    told = {name: outcome[name] for name in _TOLD if name in outcome}
    return arrow.table({"outcome": [json.dumps(told)]})
