"""What one run of a check has: the broker, connections to it, and destinations of its own."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Self, final

import trio

from trio_broker.conform.check import Mismatch
from trio_broker.conform.frames import Frame, encode
from trio_broker.conform.peer import End, Peer
from trio_broker.conform.target import Target

__all__ = ["Stage"]

_NOTHING: Final[Mapping[str, str]] = MappingProxyType({})


@final
class Stage:
    """Where a check plays. As an async context manager it closes its connections at the end.

    Args:
        target: the broker.
        version: which version the check is about.
        name: no other stage of any run has it; destinations begin with it.

    Attributes:
        target: the broker.
        version: which version the check is about.
        peers: the connections, the oldest first.
    """

    def __init__(self, target: Target, version: str, name: str) -> None:
        self.target = target
        self.version = version
        self._name = name
        self.peers: list[Peer] = []
        self._destinations = 0

    async def __aenter__(self) -> Self:
        await trio.lowlevel.checkpoint()
        return self

    async def __aexit__(self, *_: object) -> None:
        async with trio.open_nursery() as closing:  # at once, be it cancelled: each closes before its first checkpoint
            for peer in self.peers:
                closing.start_soon(peer.close)

    @property
    def waiting(self) -> str:
        """What the youngest connection waits for."""
        return next((peer.waiting for peer in reversed(self.peers) if peer.waiting), "the broker")

    def queue(self) -> str:
        """A queue that nobody has used."""
        return f"{self.target.queue_prefix}{self._destination()}"

    def topic(self) -> str:
        """A topic that nobody has used."""
        return f"{self.target.topic_prefix}{self._destination()}"

    def _destination(self) -> str:
        self._destinations += 1
        return f"{self._name}-{self._destinations}"

    def connect_headers(self, accept_version: str | None = None) -> dict[str, str]:
        """What CONNECT has to say to this broker.

        Args:
            accept_version: None for the stage's version alone.
        """
        headers = {"accept-version": accept_version or self.version, "host": self.target.vhost}
        account = {"login": self.target.login, "passcode": self.target.passcode}
        return headers | {name: value for name, value in account.items() if value is not None}

    async def open(self, version: str | None = None) -> Peer:
        """A connection on which nothing was said. Raises `Mismatch`. Cancellation: there is none."""
        try:
            stream = await self.target.open_stream()
        except OSError as error:
            raise Mismatch(f"no connection: {error}") from None
        peer = Peer(stream, version or self.version, self.target.quiet_seconds)
        self.peers.append(peer)
        return peer

    async def greet(
        self, headers: Mapping[str, str], command: str = "CONNECT", version: str | None = None
    ) -> tuple[Peer, Frame]:
        """A connection with this CONNECT, and its CONNECTED. Raises `Mismatch`. Cancellation: there is none."""
        peer = await self.open(version)
        await peer.send(encode(peer.version, command, headers.items()))
        return peer, await peer.expect("CONNECTED", lambda frame: frame.command == "CONNECTED")

    async def connect(self, more: Mapping[str, str] = _NOTHING, version: str | None = None) -> Peer:
        """A connection that speaks one version.

        Args:
            more: further headers of CONNECT.
            version: None for the stage's.

        Raises:
            Mismatch: the broker did not agree to it.

        Cancellation: there is none; what was opened is closed with the stage.
        """
        peer, connected = await self.greet({**self.connect_headers(version), **more}, version=version)
        spoken = connected.get("version") or "1.0"
        if spoken != peer.version:
            raise Mismatch(f"CONNECTED speaks {spoken} where only {peer.version} was offered")
        return peer

    # --- Frames that differ between versions, or that many checks send ------------------------------------------------

    async def subscribe(self, peer: Peer, destination: str, *, id: str = "0", ack: str = "") -> None:  # noqa: A002  the header's name
        """Subscribe and wait for the receipt. Raises `Mismatch`. Cancellation: it may have been done."""
        mode = {"ack": ack} if ack else {}
        await peer.receipted("SUBSCRIBE", {"id": id, "destination": destination, **mode})

    async def put(self, peer: Peer, destination: str, *bodies: bytes) -> None:
        """Send messages and wait for the receipt of the last. Raises `Mismatch`. Cancellation: some may be sent."""
        for body in bodies[:-1]:
            await peer.frame("SEND", {"destination": destination}, body)
        await peer.receipted("SEND", {"destination": destination}, bodies[-1])

    def settlement(self, message: Frame) -> dict[str, str]:
        """What ACK and NACK of a message have to say in this version. Raises `Mismatch` if the message lacks it."""
        wanted = {"1.0": ("message-id",), "1.1": ("message-id", "subscription"), "1.2": ("ack",)}[self.version]
        values = {name: message.get(name) for name in wanted}
        headers = {("id" if name == "ack" else name): value for name, value in values.items() if value is not None}
        if len(headers) < len(wanted):
            raise Mismatch(f"MESSAGE without {' and '.join(name for name in wanted if values[name] is None)}")
        return headers

    async def leave(self, peer: Peer) -> None:
        """DISCONNECT, wait for the receipt, and close. Raises `Mismatch`. Cancellation: it is closed or will be."""
        await peer.receipted("DISCONNECT", {})
        await peer.close()

    # --- What a broker has to do --------------------------------------------------------------------------------------

    async def refused(self, peer: Peer, wrong: bytes) -> Frame | End:
        """Write something wrong and wait until the broker refuses it: with ERROR, or by closing.

        What comes after is written only if the broker stays silent for a while. Written at once, it could make the
        system reset the connection before the ERROR was read.

        Args:
            peer: a connection.
            wrong: what is to be refused.

        Raises:
            Mismatch: the broker gave a receipt for it, or carried on with what came after.

        Cancellation: nothing is certain but that the peer can be closed.
        """
        peer.waiting = "an ERROR, the end, or that the broker carries on"
        await peer.send(wrong)
        with trio.move_on_after(self.target.quiet_seconds):
            return await self._refusal(peer)
        await peer.frame("SEND", {"destination": self.queue(), "receipt": "carried-on"}, b"")
        return await self._refusal(peer)

    async def _refusal(self, peer: Peer) -> Frame | End:
        while True:
            came = await peer.receive()
            if isinstance(came, End) or came.command == "ERROR":
                return came
            if came.command == "RECEIPT":
                carried_on = came.get("receipt-id") == "carried-on"
                raise Mismatch("no ERROR, and the broker carried on" if carried_on else f"{came} instead of an ERROR")

    async def refused_with_error(self, peer: Peer, wrong: bytes) -> Frame:
        """As `refused`, where closing alone is not enough. Raises `Mismatch`. Cancellation: as `refused`."""
        came = await self.refused(peer, wrong)
        if isinstance(came, End):
            raise Mismatch(f"{came} without an ERROR")
        return came

    async def closed_after(self, peer: Peer, came: Frame | End) -> str:
        """Wait until the broker closes after its refusal. Raises `Mismatch`. Cancellation: as `Peer.ended`."""
        if isinstance(came, End):
            await trio.lowlevel.checkpoint()
            return str(came)
        return f"{came}, {await peer.ended(self.target.close_seconds, str(came))}"

    async def holds(self, destination: str, expected: int = 0) -> list[bytes]:
        """The bodies of what a queue gives to a new subscription, in their order, once no more come.

        Args:
            destination: the queue.
            expected: how many should come; for these it is waited longer.

        Raises:
            Mismatch: the broker did something else.

        Cancellation: the messages may be consumed.
        """
        peer = await self.connect()
        await self.subscribe(peer, destination, id="rest")
        bodies: list[bytes] = []
        with trio.move_on_after(self.target.close_seconds):
            await trio.lowlevel.checkpoint()
            while len(bodies) < expected:
                bodies.append((await peer.message()).body)
        return bodies + [frame.body for frame in await peer.quiet() if frame.command == "MESSAGE"]
