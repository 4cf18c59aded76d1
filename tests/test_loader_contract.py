"""The contract of loaders holds for the line itself, and a loader that breaks it is caught."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from kosmos_loader.loading import Passage, PassageLoader
from kosmos_loader.testing.loaders import LoaderContract, Sources


class TestPassageLoader(LoaderContract):
    def loader(self, sources: Sources, **settings: Any) -> PassageLoader:
        return PassageLoader(**settings)

    def passages(self, loader: PassageLoader, sources: Sources) -> Iterator[Passage]:
        return loader.load(sources)


class Spoiled(TestPassageLoader):
    """A loader as others have them: what it gives is spoiled on the way."""

    def __init__(self, spoil: Callable[[Iterator[Passage]], Iterator[Passage]]) -> None:
        self.spoil = spoil

    def passages(self, loader: PassageLoader, sources: Sources) -> Iterator[Passage]:
        return self.spoil(loader.load(sources))


def eager(passages: Iterator[Passage]) -> Iterator[Passage]:
    return iter(list(passages))


def with_random_ids(passages: Iterator[Passage]) -> Iterator[Passage]:
    return (replace(passage, id=uuid4().hex) for passage in passages)


def nested(passages: Iterator[Passage]) -> Iterator[Passage]:
    for passage in passages:
        boxes: Any = json.loads(str(passage.metadata["boxes"]))
        yield replace(passage, metadata={**passage.metadata, "boxes": boxes})


def with_one_dict(passages: Iterator[Passage]) -> Iterator[Passage]:
    shared: dict[str, str | int | float] = {}
    for passage in passages:
        shared.update(passage.metadata)
        yield replace(passage, metadata=shared)


def silent(passages: Iterator[Passage]) -> Iterator[Passage]:
    return (passage for passage in passages if passage.text)


LAZY = "test_the_first_document_comes_before_the_second_page_is_read"


@pytest.mark.parametrize(
    ("spoil", "caught", "arguments"),
    [
        (eager, LAZY, {"mode": "page"}),
        (with_random_ids, "test_ids_are_stable_and_no_two_are_alike", {"mode": "page"}),
        (nested, "test_metadata_is_flat_complete_and_small", {"mode": "page"}),
        (with_one_dict, "test_documents_share_no_metadata", {}),
        (silent, "test_a_page_that_failed_is_an_empty_document_with_the_reason", {}),
    ],
    ids=["eager", "random ids", "nested metadata", "one dict for all", "silent about errors"],
)
def test_the_faults_of_other_loaders_are_caught(
    spoil: Callable[[Iterator[Passage]], Iterator[Passage]],
    caught: str,
    arguments: dict[str, str],
    tmp_path: Path,
) -> None:
    with pytest.raises((AssertionError, ValueError)):
        getattr(Spoiled(spoil), caught)(tmp_path, **arguments)
    getattr(TestPassageLoader(), caught)(tmp_path, **arguments)
