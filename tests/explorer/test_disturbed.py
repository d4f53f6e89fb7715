"""Whether a run was disturbed."""

from __future__ import annotations

import socket

import pytest
import trio

from trio_broker.explorer import afterwards, at_rest, disturbed
from trio_broker.explorer.network import Network
from trio_broker.explorer.plan import Plan
from trio_broker.explorer.run import run


@pytest.mark.parametrize("token", ["spawn", "seed3", "turn0.1"])
def test_another_schedule_is_no_disturbance(token: str) -> None:
    told: list[bool] = []

    async def check() -> None:
        told.append(disturbed())

    async def child() -> None:
        told.append(disturbed())

    async def scenario() -> None:
        afterwards(check)
        at_rest(lambda: told.append(disturbed()))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(child)
            nursery.start_soon(trio.sleep, 1)

    assert run(scenario, Plan.parse(token)).failure is None
    assert told == [False, False, False]


@pytest.mark.parametrize("token", ["spawn/t0:2:after:0", "spawn/t0:2:before:0", "spawn/t0:2:after:0+1", "spawn/int:2"])
def test_it_is_disturbed_from_the_disturbance_to_the_end(token: str) -> None:
    told: list[tuple[str, bool]] = []

    async def check() -> None:
        told.append(("afterwards", disturbed()))

    async def scenario() -> None:
        afterwards(check)
        at_rest(lambda: told.append((f"{trio.current_time():g}", disturbed())))
        await trio.sleep(1)
        told.append(("awake", disturbed()))
        try:
            await trio.sleep(1)
            await trio.lowlevel.checkpoint()
        finally:
            told.append(("after", disturbed()))

    run(scenario, Plan.parse(token))
    rest = [("1", False)] if "before" in token else []
    assert told == [("0", False), ("awake", False), *rest, ("after", True), ("afterwards", True)]


def test_a_fault_is_a_disturbance_in_the_step_in_which_it_happens() -> None:
    told: list[bool] = []

    async def scenario() -> None:
        network = Network()
        network.install()
        async with network.listen(80):
            with trio.socket.socket() as client:
                await client.connect(("127.0.0.1", 80))
                told.append(disturbed())
                try:
                    client.shutdown(socket.SHUT_WR)  # no checkpoint
                except OSError:
                    told.append(disturbed())

    run(scenario, Plan.parse("spawn/io:1:reset"))
    assert told == [False, True]


def test_outside_of_an_exploration_nothing_is_disturbed() -> None:
    async def main() -> None:
        assert not disturbed()
        await trio.lowlevel.checkpoint()

    assert not disturbed()
    trio.run(main)
