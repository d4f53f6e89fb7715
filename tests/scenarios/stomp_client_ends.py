"""Scenarios for the STOMP client: how its connection ends, and servers that are slow, silent, or say no."""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable
from contextlib import suppress

import trio

from tests.scenarios.house import GONE, OTHER_QUEUE, PATIENCE, QUEUE, perhaps_gone
from tests.scenarios.stomp_client_house import MARK, OVER, ClientHouse, Script, perhaps_over, play
from tests.scenarios.stomp_house import EACH
from trio_broker.client import BackOff, StompClient, run_reconnecting
from trio_broker.errors import ServerRefused
from trio_broker.explorer import disturbed

__all__ = ["SCENARIOS"]


class Planned(Exception):
    """What a block raises."""


def now() -> float:
    return trio.current_time()


async def a_slow_server() -> None:
    """It greets slowly, and reads nothing for a while: publishers wait in line for room in the client, then go on."""
    house = ClientHouse(MARK)
    house.reliable = False
    times: list[float] = []

    async def slow(server: Script) -> None:
        await server.greet(pause_seconds=1)
        await trio.sleep(5)
        await server.hear(b"DISCONNECT")
        await server.confirm()
        await server.listen()

    async def publish(client: StompClient, name: str) -> None:
        with perhaps_over():
            for number in range(2):
                await house.send(client, QUEUE, f"{name} {number} ".encode(), size=1500)
                times.append(now())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(play, house, slow)
        with perhaps_over(), trio.move_on_after(PATIENCE):
            async with house.client() as client, trio.open_nursery() as publishers:
                publishers.start_soon(publish, client, "p")
                publishers.start_soon(publish, client, "a")
        assert disturbed() or times == [1, 1, 6, 6], times
        nursery.cancel_scope.cancel()


async def a_server_that_does_not_answer() -> None:
    """Neither messages nor DISCONNECT: who leaves in order waits for ``farewell_seconds_max``, and is told what was
    not confirmed; who waits for a confirmation is told then."""
    house = ClientHouse(MARK)
    house.reliable = False
    complaints: list[str] = []

    async def deaf(server: Script) -> None:
        await server.greet()
        await trio.sleep_forever()

    async def silent(server: Script) -> None:
        await server.greet()
        await server.listen()

    async def publish(client: StompClient) -> None:
        try:
            await house.send(client, QUEUE, b"b 0 ", confirm=True)
        except trio.ClosedResourceError:
            assert disturbed() or now() == 5
        except trio.BrokenResourceError:
            assert disturbed()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(play, house, silent, deaf)
        for size in (0, 3000):
            began = now()
            with perhaps_over(), trio.move_on_after(PATIENCE):
                try:
                    async with house.client() as client:
                        if not size:
                            nursery.start_soon(publish, client)
                        await trio.sleep(3)
                        await house.send(client, QUEUE, b"p %d " % size, size=size)
                except trio.BrokenResourceError as error:
                    complaints.append(str(error))
            assert disturbed() or now() == began + 5
        assert disturbed() or complaints == [
            "1 messages were not confirmed: no confirmation within 2 s",
            "1 messages may not have been sent: no confirmation within 2 s",
        ], complaints
        assert disturbed() or len(nursery.child_tasks) == 1
        nursery.cancel_scope.cancel()


async def _wait_for_everything(house: ClientHouse, client: StompClient, told: dict[str, Exception]) -> None:
    """A task for each thing that a program can wait for in a client; what each is told."""

    async def confirmation() -> None:
        await house.send(client, QUEUE, b"p 0 ", confirm=True)

    async def answer() -> None:
        await client.request(OTHER_QUEUE, b"q 0 ")

    async def transaction() -> None:
        async with client.transaction():
            pass

    async def subscription() -> None:
        async with client.subscribe(QUEUE):
            raise AssertionError("nobody has confirmed it")

    async def room() -> None:
        await trio.sleep(1)
        await house.send(client, QUEUE, b"p 1 ", size=3000)
        await house.send(client, QUEUE, b"p 2 ", size=3000)

    async def line() -> None:
        await trio.sleep(2)
        (await client.reserve()).release()

    async def wait(call: Callable[[], Awaitable[None]]) -> None:
        try:
            await call()
        except OVER as error:
            told[call.__name__] = error

    async with trio.open_nursery() as nursery:
        for call in (confirmation, answer, transaction, subscription, room, line):
            nursery.start_soon(wait, call)


WAITS = {"confirmation", "answer", "transaction", "subscription", "room", "line"}


async def an_error_while_others_wait() -> None:
    """ERROR is told to each, as what it is, and at once; leaving does not tell it once more."""
    house = ClientHouse(dataclasses.replace(MARK, mailbox_bytes_max=1000))
    house.reliable = False
    told: dict[str, Exception] = {}
    complaint = ""

    async def refuse(server: Script) -> None:
        await server.greet()
        await trio.sleep(5)
        await server.say(b"ERROR\nmessage:no such thing\n\nso it is\0")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(play, house, refuse)
        with perhaps_gone(), trio.move_on_after(PATIENCE):
            try:
                async with house.client() as client:
                    await _wait_for_everything(house, client, told)
            except ServerRefused:
                assert disturbed()
            except trio.BrokenResourceError as error:
                complaint = str(error)
        if not disturbed():
            assert now() == 5
            assert "messages may not have been sent" in complaint
            assert told.keys() == WAITS, told
            assert all(isinstance(error, ServerRefused) for error in told.values()), told
        nursery.cancel_scope.cancel()


async def a_break_while_others_wait() -> None:
    """So is the loss of the connection, which the writer may notice first."""
    house = ClientHouse(dataclasses.replace(MARK, mailbox_bytes_max=1000))
    house.reliable = False
    told: dict[str, Exception] = {}

    async def go(server: Script) -> None:
        await server.greet()
        await trio.sleep(5)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(play, house, go)
        with suppress(*OVER), trio.move_on_after(PATIENCE):
            async with house.client() as client:
                await _wait_for_everything(house, client, told)
        if not disturbed():
            assert now() == 5
            assert told.keys() == WAITS, told
            assert all(isinstance(error, trio.BrokenResourceError) for error in told.values()), told
        nursery.cancel_scope.cancel()


async def the_servers_end() -> None:
    """It drains: who receives hears of the end in order, and what was not settled is back for a later one."""
    house = ClientHouse()
    heard: list[type[BaseException]] = []
    async with trio.open_nursery() as nursery:
        await house.start(nursery)
        with perhaps_over(), trio.move_on_after(PATIENCE):
            house.publish(QUEUE, b"p 0 ", b"p 1 ")
            async with house.client() as client, client.subscribe(QUEUE, ack=EACH) as jobs:
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
        assert disturbed() or heard == [trio.EndOfChannel]
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
        with suppress(*OVER), trio.move_on_after(PATIENCE):
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
        with perhaps_over(), trio.move_on_after(PATIENCE):
            async with house.client(heart_beat_seconds=5) as client:
                await trio.sleep(11)
                await house.send(client, QUEUE, b"p 0 ", confirm=True)
        assert disturbed() or now() == 11
        nursery.cancel_scope.cancel()


async def connecting_in_vain() -> None:
    """To a server that says no, one that says nothing, one that goes, and nobody: nothing is left of it."""
    house = ClientHouse()
    house.reliable = False
    heard: list[str] = []

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
            if scope.cancelled_caught:
                heard.append("cancelled")
            assert not house.network.open_sockets, "its socket is open"
            await trio.sleep(1)
        assert disturbed() or heard == ["ServerRefused", "BrokenResourceError", "BrokenResourceError", "OSError"], heard
        nursery.cancel_scope.cancel()


async def a_block_that_is_left_early() -> None:
    """By an error, which leaves as itself, or by a cancellation, which goes on: at once, and all goes back."""
    house = ClientHouse()
    house.reliable = False
    async with trio.open_nursery() as nursery:
        await house.start(nursery)
        house.publish(QUEUE, b"p 0 ", b"p 1 ")
        with suppress(Planned), perhaps_over(), trio.move_on_after(PATIENCE):
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
        with suppress(*OVER), trio.move_on_after(PATIENCE):
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
        with suppress(Planned), perhaps_over(), trio.move_on_after(PATIENCE):
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

    with suppress(OSError), trio.move_on_after(PATIENCE):
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
    a_slow_server,
    a_server_that_does_not_answer,
    an_error_while_others_wait,
    a_break_while_others_wait,
    the_servers_end,
    heart_beats,
    heart_beats_of_both,
    connecting_in_vain,
    a_block_that_is_left_early,
    reconnecting,
    reconnecting_for_work_that_fails,
    reconnecting_in_vain,
)
