"""Greedy decoding of drafted tokens: what is kept, and when a sequence ends. No tensors.

A draft is verified as in speculative decoding with a greedy target (Leviathan et al., arXiv
2211.17192; Yang et al., "Inference with Reference", arXiv 2304.04487): the longest beginning that
the model would have written itself is kept, and one more token, its own. So drafts change how
fast the tokens come and not which.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from kosmos_loader import markup

LOOP_EVERY = 64
"""Tokens between two looks for a loop."""


def accepted(draft: Sequence[int], predictions: Sequence[int]) -> list[int]:
    """The tokens that follow: `predictions` up to and with the first that the draft missed.

    `predictions` holds one token more than `draft`: what follows the token before the draft, and
    what follows each token of it.
    """
    right = 0
    while right < len(draft) and draft[right] == predictions[right]:
        right += 1
    return list(predictions[: right + 1])


def loop_seen(
    tokens: Sequence[int], added: int, decode: Callable[[Sequence[int]], str] | None
) -> int | None:
    """How many of `tokens`, the last `added` of which are new, end in a loop; None for no loop.

    The rule is `markup.find_repetition`, which a finished output is cut by as well, so that an
    output that is stopped here keeps what it would keep if the loop went on to its limit. That a
    model gets out of one by itself is not waited for. It is looked at wherever another `LOOP_EVERY`
    tokens are full, however many came at once, on the text that `decode` makes of them.
    """
    if decode is None:
        return None
    full = (len(tokens) - added) // LOOP_EVERY + 1
    for length in range(full * LOOP_EVERY, len(tokens) + 1, LOOP_EVERY):
        seen = tokens[:length]
        if _ends_in_copies(seen) and markup.find_repetition(decode(seen)) is not None:
            return length
    return None


def _ends_in_copies(tokens: Sequence[int]) -> bool:
    """Whether the last tokens are one passage `markup.BOX_REPEATS` times: quick, and necessary."""
    copies = markup.BOX_REPEATS
    return any(
        tokens[-1 - period] == tokens[-1]
        and tokens[-(copies - 1) * period :] == tokens[-copies * period : -period]
        for period in range(1, len(tokens) // copies + 1)
    )
