"""Variants of the client chosen by hand: what was handed over, what was read, and how its block ends."""

from __future__ import annotations

from typing import Final

from tests.mutations.variants import ByHand

__all__ = ["CLIENT"]

CLIENT_FILE: Final = "trio_broker/client/framed.py"
SUBSCRIPTION_FILE: Final = "trio_broker/client/framed_subscription.py"

CLIENT: Final = (
    # -- the client ----------------------------------------------------------------------------------------------------
    ByHand(
        "client-hands-over-before-room",
        CLIENT_FILE,
        "        async with self._line:\n            while self._cost",
        "        async with self._line:\n"
        "            self._outgoing.append(self._session.encode(Message(channel, body)))\n"
        "            self._unsent += 1\n"
        "            while self._cost",
        "a message is handed over, and then the publish waits, where it may be cancelled",
    ),
    ByHand(
        "client-unsent-not-counted-down",
        CLIENT_FILE,
        "                self._unsent -= len(outgoing)\n",
        "",
        "leaving the block complains of messages that were sent",
    ),
    ByHand(
        "client-cost-not-counted-down",
        CLIENT_FILE,
        "                self._cost -= cost\n",
        "",
        "the client's mailbox is full for ever after so many bytes",
    ),
    ByHand(
        "client-counts-down-before-the-write",
        CLIENT_FILE,
        '                await self._stream.send_all(b"".join(outgoing))\n'
        "                self._unsent -= len(outgoing)\n",
        "                self._unsent -= len(outgoing)\n"
        '                await self._stream.send_all(b"".join(outgoing))\n',
        "what was lost with the connection is not complained of",
    ),
    ByHand(
        "client-writes-in-the-caller",
        CLIENT_FILE,
        "            self._unsent += 1\n"
        "            self._cost += len(body) + MESSAGE_COST\n"
        "            self._work.unpark()\n",
        "            if len(self._outgoing) == 1 and not self._unsent:\n"
        "                await self._stream.send_all(self._outgoing.pop())\n"
        "                return\n"
        "            self._unsent += 1\n"
        "            self._cost += len(body) + MESSAGE_COST\n"
        "            self._work.unpark()\n",
        "a cancelled publish leaves a fragment of a frame",
    ),
    ByHand(
        "client-deaf",
        CLIENT_FILE,
        '            self._break("the broker closed the connection")\n',
        "            await trio.sleep_forever()\n",
        "that the broker went is not noticed before the next write",
    ),
    ByHand(
        "client-closes-only-in-order",
        CLIENT_FILE,
        "    stream.socket.close()  # all that the stream's aclose does, but for its checkpoint: nothing",
        "    if failure is None:\n        stream.socket.close()  # nothing",
        "the connection of a block that was cancelled stays open",
    ),
    ByHand(
        "client-error-in-a-group",
        CLIENT_FILE,
        "        failure = failure or error\n",
        "        failure = error\n",
        "an exception of the body leaves in a group",
    ),
    ByHand(
        "client-swallows-the-end",
        CLIENT_FILE,
        "    if failure is not None:\n        raise failure\n    if client.unsent:\n",
        "    if failure is not None and not isinstance(failure, trio.Cancelled):\n"
        "        raise failure\n"
        "    if client.unsent:\n",
        "a cancellation of the block does not go on",
    ),
    ByHand(
        "client-loses-silently",
        CLIENT_FILE,
        "    if client.unsent:\n",
        "    if False:\n",
        "leaving in order does not tell of messages that could not be sent",
    ),
    ByHand(
        "client-farewell-without-deadline",
        CLIENT_FILE,
        "                with trio.move_on_after(limits.farewell_seconds_max):\n"
        "                    await written.wait()\n",
        "                await written.wait()\n",
        "leaving waits for ever for a broker that does not read",
    ),
    ByHand(
        "client-leaves-without-farewell",
        CLIENT_FILE,
        "                with trio.move_on_after(limits.farewell_seconds_max):\n"
        "                    await written.wait()\n",
        "",
        "leaving in order does not send what was handed over",
    ),
    ByHand(
        "client-says-hello-before-its-try",
        SUBSCRIPTION_FILE,
        "    try:\n        await stream.send_all(session.hello())\n        yield subscription\n",
        "    await stream.send_all(session.hello())\n    try:\n        yield subscription\n",
        "cancelled while entering, the connection stays open",
    ),
    ByHand(
        "client-takes-before-it-has-read",
        SUBSCRIPTION_FILE,
        "            return Message(self.channel, self._waiting.popleft())\n",
        "            payload = self._waiting.popleft()\n"
        "        await trio.lowlevel.checkpoint()\n"
        "        return Message(self.channel, payload)\n",
        "a message was taken when Cancelled is raised",
    ),
    ByHand(
        "client-readers-race",
        SUBSCRIPTION_FILE,
        "        async with self._reading:\n            while not self._waiting:\n",
        "        if True:\n            while not self._waiting:\n",
        "two tasks on one stream",
    ),
    ByHand(
        "client-ends-inside-a-frame",
        SUBSCRIPTION_FILE,
        "self._over = trio.EndOfChannel() if cut_off is None else trio.BrokenResourceError(cut_off)",
        "self._over = trio.EndOfChannel()",
        "an end inside a frame is taken for an orderly one",
    ),
)
