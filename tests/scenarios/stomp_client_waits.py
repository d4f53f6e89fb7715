"""Scenarios for the STOMP client: servers that are slow, silent, or say no, while tasks of the program wait."""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable
from contextlib import suppress

import trio

from tests.scenarios.house import OTHER_QUEUE, PATIENCE, QUEUE, TOPIC, patience, perhaps_gone
from tests.scenarios.stomp_client_house import MARK, OVER, ClientHouse, perhaps_over
from tests.scenarios.stomp_client_script import Script, play
from tests.scenarios.stomp_house import EACH
from trio_broker.client import StompClient
from trio_broker.errors import ServerRefused
from trio_broker.explorer import disturbed

__all__ = ["SCENARIOS"]


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
        with perhaps_over(), patience():
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
            with perhaps_over(), patience():
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

    async def end() -> None:
        await client.raise_when_over()

    async def wait(call: Callable[[], Awaitable[None]]) -> None:
        try:
            await call()
        except OVER as error:
            told[call.__name__] = error

    async with trio.open_nursery() as nursery:
        for call in (confirmation, answer, transaction, subscription, room, line, end):
            nursery.start_soon(wait, call)


WAITS = {"confirmation", "answer", "transaction", "subscription", "room", "line", "end"}


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
        with perhaps_gone(), patience():
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
        with suppress(*OVER), patience():
            async with house.client() as client:
                await _wait_for_everything(house, client, told)
        if not disturbed():
            assert now() == 5
            assert told.keys() == WAITS, told
            assert all(isinstance(error, trio.BrokenResourceError) for error in told.values()), told
        nursery.cancel_scope.cancel()


async def a_break_that_only_the_writer_notices() -> None:
    """The server may have said why; it is waited for, for ``farewell_seconds_max``."""
    house = ClientHouse(MARK)
    house.reliable = False
    times: list[float] = []

    async def be_deaf(server: Script) -> None:
        await server.greet()
        await trio.sleep(1)
        server.hear_no_more()
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(play, house, be_deaf)
        with suppress(*OVER), patience():
            async with house.client() as client:
                await trio.sleep(2)
                with suppress(trio.BrokenResourceError):
                    await house.send(client, QUEUE, b"p 0 ", confirm=True)
                times.append(now())
        assert disturbed() or times == [4], times
        nursery.cancel_scope.cancel()


async def acknowledgements_that_cannot_leave() -> None:
    """As many as fill the client: after the read that has begun there is no other, until the server reads again."""
    house = ClientHouse(MARK)
    house.reliable = False
    times: list[float] = []

    async def busy(server: Script) -> None:
        await server.greet()
        await server.hear(b"SUBSCRIBE")
        await server.confirm()
        for count in (8, 1, 1):
            await server.deliver(count)
            await trio.sleep(2)
        await server.hear(b"DISCONNECT")
        await server.confirm()
        await server.listen()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(play, house, busy)
        with perhaps_over(), patience():
            async with house.client() as client, client.subscribe(QUEUE, ack=EACH) as jobs:
                await house.send(client, OTHER_QUEUE, b"p 0 ", size=3000)
                for _ in range(10):
                    (await jobs.receive()).ack()
                    times.append(now())
        assert disturbed() or times == [0] * 8 + [2, 6], times
        nursery.cancel_scope.cancel()


async def leaving_while_too_much_waits() -> None:
    """Neither side reads before the other does, and a task still has the subscription: the client that leaves takes
    what comes, and throws it away."""
    house = ClientHouse(MARK)
    house.reliable = False
    subscribed = trio.Event()

    async def subscribe(client: StompClient) -> None:
        try:
            with perhaps_over(), patience():
                async with client.subscribe(TOPIC):
                    subscribed.set()
                    await trio.sleep(PATIENCE / 2)
        finally:
            subscribed.set()

    async def talk(server: Script) -> None:
        await server.greet()
        await server.hear(b"SUBSCRIBE")
        await server.confirm()
        await server.deliver(80)
        await server.hear(b"DISCONNECT")
        await server.confirm()
        await server.listen()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(play, house, talk)
        with perhaps_over(), patience():
            async with house.client() as client:
                nursery.start_soon(subscribe, client)
                await subscribed.wait()
                await house.send(client, QUEUE, b"p 0 ", size=3000)
                await trio.sleep(1)
        assert disturbed() or now() == 1
        nursery.cancel_scope.cancel()


SCENARIOS = (
    a_slow_server,
    a_server_that_does_not_answer,
    an_error_while_others_wait,
    a_break_while_others_wait,
    a_break_that_only_the_writer_notices,
    acknowledgements_that_cannot_leave,
    leaving_while_too_much_waits,
)
