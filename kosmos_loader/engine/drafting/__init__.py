"""Tokens that may come next, guessed from what a page is known to say. No tensors.

The engine decodes greedily and verifies a draft in one forward pass, so a draft never changes a
token: a right one saves steps, a wrong one wastes the width of a step. What is guessed:

- `<ocr>` is boxes and text in a fixed grammar; boxes go on from those above them, and where the
  page carries lines already (a text layer, another reader's), they are drafted with their text.
- `<md>` says what `<ocr>` says, in paragraphs, lists and tables. The words are copied from the
  lines; what stands between two lines (a space, a blank line and a mark, a bar) follows from how
  the lines stand to each other and from what the model wrote between such lines before.

```
page lines ──▶ OcrDrafter ──▶ <ocr> tokens ──▶ MarkdownDrafter ──▶ <md> tokens
```

Matching is done on text and not on tokens, since the same word is cut into other tokens behind a
bar than behind a space. Tokens come from spelling the text that is expected next, a passage at a
time; while the model follows it, a token costs one comparison.
"""

from kosmos_loader.engine.drafting.base import Drafter, Vocabulary
from kosmos_loader.engine.drafting.gaps import Habits
from kosmos_loader.engine.drafting.length import DraftLength
from kosmos_loader.engine.drafting.markdown import MarkdownDrafter
from kosmos_loader.engine.drafting.ocr import OcrDrafter

__all__ = ["DraftLength", "Drafter", "Habits", "MarkdownDrafter", "OcrDrafter", "Vocabulary"]
