"""Variants of the server chosen by hand: what a connection settles, deadlines, the drain, and the transports."""

from __future__ import annotations

from typing import Final

from tests.mutations.variants import ByHand

__all__ = ["SERVER"]

ACCEPTING: Final = "trio_broker/server/accepting.py"
CONNECTION: Final = "trio_broker/server/connection.py"
DEADLINE: Final = "trio_broker/server/deadline.py"
DIALECT: Final = "trio_broker/server/dialect.py"
READER: Final = "trio_broker/server/reader.py"
SERVER_FILE: Final = "trio_broker/server/server.py"
STALL: Final = "trio_broker/server/stall.py"
TRANSPORT: Final = "trio_broker/server/transport.py"

SERVER: Final = (
    # -- a connection --------------------------------------------------------------------------------------------------
    ByHand(
        "handshake-without-deadline",
        READER,
        "            self._deadline.expect_handshake()\n",
        "            pass\n",
        "a silent peer holds its place for ever",
        ("handshakes",),
    ),
    ByHand(
        "handshake-renewed-by-each-read",
        READER,
        "        commands = dialect.receive_data(data)\n",
        "        commands = dialect.receive_data(data)\n"
        "        if not dialect.greeted:\n"
        "            self._deadline.expect_handshake()\n",
        "a peer that drips its first frame holds its place for ever",
        ("handshakes",),
    ),
    ByHand(
        "frame-without-deadline",
        DEADLINE,
        "        if not self.runs:\n",
        "        if False:\n",
        "a peer that stops in a frame holds its place and its memory for ever",
    ),
    ByHand(
        "deadline-for-those-who-wait",
        READER,
        "            deadline.stop()\n            if len(commands) > _MANY:\n",
        "            if len(commands) > _MANY:\n",
        "a peer that has said everything is ended by the deadline of its handshake",
    ),
    ByHand(
        "publish-without-patience",
        DIALECT,
        "await self._broker.publish_batch(command.batch, self._broker.limits.publish_seconds_max)",
        "await self._broker.publish_batch(command.batch)",
        "a connection waits for ever for a channel that takes nothing",
    ),
    ByHand(
        "drain-accepts-what-comes",
        READER,
        "        if self._has_stopped:  # a drain came while these bytes were on their way: they are not accepted\n"
        "            return False\n",
        "",
        "messages that were read after the drain began are accepted",
        ("drain_idle_and_busy",),
    ),
    ByHand(
        "linger-before-leaving",
        CONNECTION,
        "            self._leave()  # before lingering: its queue's work must not wait for that\n",
        "",
        "a queue's work waits until the linger of its consumer is over",
    ),
    ByHand(
        "what-is-blocked-is-forgotten",
        READER,
        "self._blocked = [*reversed(commands[index:])]",
        "self._blocked = [command]",
        "what a peer sent after a message that had to wait is lost",
    ),
    ByHand(
        "blocked-goes-on-after-the-end",
        READER,
        "            while self._blocked and not self._has_stopped:\n",
        "            while self._blocked:\n",
        "what stood behind a message that had to wait is accepted although the conversation has ended",
    ),
    ByHand(
        "digested-while-blocked",
        READER,
        "        return not self._blocked and self._may_go_on()\n",
        "        return self._may_go_on()\n",
        "what comes after a message that had to wait overtakes it",
    ),
    # -- the server ----------------------------------------------------------------------------------------------------
    ByHand(
        "drain-waits-first",
        SERVER_FILE,
        "        self.begin_drain()\n        await self._ended.wait()\n",
        "        await trio.lowlevel.checkpoint()\n        self.begin_drain()\n        await self._ended.wait()\n",
        "a drain that is cancelled at once has not begun, though it is irrevocable",
        ("drain_idle_and_busy",),
    ),
    ByHand(
        "drain-admits-the-accepted",
        SERVER_FILE,
        "            if self._before is not None:\n",
        "            if False:\n",
        "a connection that was accepted in the step before a drain is served without an end",
    ),
    ByHand(
        "retire-not-at-once",
        SERVER_FILE,
        "        self._retire_all()\n        for connection in self._open:\n",
        "        for connection in self._open:\n",
        "a connection that drains is given what another gives back",
        ("drain_idle_and_busy",),
    ),
    ByHand(
        "connection-stays-registered",
        SERVER_FILE,
        "            del self._open[connection]\n            self._cut += not connection.has_spoken\n",
        "            self._cut += not connection.has_spoken\n",
        "a connection that ended is counted, and told to drain, for ever",
    ),
    ByHand(
        "cut-not-counted",
        SERVER_FILE,
        "            self._cut += not connection.has_spoken\n",
        "            pass\n",
        "the report of a drain does not tell of those that were cut",
        ("drain_stuck",),
    ),
    ByHand(
        "boundary-in-the-wrong-place",
        SERVER_FILE,
        "        except* Exception as failures:  # beside which there may be a cancellation, which goes on\n",
        "        except* KeyError as failures:\n",
        "one connection's failure ends the server",
    ),
    ByHand(
        "stream-that-cannot-be-closed",
        ACCEPTING,
        "        try:\n            await self.stream.aclose()\n        except Exception:",
        "        try:\n            await self.stream.aclose()\n        except KeyError:",
        "a stream that cannot be closed ends the server",
    ),
    ByHand(
        "stall-blind",
        STALL,
        "not self._is_exact or self._moved + self._unsent_at_start - self._unsent_bytes() < self._bytes_min",
        "False",
        "the clock is renewed whatever the peer does",
    ),
    # -- transports ----------------------------------------------------------------------------------------------------
    ByHand(
        "finish-without-deadline",
        TRANSPORT,
        "        with trio.move_on_after(linger_seconds):\n            try:\n                if isinstance",
        "        if True:\n            try:\n                if isinstance",
        "a stream that does not take its end is waited for without end",
    ),
    ByHand(
        "aclose-waits",
        TRANSPORT,
        "        await trio.aclose_forcefully(self._stream)\n",
        "        await trio.lowlevel.checkpoint()\n        await trio.aclose_forcefully(self._stream)\n",
        "closing is cancelled before it has closed",
    ),
    ByHand(
        "pieces-too-large",
        TRANSPORT,
        "        piece = data[: self.slack_bytes]\n",
        "        piece = data\n",
        "a write that is cut counts as nothing sent, and no movement is seen in it",
    ),
    ByHand(
        "linger-without-deadline",
        TRANSPORT,
        "            with trio.move_on_after(linger_seconds):\n                while self._receive_nowait()",
        "            if True:\n                while self._receive_nowait()",
        "a peer that never stops sending is read for ever",
    ),
    ByHand(
        "tcp-sends-blind",
        TRANSPORT,
        "        while not sent:\n            await trio.lowlevel.wait_writable(self._socket)\n",
        "        while not sent:\n            await trio.lowlevel.checkpoint()\n",
        "a writer spins while a peer does not read",
    ),
)
