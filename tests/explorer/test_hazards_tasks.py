"""Hazards of cancellation for tasks: cleanup, shields, and who waits for whom. Each is planted, and cured."""

from __future__ import annotations

from contextlib import suppress
from functools import partial

import pytest
import trio

from tests.explorer.helpers import JOBS, failing, giving_up, holding
from trio_broker.explorer import afterwards


async def send_clone_forgotten(*, cured: bool) -> None:
    async def worker(mine: trio.MemorySendChannel[int]) -> None:
        with trio.CancelScope():
            if cured:
                with mine:
                    await mine.send(1)
            else:
                await mine.send(1)
                mine.close()

    send, receive = trio.open_memory_channel[int](0)
    async with trio.open_nursery() as nursery:
        with send:
            clones = [send.clone(), send.clone()]
        for clone in clones:
            nursery.start_soon(worker, clone)
        async for _ in receive:
            pass


def test_a_forgotten_send_clone() -> None:
    giving_up(partial(send_clone_forgotten, cured=False), axis="cancel", match="deadlock")
    holding(partial(send_clone_forgotten, cured=True))


async def subscription(*, cured: bool) -> None:
    register: set[str] = set()

    async def check() -> None:
        assert not register

    afterwards(check)
    register.add("me")
    if not cured:
        await trio.lowlevel.checkpoint()
    try:
        await trio.lowlevel.checkpoint()
    finally:
        register.discard("me")


def test_a_half_registered_subscription() -> None:
    failing(partial(subscription, cured=False), axis="cancel")
    holding(partial(subscription, cured=True))


async def started(*, cured: bool) -> None:
    running: list[str] = []

    async def service(  # noqa: ASYNC114  ASYNC113 need not look for it
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        running.append("service")
        try:
            task_status.started()
            await trio.sleep_forever()
        finally:
            running.remove("service")

    async with trio.open_nursery() as nursery:
        await nursery.start(service)
        if cured:
            await trio.lowlevel.checkpoint()  # start() may have returned although it is cancelled
        assert running
        nursery.cancel_scope.cancel()


def test_start_that_returns_when_its_task_is_gone() -> None:
    failing(partial(started, cured=False), axis="cancel", error=ExceptionGroup)
    holding(partial(started, cured=True))


async def farewell(*, cured: bool) -> None:
    bye, answer = trio.Event(), trio.Event()

    async def peer() -> None:
        await bye.wait()
        answer.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(peer)
        try:
            await trio.lowlevel.checkpoint()
        finally:
            bye.set()
            with trio.move_on_after(5, shield=True) if cured else trio.CancelScope(shield=True):
                await answer.wait()  # noqa: ASYNC102  the hazard


def test_an_unbounded_shield() -> None:
    found = giving_up(partial(farewell, cured=False), axis="cancel", match="in farewell")
    assert "it cannot be cancelled" in str(found.failures[1].error)
    holding(partial(farewell, cured=True))


async def cleanup(*, cured: bool) -> None:
    closed = False

    async def aclose() -> None:
        nonlocal closed
        closed = True
        await trio.lowlevel.checkpoint()

    async def check() -> None:
        assert closed

    afterwards(check)
    try:
        await trio.lowlevel.checkpoint()
    finally:
        if cured:
            await aclose()  # noqa: ASYNC102  closed whatever is raised
        else:
            with suppress(BaseException):  # the hazard
                await aclose()  # noqa: ASYNC102  closed whatever is raised


def test_a_cleanup_that_eats_the_error() -> None:
    found = giving_up(partial(cleanup, cured=False), axis="cancel", match="swallowed")
    assert "cleanup" in found.failures[0].what
    holding(partial(cleanup, cured=True))


async def cleanup_after_a_cancellation(*, cured: bool) -> None:
    with trio.CancelScope():
        try:
            await trio.lowlevel.checkpoint()
        except trio.Cancelled:  # noqa: ASYNC103  the hazard
            with trio.move_on_after(1, shield=True):
                await trio.lowlevel.checkpoint()
            if cured:
                raise


def test_a_cancellation_eaten_after_a_cancellation() -> None:
    giving_up(partial(cleanup_after_a_cancellation, cured=False), axis="second cancel", match="swallowed")
    holding(partial(cleanup_after_a_cancellation, cured=True))


async def transfer(*, cured: bool) -> None:
    accounts = [3, 0]
    lock = trio.Lock()

    async def check() -> None:
        assert sum(accounts) == 3
        assert not lock.locked()

    async def move() -> None:
        async with lock:
            accounts[0] -= 1
            if not cured:
                await trio.lowlevel.checkpoint()
            accounts[1] += 1

    afterwards(check)
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(move)


def test_a_lock_held_across_an_await() -> None:
    failing(partial(transfer, cured=False), axis="cancel")
    holding(partial(transfer, cured=True))


async def soft_cancel(*, cured: bool) -> None:
    send, receive = trio.open_memory_channel[int](0)
    stop = trio.Event()

    async def producer() -> None:
        with trio.CancelScope():
            try:
                for job in JOBS:
                    await trio.sleep(1)
                    await send.send(job)
            finally:
                if cured:
                    send.close()
                else:
                    stop.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(producer)
        if cured:
            async for _ in receive:
                pass
        else:
            while not stop.is_set():
                await receive.receive()
                await trio.lowlevel.checkpoint()


def test_a_soft_cancel_by_an_event() -> None:
    giving_up(partial(soft_cancel, cured=False), axis="cancel", match="deadlock")
    holding(partial(soft_cancel, cured=True))


async def hot_loop(*, cured: bool) -> None:
    async def server(receive: trio.MemoryReceiveChannel[int]) -> None:
        while True:  # noqa: ASYNC913  the hazard
            try:
                await receive.receive()
            except trio.EndOfChannel:
                return
            except trio.Cancelled:  # noqa: ASYNC103  the hazard
                if cured:
                    raise
                continue  # noqa: ASYNC104  the hazard

    send, receive = trio.open_memory_channel[int](0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server, receive)
        with send:
            for job in JOBS:
                await send.send(job)


def test_a_hot_loop_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trio_broker.explorer.run._STEPS_SPARE", 1000)
    giving_up(partial(hot_loop, cured=False), axis="cancel", match="steps and did not end", tasks=["server"])
    holding(partial(hot_loop, cured=True))
