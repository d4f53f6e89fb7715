"""A STOMP server in memory that does what a test says, and only that: the server's half is the real session."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from typing import TypeVar, final

import trio

from tests.client.network import Network
from tests.server.streams import MemoryStream
from trio_broker.limits import Limits
from trio_broker.message import Delivery, Message, plain_batch
from trio_broker.wire.stomp_commands import Disconnect, Fail, Publish, Reply, StompCommand, Subscribe
from trio_broker.wire.stomp_server import StompServerSession

C = TypeVar("C", bound=StompCommand)


@final
class ScriptedServer:
    """One connection to a client.

    Attributes:
        commands: what the client asked for, in order.
        beats: when the client sent nothing but a heart-beat.
        answers: whether replies are sent, and a DISCONNECT obeyed.
        held: replies that were not sent because they are not.
        reading: cleared while nothing is to be read.
    """

    def __init__(self, stream: MemoryStream, limits: Limits | None = None, *, answers: bool = True) -> None:
        self.stream = stream
        self.session = StompServerSession(limits or Limits())
        self.commands: list[StompCommand] = []
        self.beats: list[float] = []
        self.answers = answers
        self.held: list[bytes] = []
        self.ended = False
        self._news = trio.lowlevel.ParkingLot()
        self._paused = False
        self._sending = trio.Lock()
        self._numbers = 0

    async def run(self) -> None:
        """Read, and answer at once, until the client goes."""
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            while True:
                while self._paused:
                    await self._news.park()
                data = await self.stream.receive_some(65_536)
                if not data:
                    break
                if data == b"\n":
                    self.beats.append(trio.current_time())
                for command in self.session.receive_data(data):
                    await self._take(command)
        self.ended = True
        self._news.unpark_all()

    def pause(self) -> None:
        """Read nothing more after the next read."""
        self._paused = True

    def resume(self) -> None:
        self._paused = False
        self._news.unpark_all()

    async def next(self, kind: type[C], number: int = 0) -> C:
        """The command of this kind with this number, counted from 0; waits until it has come."""
        while len(found := self.all(kind)) <= number:
            assert not self.ended, f"the client has gone, and no {kind.__name__} came but {found}"
            await self._news.park()
        return found[number]

    def all(self, kind: type[C]) -> list[C]:
        """All commands of this kind."""
        return [command for command in self.commands if isinstance(command, kind)]

    @property
    def bodies(self) -> list[bytes]:
        """Of what was published."""
        return [message.body for message in self.messages]

    @property
    def messages(self) -> list[Message]:
        return [message for publish in self.all(Publish) for message in publish.batch]

    async def release(self) -> None:
        """Send the replies that were held back."""
        held, self.held = b"".join(self.held), []
        await self.send(held)

    async def answer_late(self, kind: type[StompCommand], seconds: float) -> None:
        """Hold all replies back until so long after a command of this kind has come."""
        self.answers = False
        await self.next(kind)
        await trio.sleep(seconds)
        await self.release()
        self.answers = True

    async def deliver(
        self, subscribe: Subscribe, *bodies: bytes, redelivered: bool = False, headers: dict[str, str] | None = None
    ) -> None:
        """Send messages to a subscription. They are numbered from 1, over all subscriptions."""
        frames = b""
        for body in bodies:
            self._numbers += 1
            batch = plain_batch(Message(subscribe.channel, body, headers or {}))
            attempts = (1,) if redelivered else ()
            frames += subscribe.encoder.encode([Delivery(batch, (0,), attempts)], self._numbers)
        await self.send(frames)

    async def send(self, data: bytes) -> None:
        """Send whole frames, in turn with others that do."""
        async with self._sending:
            await self.stream.send_all(data)

    async def _take(self, command: StompCommand) -> None:
        if isinstance(command, Reply):
            if self.answers or command.data.startswith(b"CONNECTED"):
                await self.send(command.data)
            else:
                self.held.append(command.data)
            return
        self.commands.append(command)
        self._news.unpark_all()
        if isinstance(command, Fail):
            await self.send(command.farewell)
        if isinstance(command, Fail | Disconnect) and self.answers:
            await self.stream.send_eof()


@final
class ScriptedServers:
    """Whom clients reach in a network in memory.

    Attributes:
        all: in order of arrival.
        limits: of the next.
        answers: of the next.
        prepare: what else is to be done with the next before it reads.
    """

    def __init__(self, network: Network, nursery: trio.Nursery) -> None:
        self.network = network
        self.all: list[ScriptedServer] = []
        self.limits = Limits()
        self.answers = True
        self.prepare: Callable[[ScriptedServer], Awaitable[None]] | None = None
        self._nursery = nursery
        self._arrivals = trio.lowlevel.ParkingLot()
        network.on_arrival = self._accept

    @property
    def last(self) -> ScriptedServer:
        return self.all[-1]

    async def next(self, number: int) -> ScriptedServer:
        """The connection with this number, counted from 0; waits until it has come."""
        while len(self.all) <= number:
            await self._arrivals.park()
        return self.all[number]

    def _accept(self, stream: MemoryStream) -> None:
        server = ScriptedServer(stream, self.limits, answers=self.answers)
        self.all.append(server)
        self._arrivals.unpark_all()
        self._nursery.start_soon(self._run, server)

    async def _run(self, server: ScriptedServer) -> None:
        if self.prepare is not None:
            await self.prepare(server)
        await server.run()
