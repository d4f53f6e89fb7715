"""Scenarios for the STOMP client: how its connection ends, and what keeps it."""

from __future__ import annotations

from contextlib import suppress

import trio

from tests.scenarios.house import GONE, QUEUE, TOPIC, patience
from tests.scenarios.stomp_client_house import OVER, ClientHouse, perhaps_over
from tests.scenarios.stomp_client_script import Script, play
from tests.scenarios.stomp_house import EACH
from trio_broker.client import StompClient
from trio_broker.explorer import disturbed

__all__ = ["SCENARIOS"]


class Planned(Exception):
    """What a block raises."""


def now() -> float:
    return trio.current_time()


async def the_servers_end() -> None:
    """It drains: who receives hears of the end in order, and what was not settled is back for a later one."""
    house = ClientHouse()
    heard: list[type[BaseException]] = []

    async def listen(client: StompClient) -> None:
        try:
            with perhaps_over(), patience():
                async with client.subscribe(TOPIC) as news:
                    await news.receive()
        except trio.EndOfChannel as error:
            heard.append(type(error))

    async with trio.open_nursery() as nursery:
        await house.start(nursery)
        with perhaps_over(), patience():
            house.publish(QUEUE, b"p 0 ", b"p 1 ")
            async with house.client() as client, client.subscribe(QUEUE, ack=EACH) as jobs:
                nursery.start_soon(listen, client)
                await house.take(jobs)
                await trio.sleep(1)
                await house.drain()
                try:
                    await house.take(jobs)
                except trio.EndOfChannel as error:
                    heard.append(type(error))
                with suppress(*GONE):
                    await house.send(client, QUEUE, b"p 2 ")
                    assert disturbed(), "it was handed over to a client whose server has gone"
                await trio.sleep(1)
        assert disturbed() or heard == [trio.EndOfChannel, trio.EndOfChannel]
        nursery.cancel_scope.cancel()


async def heart_beats() -> None:
    """They keep an idle connection; a server that falls silent is noticed after twice the time agreed on."""
    house = ClientHouse()
    house.reliable = False
    times: list[float] = []

    async def mute(server: Script) -> None:
        await server.greet(b"4000,4000")
        for _ in range(2):
            await trio.sleep(4)
            await server.say(b"\n")
        await server.listen()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(play, house, mute)
        with suppress(*OVER), patience():
            async with house.client(heart_beat_seconds=3) as client:
                with suppress(trio.BrokenResourceError):
                    await client.request(QUEUE, b"p 0 ")
                times.append(now())
        assert disturbed() or times == [16], times
        nursery.cancel_scope.cancel()


async def heart_beats_of_both() -> None:
    """Our own server and client beat for each other: an idle connection stays."""
    house = ClientHouse()
    async with trio.open_nursery() as nursery:
        await house.start(nursery)
        with perhaps_over(), patience():
            async with house.client(heart_beat_seconds=5) as client:
                await trio.sleep(11)
                await house.send(client, QUEUE, b"p 0 ", confirm=True)
        assert disturbed() or now() == 11
        nursery.cancel_scope.cancel()


async def a_block_that_is_left_early() -> None:
    """By an error, which leaves as itself, or by a cancellation, which goes on: at once, and all goes back."""
    house = ClientHouse()
    house.reliable = False
    async with trio.open_nursery() as nursery:
        await house.start(nursery)
        house.publish(QUEUE, b"p 0 ", b"p 1 ")
        with suppress(Planned), perhaps_over(), patience():
            async with house.client() as client, client.subscribe(QUEUE, ack=EACH) as jobs:
                await house.take(jobs)
                await house.send(client, QUEUE, b"p 2 ")
                raise Planned
        await trio.sleep(1)
        before = now()
        with perhaps_over(), trio.move_on_after(3) as scope:
            async with house.client() as client, client.subscribe(QUEUE, ack=EACH) as jobs:
                message = await house.take(jobs)
                assert disturbed() or (message.body, message.redelivered) == (b"p 0 ", True)
                await trio.sleep_forever()
            raise AssertionError("it went on")
        assert disturbed() or (scope.cancelled_caught and now() == before + 3)
        await trio.sleep(1)
        assert disturbed() or house.broker.statistics().channels[QUEUE].backlog_messages >= 2
        nursery.cancel_scope.cancel()


SCENARIOS = (
    the_servers_end,
    heart_beats,
    heart_beats_of_both,
    a_block_that_is_left_early,
)
