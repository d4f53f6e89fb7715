"""Variants chosen by hand: settlement, transactions, and what a server does for peers that speak STOMP."""

from __future__ import annotations

from typing import Final

from tests.mutations.variants import ByHand

__all__ = ["STOMP"]

BEATING: Final = "trio_broker/server/beating.py"
CHANNEL: Final = "trio_broker/core/channel.py"
CONNECTION: Final = "trio_broker/server/connection.py"
DIALECT: Final = "trio_broker/server/stomp.py"
HOLDING: Final = "trio_broker/server/holding.py"
LEDGER: Final = "trio_broker/core/ledger.py"
QUEUE: Final = "trio_broker/core/queue.py"
READER: Final = "trio_broker/server/reader.py"
SPEAKER: Final = "trio_broker/server/speaker.py"
SUBSCRIPTION: Final = "trio_broker/core/subscription.py"
TRANSACTION: Final = "trio_broker/core/transaction.py"

STOMP: Final = (
    # -- settling ------------------------------------------------------------------------------------------------------
    ByHand(
        "nack-gives-room-before-it-gives-back",
        LEDGER,
        "            if requeue:  # before anybody hears of the room: it comes first\n"
        "                subscription.channel.take_back(runs_of(entries))\n",
        "            if requeue:\n"
        "                self._tell(subscription)\n"
        "                subscription.channel.take_back(runs_of(entries))\n",
        "what is given back comes after what came later",
        ("settling_together", "rejecting", "leaving_with_unsettled_work"),
    ),
    ByHand(
        "nack-forgets-to-give-back",
        LEDGER,
        "                subscription.channel.take_back(runs_of(entries))\n",
        "                pass\n",
        "what is given back is lost",
        ("settling_together", "rejecting"),
    ),
    ByHand(
        "ack-tells-nobody",
        LEDGER,
        "            subscription.channel.counters.delivered += len(entries)\n            self._tell(subscription)\n",
        "            subscription.channel.counters.delivered += len(entries)\n",
        "a worker whose credit was used up is never given anything again",
        ("a_worker_that_leaves_with_unsettled_work", "one_by_one"),
    ),
    ByHand(
        "ack-settles-one-of-many",
        LEDGER,
        "        if entry.subscription.ack is AckMode.CLIENT:\n",
        "        if False:\n",
        "what a cumulative acknowledgement covers comes again",
        ("settling_together", "leaving_with_unsettled_work"),
    ),
    ByHand(
        "ack-settles-many-for-one",
        LEDGER,
        "        if entry.subscription.ack is AckMode.CLIENT:\n",
        "        if True:\n",
        "an acknowledgement of one message loses those before it",
        ("rejecting", "one_by_one"),
    ),
    ByHand(
        "give-up-keeps-the-cost",
        LEDGER,
        "        subscription.unsettled.clear()\n        self._count(-sum(entry.cost for entry in entries))\n",
        "        subscription.unsettled.clear()\n",
        "the account keeps what somebody who is gone had not settled",
        ("a_worker_that_leaves_with_unsettled_work", "leaving_with_unsettled_work"),
    ),
    ByHand(
        "settled-keeps-the-cost",
        LEDGER,
        "            self._note_settled(each, each + 1)\n        self._count(-sum(entry.cost for entry in entries))\n",
        "            self._note_settled(each, each + 1)\n",
        "the account keeps what was settled",
        ("one_by_one",),
    ),
    ByHand(
        "leave-forgets-the-ledger",
        SUBSCRIPTION,
        "            taken += self.ledger.give_up(self)\n",
        "            self.ledger.give_up(self)\n",
        "what somebody who is gone had not settled is lost",
        ("a_worker_that_leaves_with_unsettled_work", "leaving_with_unsettled_work"),
    ),
    ByHand(
        "withdraw-leaves-the-mailbox",
        SUBSCRIPTION,
        "            self.channel.take_back((), self.mailbox.recover())\n",
        "            self.channel.take_back(())\n",
        "what waits for one that unsubscribed is kept from the others",
        ("unsubscribing_in_the_middle_of_a_write", "a_drain_with_unsettled_work"),
    ),
    ByHand(
        "withdraw-calls-it-tried",
        SUBSCRIPTION,
        "            self.channel.take_back((), self.mailbox.recover())\n",
        "            self.channel.take_back(self.mailbox.recover())\n",
        "what was never sent counts as an attempt, and says so",
        ("unsubscribing_in_the_middle_of_a_write",),
    ),
    ByHand(
        "withdraw-ends-at-once",
        SUBSCRIPTION,
        "        if self._withdrawn and not self._taken and not self.unsettled:\n",
        "        if self._withdrawn:\n",
        "what is under way to one that unsubscribed goes to another as well",
        ("unsubscribing_in_the_middle_of_a_write",),
    ),
    ByHand(
        "withdrawn-never-ends",
        LEDGER,
        "        subscription.may_have_room()\n        subscription.end_if_settled()\n",
        "        subscription.may_have_room()\n",
        "a subscription that was given up stays, and its queue with it, after all was settled",
        ("unsubscribing_in_the_middle_of_a_write",),
    ),
    ByHand(
        "cut-settles-what-is-in-the-ledger",
        SUBSCRIPTION,
        "        if self.credit is not None:  # what was taken is in the ledger, whether it left or not\n"
        "            return\n",
        "",
        "a write that is cut settles what is to be acknowledged, or fails",
        ("a_server_that_is_cancelled", "a_drain_with_unsettled_work"),
    ),
    ByHand(
        "credit-without-end",
        SUBSCRIPTION,
        "self.credit - self.mailbox.messages - len(self.unsettled)\n",
        "self.credit - self.mailbox.messages\n",
        "one worker is given everything, settled or not",
        ("one_by_one", "a_worker_that_leaves_with_unsettled_work"),
    ),
    ByHand(
        "expiry-ignored",
        SUBSCRIPTION,
        "        if trio.current_time() < self.mailbox.oldest_expires_at:\n            return False\n",
        "        if trio.current_time() < math.inf:\n            return False\n",
        "what is of no use any more is sent out of a mailbox",
        ("messages_that_expire",),
    ),
    ByHand(
        "expired-uncounted",
        SUBSCRIPTION,
        "        self.channel.counters.expired += self.mailbox.expire_oldest()\n",
        "        self.mailbox.expire_oldest()\n",
        "what has expired appears in no counter",
        ("messages_that_expire",),
    ),
    # -- several queues at once ----------------------------------------------------------------------------------------
    ByHand(
        "together-looks-at-one",
        TRANSACTION,
        "                if channel is not ready and not _can_accept(channel, in_reserve):\n",
        "                if ready is None and not _can_accept(channel, in_reserve):\n",
        "there is room in one when there is none any more in the other",
        ("room_in_one_that_is_taken_back", "publishing_to_all"),
    ),
    ByHand(
        "together-looks-once",
        TRANSACTION,
        "    while obstacle is not None:\n",
        "    if obstacle is not None:\n",
        "it is not accepted, and nobody says so",
        ("room_in_one_that_is_taken_back", "publishing_to_all"),
    ),
    ByHand(
        "together-in-part",
        TRANSACTION,
        "                    obstacle = channel\n                    return channel\n",
        "                    obstacle = channel\n                    break\n",
        "it is accepted though there is no room, and then once more",
        ("room_in_one_that_is_taken_back", "publishing_to_all"),
    ),
    ByHand(
        "together-forgets-where-it-stands",
        TRANSACTION,
        "            if channel is not obstacle:\n",
        "            if True:\n",
        "it stands in the line of a channel that nobody knows any more",
        ("the_end_while_one_waits_for_memory",),
    ),
    ByHand(
        "together-without-reserve",
        TRANSACTION,
        "        accept = partial(_accept_all, register, batches, in_reserve, ready=obstacle)\n",
        "        accept = partial(_accept_all, register, batches, False, ready=obstacle)\n",
        "who waits for a topic loses its queue's reserve",
        ("a_commit_in_reserve_that_waits_for_a_topic",),
    ),
    ByHand(
        "reserve-without-bound",
        QUEUE,
        "        if self._backlog.cost < self.limits.backlog_bytes_max + self.limits.backlog_reserve_bytes_max:\n",
        "        if True:\n",
        "who has something to settle may fill the memory",
        ("workers_that_send_before_they_settle",),
    ),
    ByHand(
        "reserve-for-nobody",
        DIALECT,
        "        return self.has_unsettled and self._broker.offer_all((batch,), in_reserve=True)\n",
        "        return False\n",
        "workers that send before they settle lock each other",
        ("workers_that_send_before_they_settle",),
    ),
    ByHand(
        "reserve-for-everybody",
        DIALECT,
        "        return self.has_unsettled and self._broker.offer_all((batch,), in_reserve=True)\n",
        "        return self._broker.offer_all((batch,), in_reserve=True)\n",
        "a queue that is full makes nobody wait",
        ("a_send_that_waits",),
    ),
    # -- transactions --------------------------------------------------------------------------------------------------
    ByHand(
        "commit-settles-before-it-publishes",
        DIALECT,
        "        if not self._broker.offer_all(self._prepared(command), in_reserve=self.has_unsettled):\n",
        "        self._settle_all(command)\n"
        "        if not self._broker.offer_all(self._prepared(command), in_reserve=self.has_unsettled):\n",
        "what a transaction settles is settled though it is not carried out",
        ("transactions_that_are_given_up",),
    ),
    ByHand(
        "commit-that-waited-settles-nothing",
        DIALECT,
        "in_reserve=in_reserve)\n            self._settle_all(command)\n",
        "in_reserve=in_reserve)\n",
        "a transaction that waited is carried out in part",
        ("a_transaction_that_waits_for_room",),
    ),
    ByHand(
        "commit-one-by-one",
        DIALECT,
        "            await self._broker.publish_all("
        "self._prepared(command), patience_seconds, in_reserve=in_reserve)\n",
        "            for batch in self._prepared(command):\n"
        "                await self._broker.publish_batch(batch, patience_seconds)\n",
        "a transaction that waited is carried out in part",
        ("a_transaction_that_waits_for_room", "transactions_that_are_given_up"),
    ),
    # -- how a conversation goes, and ends -----------------------------------------------------------------------------
    ByHand(
        "error-and-then-messages",
        SPEAKER,
        "        self._is_parting = True\n",
        "",
        "a peer that was told ERROR is sent messages after it",
        ("one_who_errs_between_messages",),
    ),
    ByHand(
        "error-without-part",
        CONNECTION,
        "            self._speaker.part(farewell)\n",
        "            pass\n",
        "a peer that broke the protocol is never told",
        ("errors",),
    ),
    ByHand(
        "farewell-without-deadline",
        CONNECTION,
        "trio.current_time() + self._broker.limits.farewell_seconds_max",
        "math.inf",
        "a peer that does not read its ERROR holds its place until the stall rule ends it",
        ("errors",),
    ),
    ByHand(
        "beating-goes-on",
        CONNECTION,
        "                    if self._dialect is not None:\n                        self._dialect.stop()\n",
        "",
        "a connection that has said everything does not end, for its heart-beats' tasks",
        ("heart_beats",),
    ),
    ByHand(
        "beating-judges-those-that-are-not-read",
        BEATING,
        "            if not self._conversation.is_reading():\n",
        "            if False:\n",
        "a peer whose message waits is taken for a silent one",
        ("heart_beats",),
    ),
    ByHand(
        "beating-is-deaf",
        DIALECT,
        "            self._beating.hear()\n",
        "            pass\n",
        "a peer that beats is taken for a silent one",
        ("heart_beats",),
    ),
    ByHand(
        "beating-in-vain",
        BEATING,
        "                speaker.outbox.put_control(HEART_BEAT)\n",
        "                pass\n",
        "a peer that wants heart-beats gets none",
        ("heart_beats",),
    ),
    ByHand(
        "control-without-mark",
        READER,
        "        return self._speaker.outbox.control_bytes <= self._broker.limits.control_bytes_max\n",
        "        return True\n",
        "replies that nobody takes fill the memory",
        ("replies_that_wait",),
    ),
    ByHand(
        "control-without-stall",
        SPEAKER,
        "                self._stalled(stall_reason(self._limits))\n                return\n",
        "                return\n",
        "a peer that takes no replies holds its place",
        ("replies_that_nobody_takes",),
    ),
    ByHand(
        "control-clock-runs-on",
        SPEAKER,
        "            self._stall.stop()  # nothing waits, in no mailbox\n",
        "",
        "a peer that took its replies late is held for one that stalls",
        ("replies_that_wait",),
    ),
    ByHand(
        "drain-keeps-what-is-to-be-settled",
        DIALECT,
        "            if subscription.credit is not None:\n                subscription.withdraw()\n",
        "            pass\n",
        "a drain sends what nobody will be able to acknowledge",
        ("a_drain_with_unsettled_work",),
    ),
    ByHand(
        "evictions-unheard",
        DIALECT,
        "        return next((reason for reason in reasons if reason is not None), None)\n",
        "        return None\n",
        "an evicted peer ends for no reason that the log would tell",
        ("an_eviction_of_one_with_unsettled_work",),
    ),
    ByHand(
        "temporary-queue-for-ever",
        QUEUE,
        "        return self._is_temporary and not self._open\n",
        "        return False\n",
        "answers to somebody who is gone are kept for ever",
        ("a_request_whose_asker_goes",),
    ),
    ByHand(
        "transaction-grows-without-mark",
        HOLDING,
        "        return not (grows and self._memory.is_full) or dialect.has_unsettled\n",
        "        return True\n",
        "open transactions fill the memory",
        ("a_transaction_that_outgrows_the_memory",),
    ),
)
