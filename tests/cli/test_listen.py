import base64
import json
import os
import sys

import pytest
import trio

import trio_broker
from tests.cli.processes import broker, program, running

ADDRESS = r"\('127\.0\.0\.1', [0-9]+\)"


async def publish(port: int, channel: str, *messages: bytes) -> None:
    async with trio_broker.connect("127.0.0.1", port, protocol="framed") as client:
        for message in messages:
            await client.publish(channel, message)


async def test_it_prints_the_seeds_lines_and_ends_with_the_broker() -> None:
    long = b"\x00\xff\n'" + b"X" * 30
    async with broker() as (server, port), program("listen", "--port", str(port)) as listener:
        await server.event("subscribed", channel="/topic/foo")
        identity = (await listener.line("Starting up ([0-9a-f]{8})"))[1]
        await listener.line(f"I am {ADDRESS}")
        await publish(port, "/topic/foo", b"short", b"", long)
        await listener.until(lambda: len(listener.lines) == 5, "five lines")
        server.signal()
        assert await listener.end() == 0
        assert listener.log == []
        assert listener.lines[2:] == [
            f"Received by {identity}: b'short'",
            f"Received by {identity}: b''",
            f"Received by {identity}: {long[:20]!r}",
            "Connection ended.",
            "Server closed.",
        ]
        assert await server.end() == 0


async def test_ctrl_c_ends_it_with_bye_and_status_0() -> None:
    async with broker() as (server, port), program("listen", "--port", str(port)) as listener:
        await server.event("subscribed", channel="/topic/foo")
        listener.signal()
        assert await listener.end() == 0
        assert listener.lines[-1] == "Bye!"
        assert listener.log == []
        await server.event("closed")


async def test_count_ends_it_after_so_many() -> None:
    command = ("listen", "--listen", "/queue/blah", "--count", "2")
    async with broker() as (server, port), program(*command, "--port", str(port)) as listener:
        await server.event("subscribed", channel="/queue/blah")
        await publish(port, "/queue/blah", b"1", b"2", b"3")
        assert await listener.end() == 0
        assert [line[-4:] for line in listener.lines[2:]] == ["b'1'", "b'2'"]


async def test_a_broker_that_ends_before_the_count_is_an_error() -> None:
    async with broker() as (server, port), program("listen", "--port", str(port), "--count", "2") as listener:
        await server.event("subscribed", channel="/topic/foo")
        await publish(port, "/topic/foo", b"1")
        await listener.line("Received.*")
        server.signal()
        assert await listener.end() == 1
        assert listener.lines[-2:] == ["Connection ended.", "Server closed."]
        assert listener.log == ["Error: the broker ended after 1 of 2 messages"]


async def test_a_broker_that_dies_is_an_error() -> None:
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, send_half_a_frame, 0)
        port = listeners[0].socket.getsockname()[1]
        async with program("listen", "--host", "127.0.0.1", "--port", str(port)) as listener:
            assert await listener.end() == 1
            assert listener.lines[-1] == "Connection ended."
            assert len(listener.log) == 1
            assert listener.log[0].startswith(f"Error: the connection to 127.0.0.1:{port} broke: ")
        nursery.cancel_scope.cancel()


async def send_half_a_frame(stream: trio.SocketStream) -> None:
    await stream.receive_some()
    await stream.send_all(b"\0\0\0\5hel")


PAYLOADS = [b"plain", b"", "grün\n\u2028".encode(), b"\xff\xfe\x00", b'{"a": 1}']


async def test_json_is_an_object_a_line_and_nothing_else() -> None:
    command = ("listen", "--format", "json", "--count", str(len(PAYLOADS)))
    async with broker() as (server, port), program(*command, "--port", str(port)) as listener:
        await server.event("subscribed", channel="/topic/foo")
        await publish(port, "/topic/foo", *PAYLOADS)
        assert await listener.end() == 0
        objects = [json.loads(line) for line in listener.out.splitlines()]
        assert [item["bytes"] for item in objects] == [len(payload) for payload in PAYLOADS]
        assert {item["channel"] for item in objects} == {"/topic/foo"}
        decoded = [item["text"].encode() if "text" in item else base64.b64decode(item["base64"]) for item in objects]
        assert decoded == PAYLOADS
        assert ["base64" in item for item in objects] == [False, False, False, True, False]
        assert listener.log[0].startswith("Starting up ")
        assert listener.log[1].startswith("I am ")


async def test_raw_is_the_payloads_and_nothing_else() -> None:
    command = ("listen", "--format", "raw", "--count", str(len(PAYLOADS)))
    async with broker() as (server, port), program(*command, "--port", str(port)) as listener:
        await server.event("subscribed", channel="/topic/foo")
        await publish(port, "/topic/foo", *PAYLOADS)
        assert await listener.end() == 0
        assert listener.out == b"".join(PAYLOADS)
        assert len(listener.log) == 2


async def test_each_line_is_there_at_once() -> None:
    # Without PYTHONUNBUFFERED, which would hide a missing flush.
    environment = {"PYTHONUNBUFFERED": ""}
    async with broker() as (server, port):
        async with program("listen", "--port", str(port), environment=environment) as listener:
            await server.event("subscribed", channel="/topic/foo")
            async with trio_broker.connect("127.0.0.1", port, protocol="framed") as client:
                await client.publish("/topic/foo", b"only one")
                await listener.line("Received by .*: b'only one'")


async def test_it_ends_quietly_when_nobody_reads_its_output() -> None:
    async with broker() as (server, port):
        command = f"{sys.executable} -m trio_broker listen --port {port} | head -n 3; echo ended"
        async with running("sh", "-c", command) as pipeline:
            await server.event("subscribed", channel="/topic/foo")

            async def keep_publishing(client: trio_broker.Client) -> None:
                while True:
                    await client.publish("/topic/foo", b"x")

            async with (
                trio_broker.connect("127.0.0.1", port, protocol="framed") as client,
                trio.open_nursery() as nursery,
            ):
                nursery.start_soon(keep_publishing, client)
                await pipeline.line("ended")
                nursery.cancel_scope.cancel()
        assert pipeline.err == b""


async def test_it_takes_larger_messages_where_it_is_told_to() -> None:
    limit = ("--frame-bytes-max", "17MiB")
    command = ("listen", "--count", "1", "--format", "raw", *limit)
    async with broker(*limit) as (server, port), program(*command, "--port", str(port)) as listener:
        await server.event("subscribed", channel="/topic/foo")
        async with program("send", "--port", str(port), "--size", "17MiB", "--count", "1", *limit) as sender:
            assert await sender.end() == 0
        assert await listener.end() == 0
        assert len(listener.out) == 17 * 1024 * 1024


@pytest.mark.parametrize("command", ["listen", "send"])
async def test_a_broker_that_cannot_be_reached_is_one_line(command: str) -> None:
    async with broker() as (server, port):
        server.signal()
        assert await server.end() == 0
    async with program(command, "--host", "127.0.0.1", "--port", str(port)) as client:
        assert await client.end() == 1
        assert client.log == [f"Error: cannot connect to 127.0.0.1:{port}: Connection refused"]
    async with program(command, "--host", "nobody.invalid") as client:
        assert await client.end() == 1
        assert len(client.log) == 1
        assert client.log[0].startswith("Error: cannot connect to nobody.invalid:25000: ")
    async with program(command, "--host", "nobody..invalid") as client:
        assert await client.end() == 1
        assert len(client.log) == 1


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["listen", "--listen", ""], "Invalid value for '--listen': channel '': the name is empty"),
        (["listen", "--listen", "x" * 256], "the name has 256 bytes"),
        (["listen", "--listen", os.fsdecode(b"\xff")], "cannot be written in UTF-8"),
        (["listen", "--count", "0"], "Invalid value for '--count'"),
        (["listen", "--format", "xml"], "'xml' is not one of 'text', 'json', 'raw'"),
        (["listen", "--port", "0"], "Invalid value for '--port'"),
        (["send", "--channel", ""], "Invalid value for '--channel'"),
        (["send", "--interval", "-1"], "'-1' is not a number of seconds"),
        (["send", "--interval", "inf"], "'inf' is not a number of seconds"),
        (["send", "--size", "16MiB"], "16,777,216 bytes are over --frame-bytes-max (16,777,215)"),
        (["send", "hello", "-"], "- stands alone"),
        (["receive"], "No such command 'receive'"),
    ],
)
async def test_wrong_use_is_one_line(arguments: list[str], complaint: str) -> None:
    async with program(*arguments) as client:
        assert await client.end() == 2
        assert client.lines == []
        assert len(client.log) == 1
        assert client.log[0].startswith("Error: ")
        assert complaint in client.log[0]


async def test_help_shows_examples_and_the_environment() -> None:
    for command in ("serve", "listen", "send", "demo"):
        async with program(command, "--help") as child:
            assert await child.end() == 0
            text = child.out.decode()
            assert f"  trio-broker {command}" in text
            assert f"TRIO_BROKER_{command.upper()}_" in text
    async with program("--version") as child:
        assert await child.end() == 0
        assert child.lines == [f"trio-broker, version {trio_broker.__version__}"]
    async with program() as child:
        assert await child.end() == 2
        assert "Usage: trio-broker" in child.err.decode()
