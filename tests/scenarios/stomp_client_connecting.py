"""Scenarios for the STOMP client: connecting in vain, and again."""

from __future__ import annotations

from contextlib import suppress
from typing import Literal

import trio

from tests.scenarios.house import QUEUE, patience
from tests.scenarios.stomp_client_house import MARK, OVER, ClientHouse, perhaps_over
from tests.scenarios.stomp_client_script import Script, play
from trio_broker.client import BackOff, StompClient, connect, run_reconnecting
from trio_broker.explorer import disturbed
from trio_broker.explorer.network import Network

__all__ = ["SCENARIOS"]


class Planned(Exception):
    """What a block raises."""


def now() -> float:
    return trio.current_time()


OURS = ("the server ", "the stream ended ", "the connection broke: ")
"""How the client says why a connection was lost, as opposed to what is under it."""


async def connecting_in_vain() -> None:
    """To a server that says no, one that says nothing, one that goes, and nobody: nothing is left of it."""
    house = ClientHouse()
    house.reliable = False
    heard: list[str] = []
    reasons: list[str] = []

    async def refuse(server: Script) -> None:
        await server.hear(b"CONNECT")
        await server.say(b"ERROR\nmessage:not you\n\n\0")

    async def say_nothing(server: Script) -> None:
        await server.listen()

    async def go(server: Script) -> None:
        await server.hear(b"CONNECT")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(play, house, refuse, say_nothing, go)
        for _ in range(4):
            with trio.move_on_after(7) as scope:
                try:
                    async with house.client():
                        raise AssertionError("it connected")
                except OVER as error:
                    heard.append(type(error).__name__)
                    if isinstance(error, trio.BrokenResourceError):
                        reasons.append(str(error))
            if scope.cancelled_caught:
                heard.append("cancelled")
            assert not house.network.open_sockets, "its socket is open"
            await trio.sleep(1)
        assert disturbed() or heard == ["ServerRefused", "BrokenResourceError", "BrokenResourceError", "OSError"], heard
        assert all(reason.startswith(OURS) for reason in reasons), reasons
        nursery.cancel_scope.cancel()


async def connecting_where_nobody_accepts() -> None:
    """The system's line is full: in vain for ``handshake_seconds_max``, in either protocol."""
    network = Network(backlog_max=1)
    network.install()
    times: list[float] = []

    async def wait_in_vain(protocol: Literal["stomp", "framed"]) -> None:
        with suppress(*OVER), patience():
            async with connect(port=listener.port, protocol=protocol, limits=MARK):
                assert disturbed(), "it connected"
        times.append(now())

    async with network.listen() as listener:
        with suppress(*OVER), patience():
            async with await network.connect(listener.port):
                await wait_in_vain("stomp")
                await wait_in_vain("framed")
    assert disturbed() or times == [3, 6], times
    assert not network.open_sockets, "its socket is open"


async def reconnecting() -> None:
    """Lost in order, lost by a break, silent: each time another attempt after a while; then the work is done."""
    house = ClientHouse()
    house.reliable = False
    times: list[float] = []
    answers: list[bytes] = []

    async def go(server: Script) -> None:
        await server.greet(b"1000,1000")

    async def say_nothing(server: Script) -> None:
        await server.greet(b"1000,1000")
        await server.listen()

    async def answer(server: Script) -> None:
        await server.greet()
        await server.hear(b"SEND")
        await server.confirm()
        await server.hear(b"DISCONNECT")
        await server.confirm()
        await server.listen()

    async def work(client: StompClient) -> bytes:
        house.join(client)
        times.append(now())
        await client.publish(QUEUE, b"p %d " % len(times), confirm=True)
        return b"done"

    async with trio.open_nursery() as nursery:
        nursery.start_soon(play, house, go, say_nothing, answer)
        with suppress(*OVER), patience():
            answers.append(
                await run_reconnecting(
                    work,
                    port=house.listener.port,
                    limits=house.limits,
                    heart_beat_seconds=1,
                    back_off=BackOff(first_seconds=4, longest_seconds=8, failures_max=6),
                )
            )
        if not disturbed():
            assert answers == [b"done"]
            assert len(times) == 3
            assert 2 <= times[1] - times[0] <= 4, times
            assert 6 <= times[2] - times[1] <= 10, times  # two seconds of silence, then the wait
        nursery.cancel_scope.cancel()


async def reconnecting_for_work_that_fails() -> None:
    """What is no loss is raised at once, and nothing is tried again."""
    house = ClientHouse()
    house.reliable = False
    attempts: list[float] = []

    async def work(client: StompClient) -> None:
        house.join(client)
        attempts.append(now())
        await house.send(client, QUEUE, b"p %d " % len(attempts))
        raise Planned

    async with trio.open_nursery() as nursery:
        await house.start(nursery)
        with suppress(Planned), perhaps_over(), patience():
            await run_reconnecting(
                work,
                port=house.listener.port,
                limits=house.limits,
                heart_beat_seconds=None,
                back_off=BackOff(first_seconds=4, longest_seconds=8, failures_max=3),
            )
            assert disturbed(), "the work's exception is lost"
        assert disturbed() or attempts == [0] == [now()]
        nursery.cancel_scope.cancel()


async def reconnecting_in_vain() -> None:
    """Nobody is there: so many attempts, and then the last failure; a cancellation ends the waiting at once."""
    house = ClientHouse()
    house.reliable = False
    await trio.aclose_forcefully(house.listener)
    started: list[float] = []

    async def work(client: StompClient) -> None:
        raise AssertionError("nobody is there")

    with suppress(OSError), patience():
        try:
            await run_reconnecting(
                work, port=house.listener.port, back_off=BackOff(first_seconds=4, longest_seconds=8, failures_max=3)
            )
        finally:
            started.append(now())
    assert disturbed() or 2 + 4 <= now() <= 4 + 8, now()
    before = now()
    with trio.move_on_after(1) as scope:
        await run_reconnecting(work, port=house.listener.port, back_off=BackOff(first_seconds=4))
    assert disturbed() or (scope.cancelled_caught and now() == before + 1)


SCENARIOS = (
    connecting_in_vain,
    connecting_where_nobody_accepts,
    reconnecting,
    reconnecting_for_work_that_fails,
    reconnecting_in_vain,
)
