"""How a reading is compared with the truth: word F1, line IoU, NED, NTED, and quotes.

All scores are 0..1, higher is better, and 1 only where nothing is wrong that the score looks at.
They are the four of KOSMOS-2.5 (arXiv 2309.11419, appendix A.2 and A.3); where the paper does not
say how words and boxes are matched, the docstring says how they are here.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache

from markdown_it import MarkdownIt
from rapidfuzz import fuzz
from rapidfuzz.distance import Levenshtein

from kosmos_loader.geometry import Box, iou

# Which of these a transcript has is the choice of the person who typed it, not a reading error.
_TYPEWRITER = str.maketrans(
    dict.fromkeys("‐‑‒–—―−", "-") | dict.fromkeys("‘’‚‛′", "'") | dict.fromkeys("“”„‟″«»", '"')
)
# Han, kana, Thai, Lao, Khmer and Burmese are written without spaces: each character is a word.
_ALONE = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
_WORD = re.compile(rf"(?=\w)[{_ALONE}]|[^\W_{_ALONE}]+")


@cache
def normalised(text: str) -> str:
    """`text` in NFKC, with straight quotes, plain dashes, and single spaces for white space."""
    return " ".join(unicodedata.normalize("NFKC", text).translate(_TYPEWRITER).split())


def words(text: str) -> list[str]:
    """The words of `text`, normalised and case-folded: its runs of letters and digits.

    Punctuation ends a word and is in none: `RM3.00` is `rm3` and `00`, and a bullet is no word. In
    scripts without spaces each character is a word, which makes word F1 character F1 there.
    """
    return _WORD.findall(normalised(text).casefold())


@dataclass(frozen=True)
class WordScore:
    """How many words were found; both sides as bags, so that order plays no part."""

    precision: float
    recall: float

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall."""
        both = self.precision + self.recall
        return 2 * self.precision * self.recall / both if both else 0.0


def word_score(text: str, truth: str) -> WordScore:
    """Precision and recall of the words of `text`; 1 where neither side has any."""
    found, wanted = Counter(words(text)), Counter(words(truth))
    if not found or not wanted:
        same = float(found == wanted)
        return WordScore(same, same)
    shared = (found & wanted).total()
    return WordScore(shared / found.total(), shared / wanted.total())


def line_iou(boxes: Sequence[Box], truth: Sequence[Box]) -> float:
    """Mean over the lines of `truth` of the IoU with the line read there, 0 where there is none.

    Lines are matched one to one, the pair with the largest IoU first: greedy, which differs from
    the best assignment only where lines compete for each other, and lines of text hardly overlap.
    Lines that were read beside the truth cost nothing here; they cost precision of words.
    """
    if not truth:
        return float(not boxes)
    pairs = ((iou(a, b), i, j) for i, a in enumerate(boxes) for j, b in enumerate(truth))
    taken: tuple[set[int], set[int]] = set(), set()
    total = 0.0
    for share, i, j in sorted((p for p in pairs if p[0] > 0), reverse=True):
        if i in taken[0] or j in taken[1]:
            continue
        taken[0].add(i)
        taken[1].add(j)
        total += share
    return total / len(truth)


def ned(text: str, truth: str) -> float:
    """1 - edit distance / length of the longer text, both normalised; 1 where both are empty."""
    return Levenshtein.normalized_similarity(normalised(text), normalised(truth))


# --- markdown as trees ---------------------------------------------------------------------------

MAX_NODES = 1_500
"""Nodes of a tree above which NTED is not computed. The time grows with the product of the nodes
of both trees; 1,152 nodes a side took 25 s of CPU, and no page of the test data comes near."""


@dataclass
class Node:
    """An element of the HTML that markdown stands for: tag, own text, children in order."""

    tag: str
    text: str = ""
    children: list[Node] = field(default_factory=list)


_MARKDOWN = MarkdownIt("commonmark").enable(["table", "strikethrough"])


def tree(markdown: str) -> Node:
    """The HTML tree of `markdown`: blocks, table parts and inline marks, under one `body`."""
    root = Node("body")
    path = [root]
    blocks = _MARKDOWN.parse(markdown)
    tokens = (t for b in blocks for t in ([b] if b.children is None else b.children))
    for token in tokens:
        if token.hidden:  # the paragraphs of a tight list are no elements of the HTML
            continue
        if token.nesting == 1:
            node = Node(token.tag)
            path[-1].children.append(node)
            path.append(node)
        elif token.nesting == -1:
            path.pop()
        elif token.tag in ("", "br"):  # words, raw HTML, and the ends of lines
            path[-1].text += "\n" if token.tag else token.content
        else:
            path[-1].children.append(Node(token.tag, token.content))
    return root


def _rename_cost(a: Node, b: Node) -> float:
    """0 for the same element, 1 for another tag, and between them the edit distance of the text.

    As in TEDS (arXiv 1911.10683), so that one wrong letter does not cost a whole paragraph.
    """
    if a.tag != b.tag:
        return 1.0
    return 1.0 - ned(a.text, b.text)


def tree_distance(a: Node, b: Node) -> float:
    """Least cost of turning tree `a` into tree `b` by inserting, deleting and renaming nodes.

    Zhang and Shasha, Simple fast algorithms for the editing distance between trees and related
    problems (SIAM J. Comput. 18, 1989): exact, for ordered trees. A node costs 1 to insert or
    delete; renaming costs `_rename_cost`.
    """
    nodes_a, first_a, keys_a = _postorder(a)
    nodes_b, first_b, keys_b = _postorder(b)
    distance = [[0.0] * len(nodes_b) for _ in nodes_a]
    for i in keys_a:
        for j in keys_b:
            top, left = first_a[i], first_b[j]
            # forest[x][y]: the first x nodes below i, from `top`, to the first y below j
            forest = [[0.0] * (j - left + 2) for _ in range(i - top + 2)]
            for x in range(1, i - top + 2):
                forest[x][0] = float(x)
            for y in range(1, j - left + 2):
                forest[0][y] = float(y)
            for x in range(1, i - top + 2):
                for y in range(1, j - left + 2):
                    m, n = top + x - 1, left + y - 1
                    best = min(forest[x - 1][y], forest[x][y - 1]) + 1
                    if first_a[m] == top and first_b[n] == left:
                        rename = _rename_cost(nodes_a[m], nodes_b[n])
                        best = min(best, forest[x - 1][y - 1] + rename)
                        distance[m][n] = best
                    else:
                        before = forest[first_a[m] - top][first_b[n] - left]
                        best = min(best, before + distance[m][n])
                    forest[x][y] = best
    return distance[-1][-1]


def _postorder(root: Node) -> tuple[list[Node], list[int], list[int]]:
    """Nodes in post-order, the index of each one's leftmost leaf, and the key roots.

    A key root is the last node with its leftmost leaf: the root, and every node with a sibling on
    its left.
    """
    nodes: list[Node] = []
    first: list[int] = []

    def visit(node: Node) -> int:
        leaves = [visit(child) for child in node.children]
        leftmost = leaves[0] if leaves else len(nodes)
        nodes.append(node)
        first.append(leftmost)
        return leftmost

    visit(root)
    return nodes, first, sorted({leaf: index for index, leaf in enumerate(first)}.values())


def _size(node: Node) -> int:
    return 1 + sum(map(_size, node.children))


def nted(markdown: str, truth: str) -> float | None:
    """1 - tree edit distance / nodes of the larger tree; None above `MAX_NODES`.

    The `body` that every tree has is not counted, so that nothing read from a full page is 0. Two
    trees may be further apart than the larger one has nodes (a chain and a fan); that is 0 too.
    """
    a, b = tree(markdown), tree(truth)
    larger = max(_size(a), _size(b)) - 1
    if larger == 0:
        return 1.0
    if larger > MAX_NODES:
        return None
    return max(0.0, 1.0 - tree_distance(a, b) / larger)


# --- questions -----------------------------------------------------------------------------------


def _folded(text: str) -> str:
    """Letters and digits of `text`; a gap between two digits stays, as `.` or as a space."""
    bare = re.sub(r"[^\w\s|]|_", ".", unicodedata.normalize("NFKC", text).casefold())
    bare = re.sub(r"\.*[\s|][\s|.]*", " ", bare)
    return re.sub(r"(?<!\d)[ .]+|[ .]+(?!\d)", "", re.sub(r"\.+", ".", bare))


def holds_answer(quote: str, answers: Sequence[str]) -> bool:
    """True where `quote` holds one of `answers`, whatever the case, spaces and punctuation.

    Numbers are compared whole: `20.00` is in `RM 20.00` and neither in `120.00` nor in `1,20.00`.
    """
    return any(
        re.search(_whole(folded), _folded(quote)) for folded in map(_folded, answers) if folded
    )


def _whole(folded: str) -> str:
    before = r"(?<!\d)(?<!\d\.)" if folded[0].isdigit() else ""
    after = r"(?!\d)" if folded[-1].isdigit() else ""
    return before + re.escape(folded) + after


def assertion_holds(test: dict, text: str) -> bool:
    """Whether `text` passes an olmOCR-Bench assertion of kind present, absent or order.

    present and absent: the phrase stands in the text (in its first `first_n` or last `last_n`
    characters, where given) with at most `max_diffs` edits; order: one phrase before the other.
    """
    text = normalised(text)
    if test["type"] == "order":
        before, after = (_place(test[key], text, test) for key in ("before", "after"))
        return before is not None and after is not None and before < after
    if "first_n" in test or "last_n" in test:
        text = text[: test.get("first_n", 0)] + text[max(0, len(text) - test.get("last_n", 0)) :]
    return (_place(test["text"], text, test) is not None) == (test["type"] == "present")


def _place(phrase: str, text: str, test: dict) -> int | None:
    """Where `phrase` starts in `text`, None where it does not stand there."""
    phrase = normalised(phrase)
    if not test.get("case_sensitive", True):
        phrase, text = phrase.casefold(), text.casefold()
    if len(text) < len(phrase):
        return None
    found = fuzz.partial_ratio_alignment(phrase, text)
    least = 100 - 100 * test.get("max_diffs", 0) / len(phrase)
    return found.dest_start if found and found.score >= least else None
