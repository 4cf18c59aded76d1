"""XML and HTML as small trees, from files that nobody vouches for.

Only what the file itself says is read: entities that it declares are refused (they can be made to
grow without bounds) and nothing it points to is opened. A page is handed over as soon as its
element ends, and dropped, so that a file of a thousand pages takes the room of one.
"""

from __future__ import annotations

import html.entities
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any, TypeVar
from xml.parsers import expat

from kosmos_loader.errors import CorruptFile

DEEPEST = 200
"""Levels of nesting. OCR files have about ten."""

_VOID = frozenset(("area", "base", "br", "col", "hr", "img", "input", "link", "meta", "wbr"))
"""HTML elements that have no end tag."""


@dataclass(slots=True)
class Node:
    """An element: its name without namespace, attributes, and texts and elements in order."""

    name: str
    attributes: dict[str, str] = field(default_factory=dict)
    children: list[Node | str] = field(default_factory=list)

    def get(self, name: str) -> str:
        """An attribute, "" where there is none."""
        return self.attributes.get(name, "")

    def elements(self, *names: str) -> list[Node]:
        """The child elements of these names, or all."""
        found = [child for child in self.children if isinstance(child, Node)]
        return [node for node in found if node.name in names] if names else found

    def walk(self) -> Iterator[Node]:
        """All elements below, in document order."""
        for node in self.elements():
            yield node
            yield from node.walk()

    @property
    def text(self) -> str:
        """All text below, as it stands."""
        return "".join(c if isinstance(c, str) else c.text for c in self.children)


class Tree:
    """Builds nodes from the events of a parser and hands each page over at its end.

    `is_page` tells the elements that are pages; `take` is given each, and what the root holds so
    far. Raises `CorruptFile` where elements are nested too deep.
    """

    def __init__(self, is_page: Callable[[Node], bool], take: Callable[[Node], None]) -> None:
        self._is_page = is_page
        self._take = take
        self.root: Node | None = None
        self._open: list[Node] = []

    def start(self, name: str, attributes: dict[str, str]) -> None:
        """An element begins."""
        node = Node(_local(name), {_local(key): value for key, value in attributes.items()})
        if len(self._open) >= DEEPEST:
            raise CorruptFile("elements are nested too deep")
        if self._open:
            self._open[-1].children.append(node)
        elif self.root is None:
            self.root = node
        self._open.append(node)

    def end(self, name: str) -> None:
        """An element ends, and with it those in it that were left open (as HTML allows)."""
        local = _local(name)
        if not any(node.name == local for node in self._open):
            return
        while self._open:
            node = self._open.pop()
            if self._is_page(node):
                self._take(node)
                node.children.clear()
            if node.name == local:
                return

    def data(self, text: str) -> None:
        """Text in the element that was begun last."""
        if self._open:
            self._open[-1].children.append(text)

    def finish(self) -> None:
        """End what was left open."""
        if self._open:
            self.end(self._open[0].name)


def parse_xml(content: bytes, tree: Tree) -> None:
    """Feeds XML to `tree`. `CorruptFile` where it is not well-formed or declares entities."""
    parser = expat.ParserCreate(namespace_separator="}")
    parser.buffer_text = True
    parser.StartElementHandler = tree.start
    parser.EndElementHandler = tree.end
    parser.CharacterDataHandler = tree.data
    parser.EntityDeclHandler = _refuse_entity
    parser.SkippedEntityHandler = lambda name, _is_parameter: tree.data(_named(name))
    try:
        parser.Parse(content, True)
    except expat.ExpatError as error:
        raise CorruptFile(f"it is not well-formed ({error})") from error
    except (LookupError, ValueError) as error:  # an encoding that Python does not know
        raise CorruptFile(f"it cannot be decoded ({error})") from error


Made = TypeVar("Made")


def pages_of(content: bytes, made: Callable[[Node, Node], Made]) -> list[Made]:
    """What `made` makes of each Page of an XML file and the root, before the next one is read.

    `CorruptFile`, also for a file without a Page.
    """
    pages: list[Made] = []
    tree = Tree(
        lambda node: node.name == "Page",
        lambda node: pages.append(made(node, tree.root or node)),
    )
    parse_xml(content, tree)
    if not pages:
        raise CorruptFile("it holds no Page")
    return pages


def _refuse_entity(name: str, *_: Any) -> None:
    raise CorruptFile(f"it declares the entity {name[:40]!r}, and files that do are not read")


def _named(name: str) -> str:
    """What an entity of HTML stands for; XHTML files name them without declaring them."""
    return html.entities.html5.get(f"{name};", "")


def parse_html(content: bytes, tree: Tree) -> None:
    """Feeds HTML to `tree`, however loosely it is written. `CorruptFile`."""
    parser = _Html(tree)
    try:
        parser.feed(_decoded(content))
        parser.close()
    except AssertionError as error:  # of the parser, about what begins with <![
        raise CorruptFile(f"it is no HTML ({error})") from error
    tree.finish()


class _Html(HTMLParser):
    def __init__(self, tree: Tree) -> None:
        super().__init__(convert_charrefs=True)
        self._tree = tree

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._tree.start(tag, {key: value or "" for key, value in attrs})
        if tag in _VOID:
            self._tree.end(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._tree.start(tag, {key: value or "" for key, value in attrs})
        self._tree.end(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in _VOID:
            self._tree.end(tag)

    def handle_data(self, data: str) -> None:
        self._tree.data(data)


def _decoded(content: bytes) -> str:
    """As the file declares its encoding, else UTF-8."""
    for mark, encoding in (
        (b"\xef\xbb\xbf", "utf-8-sig"),
        (b"\xff\xfe", "utf-16"),
        (b"\xfe\xff", "utf-16"),
    ):
        if content.startswith(mark):
            return content.decode(encoding, "replace")
    declared = re.search(rb"""(?:charset|encoding)\s*=\s*["']?\s*([\w.:-]+)""", content[:2048])
    try:
        return content.decode(declared[1].decode("ascii") if declared else "utf-8", "replace")
    except (LookupError, UnicodeError):  # idna, say, is one that does not replace
        return content.decode("utf-8", "replace")


def _local(name: str) -> str:
    """The name without its namespace."""
    return name.rpartition("}")[2].rpartition(":")[2]
