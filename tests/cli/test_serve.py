import dataclasses
import json
import os
import re
import signal
import socket
import sys
from contextlib import AsyncExitStack

import pytest
import trio

import trio_broker
from tests.cli.processes import broker, program, running
from trio_broker.cli import main
from trio_broker.client import open_subscription

REPORT = r"Drained: ([0-9,]+) connections? closed, ([0-9,]+) messages? delivered, ([0-9,]+) discarded, ([0-9.]+) s(.*)"


def frame(body: bytes) -> bytes:
    return len(body).to_bytes(4, "big") + body


async def connect_raw(port: int, *frames: bytes) -> trio.SocketStream:
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    await stream.send_all(b"".join(map(frame, frames)))
    return stream


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_ends_it_in_order(number: signal.Signals) -> None:
    async with broker() as (server, port):
        peer = await connect_raw(port, b"/topic/foo")
        await server.event("subscribed", channel="/topic/foo")
        server.signal(number)
        assert await peer.receive_some() == b""
        assert await server.end() == 0
        report = await server.line(REPORT)
        assert (report[1], report[2], report[3], report[5]) == ("1", "0", "0", "")
        assert server.lines[0].startswith("Serving on 127.0.0.1:")
        assert server.lines[1:] == [report[0], "Bye!"]
        await peer.aclose()


async def test_a_drain_with_nothing_to_wait_for_takes_no_time() -> None:
    async with broker() as (server, _):
        server.signal()
        assert await server.end() == 0
        assert float((await server.line(REPORT))[4]) < 0.5


async def test_everybody_gets_everything_at_ctrl_c() -> None:
    subscribers, messages = 20, [b"%d " % number + bytes(4096) for number in range(200)]
    received: list[list[bytes]] = []

    async def receive_all(subscription: trio_broker.RemoteSubscription) -> None:
        # Ends at a clean end of stream only; a cut one raises BrokenResourceError.
        received.append([message.body async for message in subscription])

    async with broker() as (server, port), AsyncExitStack() as stack, trio.open_nursery() as nursery:
        subscriptions = [
            await stack.enter_async_context(open_subscription("127.0.0.1", port, "/topic/foo"))
            for _ in range(subscribers)
        ]
        await server.event("subscribed", subscribers, channel="/topic/foo")
        async with trio_broker.connect("127.0.0.1", port, protocol="framed") as client:
            for message in messages:
                await client.publish("/topic/foo", message)
        await server.event("closed")  # the publisher's connection: all has been accepted
        server.signal()
        for subscription in subscriptions:
            nursery.start_soon(receive_all, subscription)
        assert await server.end() == 0
        report = await server.line(REPORT)
        assert (report[1], report[3], report[5]) == ("20", "0", "")
        assert float(report[4]) < 1
    assert received == [messages] * subscribers


async def stuck_subscriber(port: int) -> trio.SocketStream:
    """A subscriber that reads nothing, and more for it than the system takes."""
    stuck = await connect_raw(port, b"/queue/stuck")
    async with trio_broker.connect("127.0.0.1", port, protocol="framed") as client:
        for _ in range(12):
            await client.publish("/queue/stuck", bytes(1_000_000))
    return stuck


async def test_a_second_signal_ends_it_at_once() -> None:
    async with broker("--drain-seconds-max", "1e6", "--stall-seconds-max", "1e6") as (server, port):
        stuck = await stuck_subscriber(port)
        await server.event("closed")
        idle = await connect_raw(port, b"/null")
        await server.event("subscribed", channel="/null", count=2)
        server.signal()
        assert await idle.receive_some() == b""  # so it drains
        await idle.aclose()
        assert server.status is None
        server.signal()
        assert await server.end() == 1
        report = await server.line(REPORT)
        assert report[1] == "2"
        assert report[5] == ", 1 cut"
        assert server.lines[-1] == "Bye!"
        await stuck.aclose()


async def test_the_deadline_of_a_drain_is_kept_and_losses_are_told() -> None:
    async with broker("--drain-seconds-max", "0.2") as (server, port):
        stuck = await stuck_subscriber(port)
        await server.event("closed")
        server.signal()
        assert await server.end() == 0
        report = await server.line(REPORT)
        assert report[5] == ", 1 cut"
        assert 1 <= int(report[3]) <= 12
        assert 0.2 <= float(report[4]) < 5
        await stuck.aclose()


async def test_what_stays_in_a_queue_is_reported_as_discarded() -> None:
    async with broker() as (server, port):
        async with trio_broker.connect("127.0.0.1", port, protocol="framed") as client:
            for _ in range(7):
                await client.publish("/queue/nobody", b"x")
        await server.event("closed")
        server.signal()
        assert await server.end() == 0
        assert (await server.line(REPORT))[3] == "7"


# -- limits ------------------------------------------------------------------------------------------------------------


def test_every_limit_is_an_option_with_its_default_its_reason_and_its_variable() -> None:
    command = main.commands["serve"]
    with command.make_context("serve", []) as context:
        assert {field.name: context.params[field.name] for field in dataclasses.fields(trio_broker.Limits)} == {
            field.name: field.default for field in dataclasses.fields(trio_broker.Limits)
        }
        text = " ".join(command.get_help(context).split())
    for field in dataclasses.fields(trio_broker.Limits):
        assert "--" + field.name.replace("_", "-") in text
        assert field.metadata["why"][1:] in text
    assert "default: 4MiB" in text


async def frame_is_refused(server_port: int, size_bytes: int) -> bool:
    """Whether the broker hangs up on one who announces a frame of this size."""
    peer = await connect_raw(server_port, b"/topic/foo", b"/topic/foo")
    await peer.send_all(size_bytes.to_bytes(4, "big") + bytes(size_bytes))
    with trio.fail_after(20):
        try:
            return not await peer.receive_some()
        except trio.BrokenResourceError:
            return True
        finally:
            await trio.aclose_forcefully(peer)


async def test_limits_come_from_options_and_from_the_environment_and_options_win() -> None:
    variable = "TRIO_BROKER_SERVE_FRAME_BYTES_MAX"
    async with broker("--frame-bytes-max", "1KiB") as (_, port):
        assert not await frame_is_refused(port, 1024)
        assert await frame_is_refused(port, 1025)
    async with broker(environment={variable: "2 kib"}) as (_, port):
        assert not await frame_is_refused(port, 2048)
        assert await frame_is_refused(port, 2049)
    async with broker("--frame-bytes-max", "100", environment={variable: "2KiB"}) as (_, port):
        assert await frame_is_refused(port, 101)


async def test_the_port_comes_from_the_environment() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    async with program("serve", environment={"TRIO_BROKER_SERVE_PORT": str(port)}) as server:
        await server.line(f"Serving on 127.0.0.1:{port}")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--frame-bytes-max", "64kB"], "Invalid value for '--frame-bytes-max': '64kB' is not a size"),
        (["--frame-bytes-max", "-1"], "'-1' is not a size"),
        (["--frame-bytes-max", "0"], "--frame-bytes-max is 0; it must be more than 0"),
        (["--frame-bytes-max", "4GiB"], "--frame-bytes-max is 4294967296"),
        (["--drain-seconds-max", "nan"], "Invalid value for '--drain-seconds-max'"),
        (["--drain-seconds-max", "soon"], "'soon' is not a number of seconds"),
        (["--channels-max", "0"], "Invalid value for '--channels-max'"),
        (["--read-bytes-max", "1"], "--read-bytes-max (1) is less than --read-bytes-min (4096)"),
        (["--overflow", "spill"], "'spill' is not one of 'block', 'drop_oldest'"),
        (["--port", "65536"], "Invalid value for '--port'"),
        (["--colour"], "No such option '--colour'"),
    ],
)
async def test_a_bad_value_is_one_line(arguments: list[str], complaint: str) -> None:
    async with program("serve", "--port", "0", *arguments) as server:
        assert await server.end() == 2
        assert server.lines == []
        assert len(server.log) == 1
        assert server.log[0].startswith("Error: ")
        assert complaint in server.log[0]


async def test_addresses_that_cannot_be_listened_on_are_one_line() -> None:
    async with broker() as (_, port), program("serve", "--port", str(port)) as second:
        assert await second.end() == 1
        assert second.log == [f"Error: cannot listen on 127.0.0.1:{port}: Address already in use"]
    async with program("serve", "--host", "nobody.invalid") as server:
        assert await server.end() == 1
        assert len(server.log) == 1
        assert server.log[0].startswith("Error: cannot listen on nobody.invalid:25000: ")
    async with program("serve", "--host", "a" * 70 + ".invalid") as server:
        assert await server.end() == 1
        assert len(server.log) == 1


async def test_an_ipv6_address_is_shown_in_brackets() -> None:
    async with program("serve", "--host", "::1", "--port", "0") as server:
        await server.until(lambda: server.lines or server.status is not None, "a line or the end")
        if "cannot listen" in server.err.decode():
            pytest.skip("this machine has no IPv6")
        await server.line(r"Serving on \[::1\]:[0-9]+")


# -- logs --------------------------------------------------------------------------------------------------------------

EVIL = "/topic/a\n2026-01-01 00:00:00 [error    ] forged\x1b[2J\x9b\u2028\u202eend"


async def test_json_logs_are_one_object_a_line() -> None:
    async with broker("--log-level", "debug") as (server, port):
        peer = await connect_raw(port, EVIL.encode(), EVIL.encode(), b"payload\n")
        await server.event("subscribed", channel=EVIL)
        await server.event("sending", channel=EVIL, body=repr(b"payload\n"))
        await peer.aclose()
        server.signal()
        assert await server.end() == 0
        for record in server.records:
            assert {"event", "level", "timestamp"} <= record.keys()


# structlog's own renderer quotes a text with a space or a newline in it, and only such a text.
@pytest.mark.parametrize("name", [EVIL, "/topic/\x1b[2J\x9b\u202eforged"])
async def test_names_from_outside_cannot_forge_a_line_of_the_log(name: str) -> None:
    async with program("serve", "--port", "0", "--log-level", "debug") as server:
        port = int((await server.line(r"Serving on .*:([0-9]+)"))[1])
        async with trio_broker.connect("127.0.0.1", port, protocol="framed") as client:
            await client.publish("/topic/first", b"x")
            await server.log_line("sending")
            peer = await connect_raw(port, name.encode())
            line = await server.log_line("forged")
            assert "subscribed" in line
            await server.log_line(r"\\u202e")
            await peer.aclose()
        server.signal()
        assert await server.end() == 0
        text = server.err.decode()
        assert all(character == "\n" or character.isprintable() for character in text)
        assert all(re.match(r"[0-9-]{10} [0-9:]{8} \[(info|debug) ", line) for line in server.log)


async def test_a_log_level_hides_what_is_below_it() -> None:
    async with program("serve", "--port", "0", "--log-level", "warning") as server:
        port = int((await server.line(r"Serving on .*:([0-9]+)"))[1])
        quiet = await connect_raw(port, b"/topic/foo")
        refused = await connect_raw(port, b"")
        await server.log_line("refused")
        server.signal()
        assert await server.end() == 0
        assert len(server.log) == 1
        await quiet.aclose()
        await refused.aclose()


# -- file descriptors --------------------------------------------------------------------------------------------------


async def test_the_soft_limit_on_open_files_is_raised() -> None:
    command = f"ulimit -Sn 64; exec {sys.executable} -m trio_broker serve --port 0"
    async with running("sh", "-c", command) as server:
        await server.line("Serving on .*")
        limits = await trio.Path(f"/proc/{server.process.pid}/limits").read_text()
        soft, hard = next(line.split()[3:5] for line in limits.splitlines() if line.startswith("Max open files"))
        assert soft == hard != "64"


async def test_a_lack_of_file_descriptors_is_a_line_now_and_then_and_does_not_end_it() -> None:
    command = f"ulimit -n 40; exec {sys.executable} -m trio_broker serve --port 0 --log-format json"
    async with running("sh", "-c", command) as server:
        port = int((await server.line(r"Serving on .*:([0-9]+)"))[1])
        peers = [await connect_raw(port, b"/topic/foo") for _ in range(60)]
        complaint = "accept returned EMFILE"
        # The second comes after a second, in which Trio complained about ten times.
        await server.until(lambda: sum(complaint in line for line in server.log) >= 2, "two complaints")
        first, second, *_ = (json.loads(line) for line in server.log if complaint in line)
        assert "left_out" not in first
        assert second["left_out"] >= 2
        for peer in peers:
            await peer.aclose()
        await server.event("subscribed", 60, channel="/topic/foo")
        server.signal()
        assert await server.end() == 0
        assert "exception" not in server.err.decode()


async def test_nobody_reads_what_it_prints() -> None:
    reading, writing = os.pipe()
    command = [sys.executable, "-m", "trio_broker", "serve", "--port", "0", "--log-format", "json"]
    process = await trio.lowlevel.open_process(command, stdout=writing, stderr=-1)
    os.close(writing)
    async with trio.lowlevel.FdStream(reading) as stdout:
        with trio.fail_after(30):
            assert (await stdout.receive_some()).startswith(b"Serving on")
    process.send_signal(signal.SIGINT)
    with trio.fail_after(30):
        assert await process.wait() == 0
    assert process.stderr is not None
    assert b"".join([data async for data in process.stderr]) == b""
    await process.stderr.aclose()
