"""What a listener and a sender can say in STOMP only, as processes of their own."""

from __future__ import annotations

import json

import pytest

from tests.cli.processes import broker, program


def sending(port: int, *arguments: str) -> tuple[str, ...]:
    return ("send", "--port", str(port), "--channel", "/queue/jobs", *arguments)


def listening(port: int, *arguments: str) -> tuple[str, ...]:
    return ("listen", "--port", str(port), "--listen", "/queue/jobs", "--format", "json", *arguments)


async def test_headers_pass_and_what_was_printed_is_acknowledged() -> None:
    async with broker() as (server, port):
        async with program(*sending(port, "--header", "type:a:b", "--confirm", "one", "two", "three")) as sender:
            assert await sender.end() == 0
        assert {record.get("protocol") for record in server.records} == {"STOMP 1.2", None}
        for ack in ("individual", "client"):
            async with program(*listening(port, "--ack", ack, "--count", "1")) as listener:
                assert await listener.end() == 0
                shown = json.loads(listener.out)
            assert shown == {
                "channel": "/queue/jobs",
                "text": "one" if ack == "individual" else "two",
                "bytes": 3,
                "headers": {"type": "a:b"},
                **({} if ack == "individual" else {"redelivered": True}),
            }
        # What was sent to it beyond the one that it printed went back; in the framed protocol nobody is told.
        async with program(*listening(port, "--count", "1")) as listener:
            assert await listener.end() == 0
            assert json.loads(listener.out) == {"channel": "/queue/jobs", "text": "three", "bytes": 5}


async def test_one_in_each_protocol() -> None:
    async with broker() as (server, port):
        async with program(*listening(port, "--protocol", "stomp", "--count", "1")) as listener:
            await server.event("subscribed", channel="/queue/jobs")
            async with program(*sending(port, "--protocol", "framed", "x")) as sender:
                assert await sender.end() == 0
            assert await listener.end() == 0
            assert json.loads(listener.out) == {"channel": "/queue/jobs", "text": "x", "bytes": 1}


async def test_a_broker_that_ends_in_stomp() -> None:
    async with broker() as (server, port), program(*listening(port, "--ack", "client", "--count", "2")) as listener:
        await server.event("subscribed", channel="/queue/jobs")
        server.signal()
        assert await listener.end() == 1
        assert "Server closed." in listener.err.decode()
        assert listener.log[-1] == "Error: the broker ended after 0 of 2 messages"


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (
            ("send", "--protocol", "framed", "--header", "a:b"),
            "--header cannot be said in the framed protocol",
        ),
        (
            ("send", "--protocol", "framed", "--header", "a:b", "--confirm"),
            "--confirm and --header cannot be said in the framed protocol",
        ),
        (("listen", "--protocol", "framed", "--ack", "client"), "--ack cannot be said in the framed protocol"),
        (("send", "--header", "ab"), "'--header': 'ab' is not a header; write a name, a colon and a value"),
        (("send", "--header", ":b"), "'--header': ':b' is not a header"),
        (("listen", "--ack", "both"), "'--ack': 'both' is not one of 'auto', 'client', 'individual'"),
    ],
)
async def test_wrong_use_is_one_line(arguments: tuple[str, ...], error: str) -> None:
    async with program(*arguments) as command:
        assert await command.end() == 2
        assert error in command.log[-1]
