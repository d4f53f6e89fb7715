"""Hazards of cancellation and of faults on the network. Each is planted, and cured."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import trio

from tests.explorer.helpers import failing, giving_up, holding, tokens
from trio_broker.explorer import afterwards
from trio_broker.explorer.network import Network, NetworkStream, stream_pair

FRAME = b"%d" % 10**99
SECONDS_MAX = 5


async def echo(stream: NetworkStream) -> None:
    """A peer that never fails: it is not what is looked at."""
    try:
        async with stream:
            async for data in stream:
                await stream.send_all(data)
    except trio.BrokenResourceError:
        pass


async def receive_exactly(stream: NetworkStream, size: int) -> bytes:
    """Receive so many bytes, or fewer if the peer has ended."""
    data = b""
    while len(data) < size:
        more = await stream.receive_some(size - len(data))
        if not more:
            break
        data += more
    return data


@contextmanager
def suppress_one(kind: type[Exception]) -> Iterator[None]:
    """``except``, without the star; ``contextlib.suppress`` looks into groups since Python 3.12."""
    try:
        yield
    except kind:
        pass


async def exception_group(*, cured: bool) -> None:
    ours, theirs = stream_pair()

    async def talk() -> None:
        async with ours:
            await ours.send_all(FRAME)
            await receive_exactly(ours, len(FRAME))

    async def connection() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(echo, theirs)
            nursery.start_soon(talk)

    with trio.move_on_after(SECONDS_MAX):
        if cured:
            try:
                await connection()
            except* trio.BrokenResourceError:
                pass
        else:
            with suppress_one(trio.BrokenResourceError):
                await connection()


def test_except_around_a_nursery_catches_nothing() -> None:
    found = failing(partial(exception_group, cured=False), axis="fault", error=ExceptionGroup)
    assert {plan.axis for plan in tokens(found)} == {"fault"}
    holding(partial(exception_group, cured=True))


async def partial_frame(*, cured: bool) -> None:
    ours, theirs = stream_pair()
    got: list[bytes] = []

    async def peer() -> None:
        async with theirs:
            while len(frame := await receive_exactly(theirs, len(FRAME))) == len(FRAME):
                got.append(frame)

    async def check() -> None:
        assert all(frame == FRAME for frame in got)

    afterwards(check)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(peer)
        async with ours:
            for _ in range(2):
                with trio.move_on_after(SECONDS_MAX) as scope:
                    await ours.send_all(FRAME)
                if cured and scope.cancelled_caught:
                    break  # nobody knows how much of it was sent


def test_a_partial_frame() -> None:
    failing(partial(partial_frame, cured=False), axis="cancel", faults=False, failures_max=2)
    holding(partial(partial_frame, cured=True), faults=False, double=False)


async def stalled(*, cured: bool) -> None:
    ours, theirs = stream_pair()
    with trio.move_on_after(SECONDS_MAX if cured else float("inf")):
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(echo, theirs)
                async with ours:
                    await ours.send_all(FRAME)
                    await receive_exactly(ours, len(FRAME))
        except* trio.BrokenResourceError:
            pass


def test_no_deadline_against_a_stall() -> None:
    found = giving_up(partial(stalled, cured=False), axis="fault", match="deadlock")
    assert found.failures[0].token.endswith(":stall")
    holding(partial(stalled, cured=True))


async def handshake(*, cured: bool) -> None:
    network = Network()
    listener = network.listen(80)

    async def serve(stream: NetworkStream) -> None:
        async with stream:
            if cured:
                try:
                    await stream.receive_some(1)
                except trio.BrokenResourceError:
                    return
            else:
                await stream.receive_some(1)
            try:
                async for data in stream:
                    await stream.send_all(data)
            except trio.BrokenResourceError:
                pass

    async def client() -> None:
        with trio.move_on_after(SECONDS_MAX):
            try:
                async with await network.connect(80) as stream:
                    await stream.send_all(b"!" + FRAME)
                    await receive_exactly(stream, len(FRAME))
            except (trio.BrokenResourceError, OSError):
                pass

    async with trio.open_nursery() as nursery, listener:
        nursery.start_soon(trio.serve_listeners, serve, [listener])
        await client()
        await trio.sleep(1)  # the server lives on
        nursery.cancel_scope.cancel()


def test_a_reset_during_the_handshake() -> None:
    found = failing(partial(handshake, cured=False), axis="fault", error=ExceptionGroup)
    assert found.failures[0].token.endswith(":reset")
    holding(partial(handshake, cured=True), double=False)
