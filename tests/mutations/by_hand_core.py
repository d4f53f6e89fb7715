"""Variants of the core chosen by hand: publishing, the line, receiving, subscribing and leaving."""

from __future__ import annotations

from typing import Final

from tests.mutations.variants import ByHand

__all__ = ["CORE"]

BROKER: Final = "trio_broker/core/broker.py"
CHANNEL: Final = "trio_broker/core/channel.py"
LINE: Final = "trio_broker/core/line.py"
LOCAL: Final = "trio_broker/core/local.py"
MAILBOX: Final = "trio_broker/core/mailbox.py"
QUEUE: Final = "trio_broker/core/queue.py"
SUBSCRIPTION: Final = "trio_broker/core/subscription.py"

CORE: Final = (
    # -- publishing ----------------------------------------------------------------------------------------------------
    ByHand(
        "publish-checkpoint-after-acceptance",
        BROKER,
        "        await trio.lowlevel.checkpoint()\n"
        "        if not self.offer(batch):\n"
        "            await self.publish_batch(batch)\n",
        "        if not self.offer(batch):\n"
        "            await self.publish_batch(batch)\n"
        "        await trio.lowlevel.checkpoint()\n",
        "the message has reached somebody when Cancelled is raised",
    ),
    ByHand(
        "publish-without-checkpoint",
        BROKER,
        "        await trio.lowlevel.checkpoint()\n        if not self.offer(batch):\n",
        "        if not self.offer(batch):\n",
        "a publish that finds room cannot be cancelled",
    ),
    ByHand(
        "publish-accepts-before-room",
        CHANNEL,
        "                async with self.line.head:\n                    while not self._has_room()",
        "                async with self.line.head:\n"
        "                    self._accept(batch)\n"
        "                    while not self._has_room()",
        "it is accepted, and then waits for room, where it may be cancelled",
    ),
    ByHand(
        "publish-counts-before-room",
        CHANNEL,
        "        try:\n            with self.line.place(patience_seconds):\n",
        "        self.counters.published += len(batch)\n"
        "        try:\n"
        "            with self.line.place(patience_seconds):\n",
        "what is cancelled in line has been counted as published",
    ),
    ByHand(
        "publish-forgets-closed-line",
        CHANNEL,
        "                    if not self.line.closed:  # which it may be since the step that woke this task\n",
        "                    if True:\n",
        "accepted by a broker that has ended, since the step that woke the publisher",
    ),
    ByHand(
        "publish-does-not-look-again",
        CHANNEL,
        "                    while not self._has_room() or self.memory.is_full:\n",
        "                    if not self._has_room() or self.memory.is_full:\n",
        "one look at the room is not enough: somebody else was woken too",
    ),
    ByHand(
        "offer-overtakes-the-line",
        CHANNEL,
        "        return self.line.is_empty and self._has_room()",
        "        return self._has_room()",
        "who comes later is accepted before those who stand in line",
    ),
    ByHand(
        "offer-to-the-ended",
        CHANNEL,
        "            raise BrokerDraining\n        return self.line.is_empty and self._has_room()",
        "            pass\n        return self.line.is_empty and self._has_room()",
        "an ended channel accepts what nobody will ever take",
    ),
    ByHand(
        "draining-reported-as-stalled",
        CHANNEL,
        "            if self.line.closed:\n                raise BrokerDraining\n            full",
        "            full",
        "a publisher that the end sends away is told that its patience ended",
    ),
    # -- the line ------------------------------------------------------------------------------------------------------
    ByHand(
        "line-open-to-latecomers",
        LINE,
        '            if self.closed:\n                scope.cancel(reason="the broker is draining")\n',
        "",
        "who stands in line after the end waits for ever",
    ),
    ByHand(
        "patience-not-renewed",
        LINE,
        "        if now >= self._renew_at:\n",
        "        if now < self._renew_at:\n",
        "a publisher is sent away although the channel moves",
    ),
    ByHand(
        "line-empty-while-its-head-waits",
        LINE,
        "return not self._places",
        "return True",
        "a channel is forgotten, or overtaken, while publishers stand in its line",
    ),
    # -- receiving -----------------------------------------------------------------------------------------------------
    ByHand(
        "receive-pops-before-checkpoint",
        LOCAL,
        "        await trio.lowlevel.checkpoint()\n        while (message := self._receive_nowait()) is None:\n",
        "        message = self._receive_nowait()\n"
        "        await trio.lowlevel.checkpoint()\n"
        "        while message is None and (message := self._receive_nowait()) is None:\n",
        "a message was taken when Cancelled is raised",
    ),
    ByHand(
        "receive-takes-no-turn-back",
        LOCAL,
        "        subscription.announce_what_is_left()\n        if full and not mailbox.is_full:\n",
        "        if full and not mailbox.is_full:\n",
        "of several tasks that receive from one subscription one sleeps while messages wait",
    ),
    ByHand(
        "receive-hides-the-last",
        LOCAL,
        "                message = self._receive_nowait()\n"
        "                if message is None:\n"
        "                    raise\n"
        "                return message\n",
        "                raise\n",
        "the end comes before the last messages of the mailbox",
    ),
    ByHand(
        "receive-after-eviction",
        LOCAL,
        "            raise SubscriptionEvicted(self.channel, self._subscription.evicted)",
        "            raise trio.EndOfChannel",
        "an evicted program believes in an orderly end",
    ),
    ByHand(
        "receive-makes-no-room",
        LOCAL,
        "        if full and not mailbox.is_full:\n            subscription.may_have_room()\n        return message\n",
        "        return message\n",
        "a mailbox that has room again is not reported: publishers wait, or are evicted from the rotation, for ever",
    ),
    # -- subscribing and leaving ---------------------------------------------------------------------------------------
    ByHand(
        "subscribe-without-leave",
        BROKER,
        "        try:\n            yield subscription\n        finally:\n            subscription.close()\n",
        "        yield subscription\n        subscription.close()\n",
        "cancelled in the block, the subscription stays",
    ),
    ByHand(
        "subscribe-leaves-after-checkpoint",
        BROKER,
        "        finally:\n            subscription.close()\n",
        "        finally:\n"
        "            await subscription._subscription.outbox.turn()\n"
        "            subscription.close()\n",
        "leaving waits, and is cancelled before it has left",
    ),
    ByHand(
        "leave-forgets-what-was-taken",
        SUBSCRIPTION,
        "        self.channel.end(taken, waiting)\n",
        "        self.channel.end((), waiting)\n",
        "what was taken for a write that was cut is lost",
        ("queue_over_the_network",),
    ),
    ByHand(
        "leave-forgets-what-waits",
        SUBSCRIPTION,
        "        self.channel.end(taken, waiting)\n",
        "        self.channel.end(taken, ())\n",
        "what waited in the mailbox of a queue's consumer that left is lost",
    ),
    ByHand(
        "leave-twice",
        SUBSCRIPTION,
        "        if self.ended:\n            return\n        self.retire()\n        self.ended = True\n",
        "        self.retire()\n        self.ended = True\n",
        "leaving is not idempotent: the second time the channel counts one subscription too few",
    ),
    ByHand(
        "leave-keeps-membership",
        SUBSCRIPTION,
        "            self.member = False\n            self.channel.remove(self)\n",
        "            self.member = False\n",
        "a subscription that left stays in its channel",
    ),
    ByHand(
        "leave-keeps-the-cost",
        MAILBOX,
        "        self._memory.add(-self.waiting_cost)\n        self.waiting_cost = 0\n",
        "        self.waiting_cost = 0\n",
        "the account keeps what a subscription that left had waiting",
    ),
    ByHand(
        "release-keeps-the-cost",
        MAILBOX,
        "        self._memory.add(-self.taken_cost)\n        self.taken_cost = 0\n",
        "        self.taken_cost = 0\n",
        "the account keeps what was taken for a write",
    ),
    ByHand(
        "channel-never-idle",
        CHANNEL,
        "        self._open -= 1\n        self._give_back(taken, waiting)\n",
        "        self._give_back(taken, waiting)\n",
        "a channel whose last subscription left stays in the register",
    ),
    ByHand(
        "channel-forgotten-with-messages",
        QUEUE,
        "        return not self._backlog.messages\n",
        "        return True\n",
        "a queue is forgotten together with what waits in it",
    ),
    ByHand(
        "mailbox-begins-anew",
        MAILBOX,
        "recovered.append(self._head[self._head_index :] if self._head_index else self._head)",
        "recovered.append(self._head)",
        "what a program had received of a batch comes back to its queue",
    ),
)
