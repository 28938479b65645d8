"""The window word and its arithmetic: pure functions from one word to the next.

     63                                              26 25                      0
     | end: milliseconds since the store's creation    | count, or one of the marks |

Rules of this file
- No clock, no state. A function is given a word and a time and says what the word becomes; ``None`` means that
  it stays as it is. A denial is a ``None``: it cannot write.
- It is the counterpart of ``rust/core/src/window.rs``, function by function in the same order, and
  ``tests/vectors/window.json`` is read by both. A change begins there.
- Time never runs back in a word: a reading earlier than one already used joins the newer window or is refused.

The windows. ``now < end`` is the running window. At ``now >= end`` a new one begins, whose end keeps the old one's
phase, so that the word also remembers where the server's windows begin. A word without a phase (empty, or one of
the marks) is anchored at its first use, or on the grid of Unix time.

The marks are counts that no limit reaches, so that a running mark refuses by the same comparison as a used-up
window. ENDED: a slot that changed its owner; its end field is a generation, not a time. PROBING: first contact,
one caller is out asking. SYNCING: a reply is being written in two steps (the native table only).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

COUNT_BITS = 26
COUNT_MASK = (1 << COUNT_BITS) - 1

FULL = 67_000_000
"""The largest limit, and the count of a window that lets nobody pass."""
ENDED = COUNT_MASK
PROBING = COUNT_MASK - 1
SYNCING = COUNT_MASK - 2

EMPTY = 0
MAX_WINDOW_MS = 366 * 86_400_000
"""The longest window, and the furthest that an end may lie ahead: 366 days."""
LATEST_MS = (1 << (64 - COUNT_BITS)) - 1 - MAX_WINDOW_MS
"""The latest time that a word can work with: every end that is made from it still fits the 38 bits."""
PROBE_TIMEOUT_MS = 30_000
"""How long a learning limiter's own probe may be out before the next caller probes (never longer than a window)."""


class Rule(NamedTuple):
    """One limit: how many (1..FULL), per how many milliseconds, and how its windows begin."""

    limit: int
    window_ms: int
    grid: bool = False
    learning: bool = False

    @property
    def blur_ms(self) -> int:
        """How far the whole seconds of a server's reset may blur the edge."""
        return min(self.window_ms // 4, 1000)


class View(NamedTuple):
    """What a word says at one instant: ``end`` is 0 when no window runs."""

    remaining: int
    end: int
    probing: bool


class Reply(NamedTuple):
    """What a reply said of the window that it belongs to, and what the answered request had taken."""

    remaining: int | None = None
    end: int | None = None
    cost: int = 1
    taken_end: int | None = None


def pack(end: int, count: int) -> int:
    """Make a word."""
    return end << COUNT_BITS | count


def end_of(word: int) -> int:
    """The end of a word's window (a generation, under the ENDED mark)."""
    return word >> COUNT_BITS


def count_of(word: int) -> int:
    """The count of a word, or its mark."""
    return word & COUNT_MASK


def is_live(word: int, now: int) -> bool:
    """Whether the word's window runs at ``now``."""
    return now < word >> COUNT_BITS and word & COUNT_MASK != ENDED


def has_phase(word: int) -> bool:
    """Whether an ended word says where the next window begins."""
    return word != EMPTY and word & COUNT_MASK <= FULL


def next_end(word: int, now: int, rule: Rule, wall_offset: Callable[[], int]) -> int:
    """The end of the window that begins at ``now`` after the ended ``word``.

    ``wall_offset`` is asked for Unix time minus ``now``, in milliseconds, only when the rule is on the grid.
    """
    if rule.grid:
        past_the_edge = (now + wall_offset()) % rule.window_ms
        return now + rule.window_ms - past_the_edge
    if has_phase(word):
        end = end_of(word)
        return end + ((now - end) // rule.window_ms + 1) * rule.window_ms
    return now + rule.window_ms


def take(word: int, now: int, rule: Rule, cost: int, wall_offset: Callable[[], int]) -> int | None:
    """Take ``cost`` (at least 1) from the window that runs, or open the next one."""
    if is_live(word, now):
        return word + cost if (word & COUNT_MASK) + cost <= rule.limit else None
    if cost > rule.limit:
        return None
    if rule.learning:
        return pack(now + min(rule.window_ms, PROBE_TIMEOUT_MS), PROBING)
    return pack(next_end(word, now, rule, wall_offset), cost)


def contact(
    word: int, now: int, rule: Rule, cost: int, timeout_ms: int, wall_offset: Callable[[], int]
) -> int | None:
    """As `take`, but where no phase is known yet one caller passes alone, as a probe.

    Nobody else passes until its reply has synced the word or ``timeout_ms`` has passed: a prober that dies
    blocks nobody.
    """
    if is_live(word, now) or (has_phase(word) and not rule.learning):
        return take(word, now, rule, cost, wall_offset)
    return pack(now + min(max(timeout_ms, 1), MAX_WINDOW_MS), PROBING) if cost <= rule.limit else None


def view(word: int, now: int, rule: Rule) -> View:
    """What the word says at ``now``."""
    if not is_live(word, now):
        return View(rule.limit, 0, False)
    count = count_of(word)
    return View(max(rule.limit - count, 0), end_of(word), count > FULL)


def sync(word: int, now: int, rule: Rule, reply: Reply, wall_offset: Callable[[], int]) -> int | None:
    """Align the word to what the server said.

    The reply's end is the latest possible edge of the server's *current* window (resets in whole seconds and the
    way back both push it later). Replies come late and out of order, hence:

    1. an end that has passed: a late reply, ignored whole, but that it ends a probe;
    2. no window runs, or a probe is out: the reply's window, the server's count (this opens a probe);
    3. nobody may pass (a penalty, a full count): ignored whole, an order outlives what a straggler says;
    4. the reply's end lies more than half a window ahead: the server is in a newer window, the old count is not
       carried;
    5. it lies almost a window behind: a reply of the window before, ignored whole;
    6. else it is the same window: the count only rises, the end only tightens, unless it was too early by more
       than the blur. A request taken before the edge but counted after it is charged to the newer window first.
    """
    if reply.end is not None and reply.end <= now:
        if not is_live(word, now) or count_of(word) != PROBING:
            return None
        reply = reply._replace(remaining=None, end=None)
    reply_end = None if reply.end is None else min(reply.end, now + MAX_WINDOW_MS)
    used = None if reply.remaining is None else max(rule.limit - reply.remaining, 0)
    cost = min(reply.cost, rule.limit)
    count = count_of(word)
    live = is_live(word, now)

    if not live or count == PROBING:
        if not live and used is None and reply_end is None:
            return None
        if rule.learning and used is None:
            return pack(now, PROBING) if live else None
        end = next_end(word, now, rule, wall_offset) if reply_end is None else reply_end
        return pack(end, cost if used is None else used)
    if count >= FULL:
        return None
    end = end_of(word)
    half = rule.window_ms // 2
    stated = end if reply_end is None else reply_end
    if stated > end + half:
        return pack(stated, cost if used is None else used)
    if end > stated + (rule.window_ms - rule.blur_ms):
        return None
    sent_before_the_edge = reply.taken_end is not None and stated > reply.taken_end + half
    charged = count + cost if sent_before_the_edge else count
    keeps_its_end = end <= stated <= end + rule.blur_ms
    following = pack(end if keeps_its_end else stated, min(max(charged, used or 0), FULL))
    return following if following != word else None


def penalize(word: int, now: int, until: int) -> int | None:
    """Let nobody pass before ``until``, nor before the running window's end."""
    until = min(until, now + MAX_WINDOW_MS)
    if until <= now:
        return None
    window_runs = is_live(word, now) and count_of(word) != PROBING
    following = pack(max(until, end_of(word)) if window_runs else until, FULL)
    return following if following != word else None


def settle(word: int, now: int, end: int, cost: int, actual: int) -> int | None:
    """Turn a cost that was taken in the window ending at ``end`` into ``actual`` (0 gives it back whole).

    Only if exactly that window still runs; charges above the limit too. A probe that is given back whole lets the
    next caller probe.
    """
    if not is_live(word, now) or end_of(word) != end:
        return None
    count = count_of(word)
    if count == PROBING:
        return pack(now, PROBING) if actual == 0 else None
    if count >= FULL:
        return None
    return pack(end, min(max(count + actual - cost, 0), FULL))
