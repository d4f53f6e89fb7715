"""The hazards of cancellation, each planted in a small scenario, and cured."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial

import pytest
import trio

from tests.explorer.helpers import failing, giving_up, holding, tokens
from trio_broker.explorer import afterwards
from trio_broker.explorer.network import Network, NetworkStream, stream_pair
from trio_broker.explorer.plan import Cancel, Phase

JOBS = [1, 2, 3]


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


# -- on the network ------------------------------------------------------------------------------------------------

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
