"""Publishing with STOMP: whole frames or nothing, in order, bounded, confirmed where that is asked for."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, assert_checkpoints, assert_no_checkpoints, wait_all_tasks_blocked

from tests.client.moments import cancelled_after
from tests.client.stomp_server import ScriptedServers
from trio_broker.client import connect
from trio_broker.errors import InvalidChannel, MessageTooLarge
from trio_broker.limits import Limits
from trio_broker.wire.stomp_commands import Publish


async def test_a_message_with_headers_arrives_as_it_was_published(
    autojump_clock: MockClock, servers: ScriptedServers
) -> None:
    body = bytes(range(256))
    async with connect(protocol="stomp") as client:
        with assert_checkpoints():
            await client.publish("/topic/x", body, headers={"type": "a:b\\c\nd\r", "content-type": "text/plain"})
        await client.publish("/jobs", b"")
    first, second = servers.last.messages
    assert (first.channel, first.body, first.headers["type"]) == ("/topic/x", body, "a:b\\c\nd\r")
    assert (second.channel, second.body, dict(second.headers)) == ("/queue//jobs", b"", {})


async def test_confirm_waits_for_the_receipt(autojump_clock: MockClock, servers: ScriptedServers) -> None:
    async with connect(protocol="stomp", heart_beat_seconds=None) as client, trio.open_nursery() as nursery:
        server = servers.last
        nursery.start_soon(server.answer_late, Publish, 4)
        await client.publish("/topic/x", b"one", confirm=True)
        assert trio.current_time() == 4
        assert server.bodies == [b"one"]


async def test_confirm_cancelled_while_it_waits_has_published_once(
    autojump_clock: MockClock, servers: ScriptedServers
) -> None:
    """The receipt that comes late disturbs nothing."""
    async with connect(protocol="stomp") as client:
        server = servers.last
        server.answers = False
        with trio.move_on_after(1) as scope:
            await client.publish("/topic/x", b"one", confirm=True)
        assert scope.cancelled_caught
        await server.release()
        server.answers = True
        await client.publish("/topic/x", b"two", confirm=True)
    assert server.bodies == [b"one", b"two"]


@pytest.mark.parametrize("confirm", [False, True])
@pytest.mark.parametrize("write_bytes_max", [1, 9, 1000])
@pytest.mark.parametrize("mailbox_bytes_max", [1, 300, 100_000])
async def test_cancelled_at_every_moment(
    autojump_clock: MockClock, servers: ScriptedServers, write_bytes_max: int, mailbox_bytes_max: int, confirm: bool
) -> None:
    """Never a fragment, never twice. Without ``confirm``: sent exactly if it returned."""
    servers.network.buffer_bytes, servers.network.write_bytes_max = 60, write_bytes_max
    limits = Limits(mailbox_bytes_max=mailbox_bytes_max, farewell_seconds_max=1000)
    cancelled = 0
    for moment in range(0, 60, 3):
        returned: list[bytes] = []
        published = [b"%d." % number * 10 for number in range(6)]
        async with connect(protocol="stomp", limits=limits, heart_beat_seconds=None) as client:
            for number, body in enumerate(published):
                async with cancelled_after(moment if number % 2 else None) as scope:
                    if number == 5 and not moment:
                        scope.cancel()
                    await client.publish("/topic/x", body, confirm=confirm)
                    returned.append(body)
                cancelled += scope.cancelled_caught
        sent = servers.last.bodies
        if confirm:
            assert [body for body in published if body in sent] == sent
            assert set(returned) <= set(sent)
        else:
            assert sent == returned
    assert cancelled


async def test_a_server_that_does_not_read_makes_publishers_wait(
    autojump_clock: MockClock, servers: ScriptedServers
) -> None:
    """One message always gets through; the rest waits at the mark."""
    servers.network.buffer_bytes = 500
    handed_over = 0
    limits = Limits(mailbox_bytes_max=10_000)
    async with connect(protocol="stomp", limits=limits, heart_beat_seconds=None) as client:
        server = servers.last
        server.pause()
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def flood() -> None:
                nonlocal handed_over
                for _ in range(50):
                    await client.publish("/topic/x", bytes(900))
                    handed_over += 1

            await trio.sleep(1000)
            assert handed_over in {10, 11}  # the server reads once before it pauses
            server.resume()
    assert len(server.bodies) == 50


@pytest.mark.parametrize(
    ("channel", "size", "headers", "error", "text"),
    [
        ("", 0, {}, InvalidChannel, "the name is empty"),
        ("/" + "x" * 255, 0, {}, InvalidChannel, "256 bytes"),
        ("/a\0b", 0, {}, InvalidChannel, "a NUL"),
        ("/topic/x", 1001, {}, MessageTooLarge, "at most 1,000"),
        ("/topic/x", 0, {"a": "\0"}, ValueError, "the header 'a' cannot be written"),
        ("/topic/x", 0, {"destination": "/topic/y"}, ValueError, "headers cannot contain destination"),
        ("/topic/x", 0, {str(number): "" for number in range(7)}, ValueError, r"[79] headers; at most 6 are allowed"),
        ("/topic/x", 0, {"a": "x" * 800}, ValueError, r"headers of 8\d\d bytes; at most 744 are allowed"),
    ],
)
async def test_refused_and_nothing_is_sent(
    autojump_clock: MockClock,
    servers: ScriptedServers,
    channel: str,
    size: int,
    headers: dict[str, str],
    error: type[Exception],
    text: str,
) -> None:
    limits = Limits(frame_bytes_max=1000, headers_max=10, header_bytes_max=1000)
    async with connect(protocol="stomp", limits=limits) as client:
        with pytest.raises(error, match=text):
            await client.publish(channel, bytes(size), headers=headers)
        with pytest.raises(error, match=text):
            await client.request(channel, bytes(size), headers={**headers})
        permit = await client.reserve(1000)
        with pytest.raises(error, match=text):
            permit.send(channel, bytes(size), headers=headers)
        await permit.send("/topic/x", bytes(1000)).confirmed()  # it is still good
    assert servers.last.bodies == [bytes(1000)]


# -- permits and receipts ----------------------------------------------------------------------------------------------


async def test_reserve_send_confirmed(autojump_clock: MockClock, servers: ScriptedServers) -> None:
    async with connect(protocol="stomp") as client:
        server = servers.last
        server.answers = False
        with assert_checkpoints():
            permit = await client.reserve()
        with assert_no_checkpoints():
            receipt = permit.send("/queue/x", b"one", headers={"type": "t"})
        with trio.move_on_after(1) as scope:
            await receipt.confirmed()
        assert scope.cancelled_caught
        await server.release()
        server.answers = True
        for _ in range(2):
            with assert_checkpoints():
                await receipt.confirmed()
    assert [(message.body, message.headers["type"]) for message in server.messages] == [(b"one", "t")]


async def test_a_receipt_is_waited_for_in_several_tasks(autojump_clock: MockClock, servers: ScriptedServers) -> None:
    async with connect(protocol="stomp", heart_beat_seconds=None) as client:
        server = servers.last
        server.answers = False
        receipts = [(await client.reserve()).send("/queue/x", b"%d" % number) for number in range(3)]
        confirmed: list[int] = []

        async def wait(number: int) -> None:
            await receipts[number].confirmed()
            confirmed.append(number)

        async with trio.open_nursery() as nursery:
            for number in (0, 0, 1, 2):
                nursery.start_soon(wait, number)
            await wait_all_tasks_blocked()
            assert confirmed == []
            await server.stream.send_all(server.held.pop(0)[: len(b"RECEIPT\nreceipt-id:1\n\n\0")])
            await wait_all_tasks_blocked()
            assert confirmed == [0, 0]
            nursery.cancel_scope.cancel()
        server.answers = True


async def test_a_receipt_that_never_came_says_so_after_leaving(
    autojump_clock: MockClock, servers: ScriptedServers
) -> None:
    with pytest.raises(trio.BrokenResourceError, match="1 messages were not confirmed"):
        async with connect(protocol="stomp") as client:
            servers.last.answers = False
            receipt = (await client.reserve()).send("/queue/x", b"one")
    with pytest.raises(trio.ClosedResourceError):
        await receipt.confirmed()


async def test_a_receipt_can_come_while_the_block_is_left(autojump_clock: MockClock, servers: ScriptedServers) -> None:
    async with connect(protocol="stomp") as client:
        receipt = (await client.reserve()).send("/queue/x", b"one")
    await receipt.confirmed()


async def test_what_is_reserved_is_kept_from_others_until_it_is_given_back(
    autojump_clock: MockClock, servers: ScriptedServers
) -> None:
    published: list[str] = []

    async with connect(protocol="stomp", limits=Limits(mailbox_bytes_max=2000)) as client:

        async def publish(name: str) -> None:
            await client.publish("/topic/x", name.encode())
            published.append(name)

        async with trio.open_nursery() as nursery:
            permit = await client.reserve(2000)
            nursery.start_soon(publish, "one")
            await wait_all_tasks_blocked()
            assert published == []
            permit.send("/topic/x", b"first")
            await wait_all_tasks_blocked()
            assert published == ["one"]
            with await client.reserve(2000) as permit:
                nursery.start_soon(publish, "two")
                await wait_all_tasks_blocked()
                assert published == ["one"]
            await wait_all_tasks_blocked()
            assert published == ["one", "two"]
            permit.release()  # a second time
            with await client.reserve(2000) as permit:
                permit.send("/topic/x", b"used")
            again = await client.reserve(2000)  # all is given back, and no more than all
            nursery.start_soon(publish, "three")
            await wait_all_tasks_blocked()
            assert published == ["one", "two"]
            again.release()
    assert servers.last.bodies == [b"first", b"one", b"two", b"used", b"three"]


async def test_a_permit_is_good_for_one_message(autojump_clock: MockClock, servers: ScriptedServers) -> None:
    async with connect(protocol="stomp") as client:
        permit = await client.reserve(10)
        with pytest.raises(MessageTooLarge, match="11 bytes; at most 10"):
            permit.send("/topic/x", bytes(11))
        permit.send("/topic/x", bytes(10))
        with pytest.raises(RuntimeError, match="good for one message"):
            permit.send("/topic/x", b"")
        released = await client.reserve()
        released.release()
        with pytest.raises(RuntimeError, match="good for one message"):
            released.send("/topic/x", b"")
        with pytest.raises(MessageTooLarge):
            await client.reserve(Limits().frame_bytes_max + 1)
        with pytest.raises(ValueError, match="body_bytes_max is -1; 0 is the least"):
            await client.reserve(-1)
    assert servers.last.bodies == [bytes(10)]


@pytest.mark.parametrize("moment", range(6))
async def test_reserve_cancelled_at_every_moment_keeps_no_room(
    autojump_clock: MockClock, servers: ScriptedServers, moment: int
) -> None:
    """With a message of somebody else before it, and room that comes at the last step."""
    async with connect(protocol="stomp", limits=Limits(mailbox_bytes_max=1)) as client:
        first = await client.reserve(1)
        permits = []

        async def release() -> None:
            first.release()

        async with cancelled_after(moment, release):
            permits.append(await client.reserve(1))
        for permit in permits:
            permit.release()
        with trio.fail_after(1):
            (await client.reserve(1)).release()


async def test_a_server_that_owes_receipts_cannot_make_us_hold_any_number(
    autojump_clock: MockClock, servers: ScriptedServers
) -> None:
    sent = 0
    async with connect(protocol="stomp", limits=Limits(mailbox_bytes_max=640), heart_beat_seconds=None) as client:
        servers.last.answers = False
        with trio.move_on_after(5):
            for _ in range(20):
                (await client.reserve(0)).send("/topic/x", b"")
                sent += 1
                await wait_all_tasks_blocked()
        assert sent == 10
        servers.last.answers = True
        await servers.last.release()
        with trio.fail_after(1):
            (await client.reserve(0)).send("/topic/x", b"")
            sent += 1
    assert sent == 11
