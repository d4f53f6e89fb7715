"""Variants of the core chosen by hand: queues, topics, the account, and eviction."""

from __future__ import annotations

from typing import Final

from tests.mutations.variants import ByHand

__all__ = ["CHANNELS"]

CHANNEL: Final = "trio_broker/core/channel.py"
MEMORY: Final = "trio_broker/core/memory.py"
QUEUE: Final = "trio_broker/core/queue.py"
BACKLOG: Final = "trio_broker/core/backlog.py"
SUBSCRIPTION: Final = "trio_broker/core/subscription.py"
TOPIC: Final = "trio_broker/core/topic.py"

CHANNELS: Final = (
    # -- queues --------------------------------------------------------------------------------------------------------
    ByHand(
        "requeue-missing",
        QUEUE,
        "        for delivery in waiting:\n            self._backlog.give_back(delivery)\n",
        "",
        "what an ended consumer was not sent is lost",
    ),
    ByHand(
        "requeue-to-the-back",
        QUEUE,
        "        for delivery in waiting:\n            self._backlog.give_back(delivery)\n",
        "        for delivery in waiting:\n            self._backlog.append(delivery)\n",
        "what an ended consumer was not sent comes after what was published later",
    ),
    ByHand(
        "requeue-not-merged",
        BACKLOG,
        "        while self._returned and self._returned[0][0] < last_position:\n",
        "        while False:\n",
        "what two consumers give back is not sorted into each other",
    ),
    ByHand(
        "requeue-taken-missing",
        QUEUE,
        "            if len(again):\n                self._backlog.give_back(again)\n",
        "",
        "what was taken for a write that was cut is lost",
        ("queue_over_the_network",),
    ),
    ByHand(
        "requeue-without-dispatch",
        QUEUE,
        "            self._changed.unpark_all()\n        self._dispatch()\n\n    def has_room",
        "            self._changed.unpark_all()\n\n    def has_room",
        "what came back waits although a consumer has room",
    ),
    ByHand(
        "requeue-after-the-end",
        QUEUE,
        "        if self.line.closed or self._is_over:\n            self._give_up()\n",
        "        if self._is_over:\n            self._give_up()\n",
        "what comes back to an ended broker is kept, uncounted, for ever",
    ),
    ByHand(
        "dispatch-wakes-nobody",
        QUEUE,
        "            if full and self._has_room():\n                self._changed.unpark_all()\n",
        "",
        "publishers in line are not told that the backlog has room",
    ),
    ByHand(
        "rotation-without-the-full",
        QUEUE,
        "                del self._rotation[subscription]\n                self._full[subscription] = None\n",
        "                del self._rotation[subscription]\n",
        "a consumer that was full once is in no list: it is never found again",
    ),
    ByHand(
        "remove-from-rotation-only",
        QUEUE,
        "        self._full.pop(subscription, None)\n",
        "",
        "a full consumer that left is still counted, and woken",
    ),
    ByHand(
        "queue-closed-before-its-members",
        CHANNEL,
        "        for subscription in self._members():\n            subscription.finish()\n        self._give_up()\n",
        "        self._give_up()\n",
        "subscribers of an ended broker wait for ever",
    ),
    ByHand(
        "backlog-account-not-reversed",
        BACKLOG,
        "        self._count(delivery, -1)\n",
        "        self.messages -= len(delivery)\n",
        "the account keeps what has left the backlog",
    ),
    # -- topics --------------------------------------------------------------------------------------------------------
    ByHand(
        "topic-members-full-for-ever",
        TOPIC,
        "        del self._subscriptions[subscription]\n        self._no_longer_full(subscription)\n",
        "        del self._subscriptions[subscription]\n",
        "publishers wait for a full subscription that has left",
    ),
    ByHand(
        "topic-wakes-nobody",
        TOPIC,
        "            if not self._full:\n                self._changed.unpark_all()\n",
        "",
        "publishers in line are not told that all have room",
    ),
    ByHand(
        "topic-fan-out-in-place",
        TOPIC,
        "        for subscription in tuple(subscriptions):\n",
        "        for subscription in subscriptions:\n",
        "the fan-out is cut in the middle when a policy removes a subscription",
        ("each_overflow_policy",),
    ),
    ByHand(
        "topic-discards-uncounted",
        TOPIC,
        "        self.counters.discarded += sum(map(len, taken)) + sum(map(len, waiting))\n",
        "        pass\n",
        "what was accepted and given up appears in no counter",
    ),
    ByHand(
        "memory-wakes-nobody",
        MEMORY,
        "        if cost < 0 and self._room and self.cost < self._cost_max:\n            self._room.unpark_all()\n",
        "",
        "publishers wait for the account for ever",
    ),
    ByHand(
        "memory-wakes-one",
        MEMORY,
        "self._room.unpark_all()",
        "self._room.unpark()",
        "who is woken may not use it, and the others sleep on",
    ),
    # -- eviction ------------------------------------------------------------------------------------------------------
    ByHand(
        "evict-without-cancel",
        SUBSCRIPTION,
        '        else:\n            self.owner.cancel(reason=f"evicted: {reason}")\n',
        "",
        "an evicted connection is held open by a peer that does not read",
        ("topic_over_the_network",),
    ),
    ByHand(
        "watch-never-ends",
        CHANNEL,
        "        end = trio.current_time() + self.limits.stall_seconds_max\n",
        "        end = math.inf\n",
        "publishers wait for ever for a program that does not receive",
        ("topic_with_a_stuck_subscriber",),
    ),
    ByHand(
        "watch-begins-anew",
        CHANNEL,
        "            if watch is None and subscription.owner is None and subscription.mailbox.is_full:\n",
        "            if subscription.owner is None and subscription.mailbox.is_full:\n",
        "every publisher that gives up gives a stuck program its whole time again",
    ),
)
