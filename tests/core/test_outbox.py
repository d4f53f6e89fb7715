from __future__ import annotations

from collections.abc import Callable

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.core.helpers import Bench
from trio_broker.core.outbox import Outbox


async def test_a_mailbox_is_named_once_however_much_is_in_it(bench: Callable[..., Bench]) -> None:
    house, outbox = bench(), Outbox()
    peer = house.peer("/topic/t", outbox=outbox)
    house.publish_nowait("/topic/t", b"a", b"b", b"c")
    assert outbox.turn_nowait() is peer.subscription
    with pytest.raises(trio.WouldBlock):
        outbox.turn_nowait()
    assert peer.receive() == [b"a", b"b", b"c"]


async def test_what_comes_while_its_owner_serves_it_is_announced_again(bench: Callable[..., Bench]) -> None:
    house, outbox = bench(), Outbox()
    peer = house.peer("/topic/t", outbox=outbox)
    house.publish_nowait("/topic/t", b"a")
    outbox.turn_nowait()
    assert peer.take() == [b"a"]
    house.publish_nowait("/topic/t", b"b")
    peer.settle()
    assert outbox.turn_nowait() is peer.subscription
    assert peer.receive() == [b"b"]


async def test_a_busy_subscription_does_not_starve_another_of_the_same_outbox(bench: Callable[..., Bench]) -> None:
    house, outbox = bench(), Outbox()
    busy = house.peer("/topic/busy", outbox=outbox)
    quiet = house.peer("/topic/quiet", outbox=outbox)
    house.publish_nowait("/topic/busy", *[b"busy"] * 100)
    house.publish_nowait("/topic/quiet", b"quiet", b"quiet")
    peers = {busy.subscription: busy, quiet.subscription: quiet}
    served = []
    for _ in range(6):
        subscription = outbox.turn_nowait()
        assert subscription is not None
        served += peers[subscription].receive(bytes_max=1)
    assert served == [b"busy", b"quiet", b"busy", b"quiet", b"busy", b"busy"]


async def test_control_has_a_turn_of_its_own_and_is_taken_whole(bench: Callable[..., Bench]) -> None:
    house, outbox = bench(), Outbox()
    peer = house.peer("/topic/t", outbox=outbox)
    house.publish_nowait("/topic/t", b"a")
    outbox.put_control(b"one")
    outbox.put_control(b"two")
    assert outbox.turn_nowait() is peer.subscription
    assert outbox.take_control() == b"onetwo"  # it overtakes the delivery whose turn it is
    assert peer.receive() == [b"a"]
    assert outbox.turn_nowait() is None  # once for both
    assert outbox.take_control() == b""
    with pytest.raises(trio.WouldBlock):
        outbox.turn_nowait()
    outbox.put_control(b"three")
    assert outbox.turn_nowait() is None


async def test_after_close_what_was_announced_is_still_served_and_nothing_new(bench: Callable[..., Bench]) -> None:
    house, outbox = bench(), Outbox()
    peer = house.peer("/topic/t", outbox=outbox)
    house.publish_nowait("/topic/t", b"a")
    outbox.close()
    outbox.close()
    outbox.put_control(b"too late")
    house.publish_nowait("/topic/t", b"b")
    assert await outbox.turn() is peer.subscription
    assert outbox.take_control() == b""
    with pytest.raises(trio.EndOfChannel):
        await outbox.turn()
    assert peer.receive() == [b"a", b"b"]
    house.publish_nowait("/topic/t", b"c")
    assert peer.receive() == [b"c"]  # it is not announced, but it is there


async def test_a_cancelled_turn_takes_nothing(bench: Callable[..., Bench], autojump_clock: MockClock) -> None:
    house, outbox = bench(), Outbox()
    peer = house.peer("/topic/t", outbox=outbox)
    with trio.move_on_after(1) as scope:
        await outbox.turn()
    assert scope.cancelled_caught
    house.publish_nowait("/topic/t", b"a")
    assert outbox.turn_nowait() is peer.subscription


async def test_success_beats_cancel(bench: Callable[..., Bench]) -> None:
    house, outbox = bench(), Outbox()
    peer = house.peer("/topic/t", outbox=outbox)
    turns = []
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def wait() -> None:
            turns.append(await outbox.turn())

        await wait_all_tasks_blocked()
        house.publish_nowait("/topic/t", b"a")
        nursery.cancel_scope.cancel()
    assert turns == [peer.subscription]
