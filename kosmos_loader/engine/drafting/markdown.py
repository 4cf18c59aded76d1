"""Drafts of `<md>`: the words of the page's own `<ocr>`, and what markdown has between them."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from kosmos_loader.engine.drafting.base import Detokenizer, Drafter, Vocabulary
from kosmos_loader.engine.drafting.gaps import OUTSIDE, Habits, Sheet, table_behind
from kosmos_loader.engine.drafting.lines import OcrOutput

EMPHASIS = "*_`"
"""What words can be set between."""

BETWEEN = frozenset(" \t\n|#->~:\\")
"""What can stand between two lines, next to emphasis."""

TAIL = 16
"""Letters of the output by which its place on the page is found again."""

PATIENCE = 1
"""Tokens drafted while that place is in doubt."""


class MarkdownDrafter(Drafter):
    """Drafts an `<md>` output from the page's own `<ocr>`, which may still be growing.

    `habits` may be shared by the drafters of one model. As long as the `<ocr>` grows, a draft is
    either of the full length that was asked for or empty: the next line then makes it longer.
    """

    def __init__(self, vocabulary: Vocabulary, *, habits: Habits | None = None) -> None:
        self.vocabulary = vocabulary
        self.habits = Habits() if habits is None else habits
        self._sheet = Sheet()
        self._ocr = OcrOutput(vocabulary)
        self._heard = 0
        self._begin()

    def _begin(self) -> None:
        self._seen = 0
        self._detokenizer = Detokenizer(self.vocabulary)
        self._piece = 0
        self._offset = 0
        self._gap: str | None = ""
        """What stands before piece `_piece` so far, without emphasis; None inside the piece."""

        self._table = OUTSIDE
        self._stars = ""
        """Emphasis marks just written, which may be the half of one."""

        self._strong = ""
        """The mark that is open."""

        self._strong_from = 0
        self._tail = " "
        """The last letters of the output, without marks and with single spaces."""

        self._early = ""
        """What was written beyond the lines that are known yet."""

        self._missed = 0
        """Letters in a row that were others than expected."""

        self._plan: list[int] = []
        self._at = 0
        self._plan_end = -1
        """Lines from which the plan was made if it reaches to their end, -1 if it does not."""

    def hear(self, ocr_tokens: Sequence[int], *, ended: bool) -> None:
        """Takes in the page's `<ocr>` output so far, without its prompt."""
        if len(ocr_tokens) > self._heard:
            for token in ocr_tokens[self._heard :]:
                self._ocr.read(token)
            self._heard = len(ocr_tokens)
        sheet = self._sheet
        if ended and not sheet.has_ended:
            self._ocr.read(self.vocabulary.end)
            sheet.has_ended = True
            self._plan_end = -1
        for line in self._ocr.lines[len(sheet.pieces) :]:
            sheet.add(line)
        if self._early and (sheet.has_ended or self._piece < len(sheet.pieces)):
            self._catch_up()

    def propose(self, tokens: Sequence[int], limit: int) -> Sequence[int]:
        """At most `limit` tokens that may follow `tokens`, an `<md>` output without its prompt."""
        if len(tokens) < self._seen:
            self._begin()
        self._read(tokens)
        if limit <= 0:
            return []
        if len(self._plan) - self._at < limit and self._plan_end != len(self._sheet.pieces):
            self._make_plan(limit)
        if self.is_lost:
            return self._plan[self._at : self._at + min(limit, PATIENCE)]
        draft = self._plan[self._at : self._at + limit]
        return draft if len(draft) == limit or self._sheet.has_ended else []

    @property
    def is_lost(self) -> bool:
        """Whether the place of the output on the page is in doubt."""
        return self._missed > 1

    # --- reading what the model wrote

    def _read(self, tokens: Sequence[int]) -> None:
        plan, at = self._plan, self._at
        for token in tokens[self._seen :]:
            if at < len(plan) and plan[at] == token:
                at += 1
                continue
            self._take_in([*plan[:at], token])
            plan, at = [], 0
            self._plan_end = -1
        self._plan, self._at = plan, at
        self._seen = len(tokens)

    def _take_in(self, tokens: Sequence[int]) -> None:
        text = self._detokenizer.read(tokens)
        at = 0
        while at < len(text):
            at += self._copied(text, at) or self._step(text[at])

    def _copied(self, text: str, at: int) -> int:
        """How many characters of `text` from `at` on are the rest of the piece, or all of it."""
        if self._gap is not None or self._stars:
            return 0
        piece = self._sheet.pieces[self._piece].text
        count = min(len(text) - at, len(piece) - self._offset)
        run = piece[self._offset : self._offset + count]
        if not text.startswith(run, at):
            return 0
        self._tail = (self._tail + run)[-TAIL:]
        self._missed = 0
        self._advance(count)
        return count

    def _advance(self, count: int) -> None:
        self._offset += count
        if self._offset >= len(self._sheet.pieces[self._piece].text):
            self._piece += 1
            self._gap = ""

    def _step(self, character: str) -> int:
        if self._early:
            self._early += character
            if len(self._early) > TAIL:
                self._catch_up()
            return 1
        expected = self._expected()
        if character in EMPHASIS and (character != expected or self._stars):
            if self._stars and self._stars[0] != character:
                self._end_emphasis(character)
            self._stars += character
            return 1
        if self._stars:
            self._end_emphasis(character)
        if self._gap is None:
            self._step_inside(character, expected)
        else:
            self._step_between(character, expected, self._gap)
        return 1

    def _expected(self) -> str:
        """The next letter of the page, "" behind its last."""
        pieces = self._sheet.pieces
        if self._piece >= len(pieces):
            return ""
        return pieces[self._piece].text[self._offset if self._gap is None else 0]

    def _step_inside(self, character: str, expected: str) -> None:
        if character == expected or (expected == " " and character == "\n"):
            self._missed = 0
            self._say(expected)
            self._advance(1)
        elif character in BETWEEN:
            self._say(" " if character.isspace() else "")
        else:
            self._say(character)
            self._miss()

    def _step_between(self, character: str, expected: str, gap: str) -> None:
        if character == expected and not (
            character in BETWEEN and self._continued(gap, self._piece, self._table)
        ):
            if not self._missed:
                self.habits.note(self._sheet.gap(self._piece, self._table), gap)
            self._table = table_behind(gap, self._table)
            self._say(" ")
            self._say(character)
            self._missed = 0
            self._gap, self._offset = None, 0
            self._advance(1)
        elif character in BETWEEN:
            self._gap = gap + character
        elif not expected and not self._sheet.has_ended and not self._missed:
            self._early = character
        else:
            self._say(" " if gap else "")
            self._say(character)
            self._gap = ""
            self._miss()

    def _catch_up(self) -> None:
        """Reads again what was written before its line was known."""
        early, self._early = self._early, ""
        self._missed += bool(early)  # so that it is not put off once more
        for character in early:
            self._step(character)

    def _say(self, character: str) -> None:
        if character != " " or not self._tail.endswith(" "):
            self._tail = (self._tail + character)[-TAIL:]

    # --- emphasis

    def _end_emphasis(self, behind: str) -> None:
        """The marks in `_stars` are complete: they open or close, or are a bullet."""
        stars, self._stars = self._stars, ""
        if self._gap is not None and stars == "*" and behind == " ":
            self._gap += "*"
        elif self._strong and stars.startswith(self._strong):
            self._note_closing()
            self._strong = ""
        elif not self._strong:
            self._strong = stars[:3]
            self._strong_from = self._place()
            self.habits.note(stars[:1], stars[:3])

    def _note_closing(self) -> None:
        place, words = self._place(), self._sheet.words
        said = words[self._strong_from : place].strip()
        if not said:
            return
        whole = words[place : place + 1] in ("", " ") or self._gap is not None
        self.habits.note(
            (self._strong, "closes"), "line" if " " in said else "word" if whole else "bare"
        )

    def _mark_ahead(self) -> tuple[str, str]:
        """The rest of a mark of which the beginning is written, and the mark open behind it."""
        stars, strong = self._stars, self._strong
        if not stars:
            return "", strong
        known = (strong, *self.habits.of(stars[:1]), "**", "__")
        whole = next((mark for mark in known if mark.startswith(stars)), stars)
        return whole[len(stars) :], "" if strong else whole

    def _closed(self, text: str, strong: str) -> str:
        """`text`, the rest of a piece, with `strong` where it is likely to close."""
        if not strong:
            return text
        so_far = self._sheet.words[self._strong_from : self._place()] if self._strong else ""
        usual = "bare" if strong == "`" else "word"
        way = next(iter(self.habits.of((strong, "closes"))), usual)
        goes_on = way == "line" or " " in so_far.strip()
        end = -1 if goes_on else text.find(" ", 1)
        word = text if end < 0 else text[:end]
        if way == "bare":
            word = word.rstrip(".,;:!?)")
        return word + strong + text[len(word) :]

    # --- finding the place again

    def _place(self) -> int:
        """Where the output stands in the words of the page."""
        starts = self._sheet.starts
        if self._piece >= len(starts):
            return len(self._sheet.words)
        return starts[self._piece] + (self._offset if self._gap is None else 0)

    def _miss(self) -> None:
        """The model wrote a letter that is not the expected one."""
        self._missed += 1
        found = self._found()
        if found is not None:
            self._jump(found)
        elif self._gap is None and self._missed < 2:
            self._advance(1)  # it reads one letter differently

    def _found(self) -> int | None:
        """Behind the longest tail of the output that stands on the page, next place first."""
        words, tail, place = self._sheet.words, self._tail, self._place()
        for length in (TAIL, 10, 6, 4, 3, 2):
            needle = tail[-length:]
            if len(needle) < length:
                continue
            if length > 3:
                found = words.find(needle, max(0, place - 1))
                if found < 0:
                    found = words.rfind(needle, 0, place)
            elif self._missed > 1 or needle.startswith(" "):
                found = words.find(needle, max(0, place - 1), place + 400)
            else:
                continue
            if found >= 0:
                return found + length
        return None

    def _jump(self, place: int) -> None:
        """Goes on from `place` in the words of the page."""
        sheet = self._sheet
        if self._gap:
            self._table = table_behind(self._gap, self._table)
        piece = bisect_right(sheet.starts, place) - 1
        self._piece, self._offset, self._gap = piece, place - sheet.starts[piece], None
        self._advance(0)

    # --- planning what comes next

    def _make_plan(self, limit: int) -> None:
        self._take_in(self._plan[: self._at])
        self._at = 0
        text, is_all = self._ahead(32 + 6 * limit)
        self._plan = self.vocabulary.spell(text)
        if is_all and self._sheet.has_ended:
            self._plan.append(self.vocabulary.end)
        self._plan_end = len(self._sheet.pieces) if is_all else -1

    def _ahead(self, enough: int) -> tuple[str, bool]:
        """Some `enough` characters that are expected next, and whether they are all there are."""
        sheet = self._sheet
        pieces = sheet.pieces
        index, table, gap = self._piece, self._table, self._gap
        lead, strong = self._mark_ahead()
        parts = [lead]
        if gap == "" and strong and self._strong:
            parts.append(strong)  # all of the piece is said, and the mark still open
        elif gap is None or (strong and index < len(pieces)):
            rest = pieces[index].text[0 if gap is not None else self._offset :]
            parts.append(self._closed(rest, strong))
            index, gap = index + 1, ""
        size = sum(map(len, parts))
        while size < enough and index <= len(pieces):
            if index == len(pieces) and not sheet.has_ended:
                break
            expected = self._continued(gap, index, table)
            table = table_behind(gap + expected, table)
            text = pieces[index].text if index < len(pieces) else ""
            parts += [expected, text]
            size += len(expected) + len(text)
            index, gap = index + 1, ""
        return "".join(parts), index >= len(pieces) + sheet.has_ended

    def _continued(self, gap: str, index: int, table: int) -> str:
        """What is expected between `gap` and piece `index`."""
        place = self._sheet.gap(index, table)
        for known in (*self.habits.of(place), place.usual, *COMMON):
            if known.startswith(gap):
                return known[len(gap) :]
        return " " if gap.endswith(("#", "-")) else ""


COMMON = ("", " ", "\n\n", "\n", "\n\n- ", "\n- ", "|", "|\n|", "|\n\n")
"""Gaps that are tried where nothing known begins like the one at hand."""
