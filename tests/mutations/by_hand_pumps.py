"""Variants of the server chosen by hand: what is read for everybody, written without waiting, and settled."""

from __future__ import annotations

from typing import Final

from tests.mutations.variants import ByHand

__all__ = ["PUMPS"]

FLUSHER: Final = "trio_broker/server/flusher.py"
POLLER: Final = "trio_broker/server/poller.py"
SPEAKER: Final = "trio_broker/server/speaker.py"

PUMPS: Final = (
    # -- a write that is cut -------------------------------------------------------------------------------------------
    ByHand(
        "settle-what-was-cut",
        SPEAKER,
        "            if sent < len(data):\n"
        "                subscription.settle_first(subscription.note.messages_within(deliveries, data, sent))\n",
        "            subscription.settle()\n",
        "a partial write counts as settled: its messages are lost",
        ("queue_over_the_network",),
    ),
    ByHand(
        "settle-one-too-many",
        SPEAKER,
        "subscription.note.messages_within(deliveries, data, sent)",
        "subscription.note.messages_within(deliveries, data, sent) + 1",
        "the message that was torn counts as sent",
        ("queue_over_the_network",),
    ),
    ByHand(
        "settle-nothing-of-what-was-cut",
        SPEAKER,
        "subscription.note.messages_within(deliveries, data, sent)",
        "0",
        "messages that had left whole are given to another consumer",
        ("queue_over_the_network",),
    ),
    ByHand(
        "settle-before-the-write",
        SPEAKER,
        "subscription.note.encode(deliveries, subscription.first_number)\n",
        "subscription.note.encode(deliveries, subscription.first_number)\n        subscription.settle()\n",
        "messages are settled, and then their write is cut",
        ("queue_over_the_network",),
    ),
    ByHand(
        "stall-not-started",
        SPEAKER,
        "        self._stall.start()\n        view = memoryview(data)\n        try:\n",
        "        view = memoryview(data)\n        try:\n",
        "a peer that does not read is never noticed",
    ),
    ByHand(
        "stalled-but-not-evicted",
        SPEAKER,
        "                    subscription.evict(stall_reason(self._limits))\n                    return\n",
        "                    return\n",
        "the writer gives up, and the peer stays connected",
    ),
    # -- what is written without waiting -------------------------------------------------------------------------------
    ByHand(
        "flush-beside-a-writer",
        SPEAKER,
        "        if self.is_writing or self._is_mute:",
        "        if self._is_mute:",
        "two write at once, and frames are torn",
    ),
    ByHand(
        "flush-after-the-end",
        SPEAKER,
        "        if self.is_writing or self._is_mute:",
        "        if self.is_writing:",
        "a writer is started for a connection that has ended",
    ),
    ByHand(
        "flush-to-the-evicted",
        SPEAKER,
        "elif subscription is None or subscription.evicted is not None or self._is_parting:",
        "elif subscription is None or self._is_parting:",
        "an evicted peer is sent more",
    ),
    ByHand(
        "the-rest-is-not-flushed",
        SPEAKER,
        "            act()\n        self._stand_in_line()\n\n    async def _send_rest",
        "            act()\n\n    async def _send_rest",
        "what came while a writer waited is never written",
    ),
    ByHand(
        "flush-once",
        SPEAKER,
        "        if self._serving or not self.outbox.is_quiet:\n            self._stand_in_line()\n",
        "        if self._serving or not self.outbox.is_quiet:\n            pass\n",
        "what one write could not take is never written",
    ),
    ByHand(
        "closed-and-not-said",
        SPEAKER,
        "            self._serving = subscription if self.outbox.closed and subscription.mailbox.messages else None\n",
        "            self._serving = None\n",
        "a drain leaves what one write could not take",
    ),
    ByHand(
        "flusher-sleeps-on",
        FLUSHER,
        "        if not self._will_flush:\n            self._wake()\n",
        "        self._will_flush = True\n",
        "nobody writes what comes from a program, or from another connection's leaving",
    ),
    ByHand(
        "flusher-leaves-the-rest",
        FLUSHER,
        "        self._will_flush = False\n        if self._line:\n            self._wake()\n",
        "        self._will_flush = False\n",
        "what one flush could not write waits until something else comes",
    ),
    # -- reading for everybody -----------------------------------------------------------------------------------------
    ByHand(
        "poller-keeps-the-cancelled",
        POLLER,
        "            self._forget(descriptor)\n            return trio.lowlevel.Abort.SUCCEEDED\n",
        "            return trio.lowlevel.Abort.SUCCEEDED\n",
        "a reader that was cancelled is woken once more, by the next byte",
    ),
    ByHand(
        "poller-never-aborts",
        POLLER,
        "            if descriptor == self._acting:",
        "            if True:",
        "a reader whose peer is silent cannot be cancelled",
    ),
    ByHand(
        "poller-aborts-its-own",
        POLLER,
        "            if descriptor == self._acting:",
        "            if False:",
        "a reader that ended itself is woken twice",
    ),
    ByHand(
        "poller-loses-the-cancelled",
        POLLER,
        "        elif cancelled is not None:\n            self._wake(descriptor, outcome.capture(cancelled))\n",
        "",
        "a reader whose own message has evicted it is never woken",
    ),
    ByHand(
        "poller-loses-errors",
        POLLER,
        "            self._wake(descriptor, outcome.Error(error))\n",
        "            self._wake(descriptor, outcome.Value(None))\n",
        "a reset is taken for an orderly end",
    ),
)
