"""Hazards of cancellation for messages: lost, duplicated or given to some only. Each is planted, and cured."""

from __future__ import annotations

from collections import deque
from functools import partial

import trio

from tests.explorer.helpers import JOBS, failing, holding, tokens
from trio_broker.explorer import afterwards
from trio_broker.explorer.plan import Cancel, Phase


class Work:
    """Jobs, each of which is either waiting or done once, whatever happens."""

    def __init__(self) -> None:
        self.waiting = deque(JOBS)
        self.done: list[int] = []
        afterwards(self.check)

    async def check(self) -> None:
        assert sorted([*self.waiting, *self.done]) == JOBS

    async def do(self, job: int) -> None:
        """A write, as a good stream does it: atomic."""
        await trio.lowlevel.checkpoint()
        self.done.append(job)


async def popped_before_the_write(*, cured: bool) -> None:
    work = Work()
    while work.waiting:
        if cured:
            await work.do(work.waiting[0])
            work.waiting.popleft()
        else:
            await work.do(work.waiting.popleft())


def test_popped_then_cancelled_before_the_write() -> None:
    failing(partial(popped_before_the_write, cured=False), axis="cancel")
    holding(partial(popped_before_the_write, cured=True))


async def requeue_in_finally(*, cured: bool) -> None:
    work = Work()
    while work.waiting:
        job, is_done = work.waiting.popleft(), False
        try:
            await work.do(job)
            is_done = True
        finally:
            if not is_done:
                if not cured:
                    await trio.lowlevel.checkpoint()  # noqa: ASYNC102  the hazard
                work.waiting.appendleft(job)


def test_a_requeue_in_finally_that_awaits() -> None:
    failing(partial(requeue_in_finally, cured=False), axis="cancel")
    holding(partial(requeue_in_finally, cured=True))


async def receive_clone_closed(*, cured: bool) -> None:
    send, receive = trio.open_memory_channel[int](len(JOBS))
    done: list[int] = []

    async def check() -> None:
        with receive:
            left = receive.statistics().current_buffer_used
        assert len(done) + left == len(JOBS)

    afterwards(check)
    with send:
        for job in JOBS:
            send.send_nowait(job)
    with receive.clone() if cured else receive as mine:
        async for job in mine:
            done.append(job)  # noqa: PERF401  what was received is done at once


def test_the_last_receive_clone_closed_with_messages_inside() -> None:
    failing(partial(receive_clone_closed, cured=False), axis="cancel")
    holding(partial(receive_clone_closed, cured=True))


async def fan_out(*, cured: bool) -> None:
    boxes: list[list[int]] = [[], [], []]

    async def check() -> None:
        assert all(box == boxes[0] for box in boxes)

    afterwards(check)
    for job in JOBS:
        if cured:
            await trio.lowlevel.checkpoint()
        for box in boxes:
            if not cured:
                await trio.lowlevel.checkpoint()
            box.append(job)


def test_a_fan_out_cut_in_the_middle() -> None:
    failing(partial(fan_out, cured=False), axis="cancel")
    holding(partial(fan_out, cured=True))


async def patience(*, cured: bool) -> None:
    work = Work()
    arrived = trio.Event()

    async def producer() -> None:
        await trio.sleep(1)
        arrived.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(producer)
        job: int | None = None
        with trio.move_on_after(5) as scope:
            await arrived.wait()
            job = work.waiting.popleft()
        given_up = scope.cancelled_caught if cured else scope.cancel_called
        if job is not None and not given_up:
            work.done.append(job)


def test_cancel_called_mistaken_for_cancelled_caught() -> None:
    found = failing(partial(patience, cured=False), axis="cancel")
    assert "woken at" in found.failures[0].what
    holding(partial(patience, cured=True))


async def consumer(*, cured: bool) -> None:
    work = Work()
    arrived = trio.open_memory_channel[int](0)

    async def producer() -> None:
        with arrived[0] as send:
            while work.waiting:
                await trio.sleep(1)
                send.send_nowait(work.waiting[0])
                work.waiting.popleft()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(producer)
        async for job in arrived[1]:
            if not cured:
                await trio.lowlevel.checkpoint_if_cancelled()
            work.done.append(job)


def test_a_message_lost_since_success_beats_cancellation() -> None:
    """Whoever is parked takes nothing when cancelled; only who has been woken holds something to lose."""
    found = failing(partial(consumer, cured=False), axis="cancel", tasks=["the scenario"], interrupts=False)
    cancels = [plan.disturbance for plan in tokens(found)]
    assert {cancel.phase for cancel in cancels if isinstance(cancel, Cancel)} == {Phase.BEFORE}
    holding(partial(consumer, cured=True))


async def interrupted(*, cured: bool) -> None:
    work = Work()
    while work.waiting:
        job = work.waiting.popleft()
        what_ends_it: type[BaseException] = BaseException if cured else trio.Cancelled
        try:
            await work.do(job)
        except what_ends_it:
            work.waiting.appendleft(job)
            raise


def test_ctrl_c_in_the_middle() -> None:
    found = failing(partial(interrupted, cured=False), axis="interrupt")
    assert {plan.axis for plan in tokens(found)} == {"interrupt"}
    assert holding(partial(interrupted, cured=True)).runs["interrupt"] > 0
