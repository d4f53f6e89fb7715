"""What a scenario does with the real world: refused, or noted."""

from __future__ import annotations

import contextlib
import datetime
import gc
import inspect
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from time import monotonic
from time import sleep as imported_sleep

import pytest
import trio

from trio_broker.explorer import NotExplorable, Obstacle, afterwards, explore, replay
from trio_broker.explorer.plan import Plan
from trio_broker.explorer.reality import outside
from trio_broker.explorer.run import run


async def sleeps() -> None:
    time.sleep(0.001)  # noqa: ASYNC251  wrong on purpose


async def sleeps_as_imported() -> None:
    imported_sleep(0.001)  # noqa: ASYNC251  wrong on purpose


async def connects() -> None:
    with socket.socket() as ours:
        ours.connect(("127.0.0.1", 1))


async def connects_with_trio() -> None:
    await trio.open_tcp_stream("127.0.0.1", 1)


async def listens() -> None:
    await trio.open_tcp_listeners(0, host="127.0.0.1")


async def sends_a_datagram() -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as ours:
        ours.sendto(b"", ("127.0.0.1", 1))


async def sends_a_message_to_an_address() -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as ours:
        ours.sendmsg([b""], [], 0, ("127.0.0.1", 1))


async def looks_up() -> None:
    await trio.to_thread.run_sync(int)


async def looks_an_address_up() -> None:
    socket.getaddrinfo("localhost", 80)


async def starts_a_thread() -> None:
    threading.Thread(target=int).start()


async def starts_a_process() -> None:
    subprocess.run([sys.executable, "--version"], check=False)  # noqa: ASYNC221  wrong on purpose


async def starts_a_process_with_trio() -> None:
    await trio.run_process([sys.executable, "--version"])


async def runs_a_shell() -> None:
    os.system("true")  # noqa: ASYNC221  wrong on purpose


REFUSED: list[tuple[Callable[[], Awaitable[None]], str]] = [
    (sleeps, "sleeps in real time"),
    (sleeps_as_imported, "sleeps in real time"),
    (connects, "connects a socket"),
    (connects_with_trio, "connects a socket"),
    (listens, "binds a socket"),
    (sends_a_datagram, "sends a datagram"),
    (sends_a_message_to_an_address, "sends a datagram"),
    (looks_up, "runs something in a thread"),
    (looks_an_address_up, "looks an address up"),
    (starts_a_thread, "starts a thread"),
    (starts_a_process, "starts a process"),
    (starts_a_process_with_trio, "runs something in a thread"),
    (runs_a_shell, "starts a process"),
]


@pytest.mark.parametrize(("scenario", "what"), REFUSED)
def test_it_is_refused_with_the_task_and_the_line(scenario: Callable[[], Awaitable[None]], what: str) -> None:
    async def within_a_child() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(scenario, name="guilty")

    with pytest.raises(NotExplorable) as caught:
        explore(within_a_child)
    source, first = inspect.getsourcelines(scenario)
    assert caught.value.obstacle is Obstacle.REALITY
    text = str(caught.value)
    assert text.startswith(f"the scenario {what}: task ")
    assert "task 1 (guilty) at tests.explorer.test_reality:" in text
    line = int(text.rpartition(":")[2].partition(" ")[0])
    assert line in range(first, first + len(source))
    assert text.endswith(f" in {scenario.__name__}")


def test_a_scenario_cannot_hide_it() -> None:
    async def hides() -> None:
        with contextlib.suppress(BaseException):
            time.sleep(0.001)  # noqa: ASYNC251  wrong on purpose

    with pytest.raises(NotExplorable, match="sleeps in real time"):
        run(hides, Plan())


def test_only_a_disturbed_run_comes_there() -> None:
    async def scenario() -> None:
        try:
            await trio.sleep(1)
        except trio.Cancelled:
            time.sleep(0.001)  # noqa: ASYNC251  wrong on purpose
            raise

    with pytest.raises(NotExplorable, match="under spawn/t0:1:after:0") as caught:
        explore(scenario)
    assert caught.value.obstacle is Obstacle.REALITY
    with pytest.raises(NotExplorable, match="sleeps in real time"):
        replay(scenario, "spawn/t0:1:after:0")


def test_a_thread_that_trio_has_kept_is_refused_too() -> None:
    async def scenario() -> None:
        await trio.to_thread.run_sync(int)

    trio.run(scenario)
    with pytest.raises(NotExplorable, match="runs something in a thread: task 0"):
        run(scenario, Plan())
    trio.run(scenario)


def test_a_check_may_not_either() -> None:
    async def scenario() -> None:
        afterwards(sleeps)

    with pytest.raises(NotExplorable, match="sleeps in real time"):
        run(scenario, Plan())


def test_a_pipe_is_from_outside_unless_this_process_has_both_its_ends() -> None:
    ours, theirs = os.pipe()
    try:
        assert outside(ours) == outside(theirs) == ""
        os.close(theirs)
        assert outside(ours) == "a pipe"
    finally:
        os.close(ours)
    assert outside(ours) == ""  # closed: nobody can wait for it any more


def test_a_wait_for_what_comes_from_outside_is_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        assert outside(listener.fileno()) == "a socket"

        async def scenario() -> None:
            with trio.move_on_after(1):  # which would end at once: the clock is virtual
                await trio.lowlevel.wait_readable(listener)

        with pytest.raises(NotExplorable, match=r"waits for a socket \(file descriptor \d+\) whose") as caught:
            explore(scenario)
    assert caught.value.obstacle is Obstacle.REALITY
    assert "task 0 (" in str(caught.value)
    assert str(caught.value).endswith("in test_a_wait_for_what_comes_from_outside_is_refused.<locals>.scenario")


def test_a_pair_of_sockets_is_the_scenarios_own() -> None:
    async def scenario() -> None:
        ours, theirs = trio.socket.socketpair()
        assert outside(ours.fileno()) == ""
        with ours, theirs:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(theirs.recv, 1)
                await trio.sleep(1)
                await ours.sendmsg([b"1"])
            with trio.move_on_after(1):
                await theirs.recv(1)

    assert explore(scenario, seeds=1).failures == []


def test_what_other_threads_do_is_their_own() -> None:
    done = threading.Event()
    again = threading.Event()

    def elsewhere() -> None:
        again.wait()
        time.sleep(0.001)
        thread = threading.Thread(target=int)
        thread.start()
        thread.join()
        done.set()

    thread = threading.Thread(target=elsewhere)
    thread.start()

    async def scenario() -> None:
        again.set()
        done.wait()

    assert run(scenario, Plan()).failure is None
    thread.join()


def test_after_a_run_everything_is_as_it_was() -> None:
    before = time.sleep, threading.Thread.start, sys.getprofile()
    run(trio.lowlevel.checkpoint, Plan())
    with pytest.raises(NotExplorable):
        run(sleeps, Plan())
    assert (time.sleep, threading.Thread.start, sys.getprofile()) == before
    time.sleep(0)
    starter = threading.Thread(target=int)
    starter.start()
    starter.join()


# -- what is only noted ------------------------------------------------------------------------------------------------


async def reads_the_clock() -> None:
    time.time()
    await trio.lowlevel.checkpoint()
    monotonic()
    datetime.datetime.now()  # noqa: DTZ005  wrong on purpose


def test_reading_the_real_clock_is_noted_once_with_task_and_line() -> None:
    result = explore(reads_the_clock, seeds=2)
    _, first = inspect.getsourcelines(reads_the_clock)
    assert result.failures == []
    assert result.notes == tuple(
        f"task 0 (reads_the_clock) reads the real clock ({name}) at tests.explorer.test_reality:{first + after} "
        "in reads_the_clock"
        for name, after in (("time.time", 1), ("time.monotonic", 3), ("datetime.now", 4))
    )


def test_the_clock_that_python_or_trio_reads_is_not_noted() -> None:
    async def scenario() -> None:
        condition = threading.Condition()
        with condition:
            condition.wait_for(lambda: True, timeout=1)
        await trio.sleep(1)

    assert explore(scenario, seeds=1).notes == ()


def test_the_clock_that_is_read_for_the_garbage_collector_is_not_noted() -> None:
    """It begins when it likes, so that is no part of the scenario."""
    reads: list[float] = []

    def callback(_phase: str, _info: dict[str, int]) -> None:
        reads.append(time.perf_counter())

    async def scenario() -> None:
        gc.collect()
        await trio.lowlevel.checkpoint()

    gc.callbacks.append(callback)
    try:
        assert run(scenario, Plan()).notes == {}
    finally:
        gc.callbacks.remove(callback)
    assert reads


def test_somebody_elses_profiler_is_left_alone() -> None:
    calls: list[str] = []

    def profiler(_frame: object, event: str, _argument: object) -> None:
        calls.append(event)

    sys.setprofile(profiler)
    try:
        result = run(reads_the_clock, Plan())
        assert sys.getprofile() is profiler
    finally:
        sys.setprofile(None)
    assert calls
    assert result.notes == {}
