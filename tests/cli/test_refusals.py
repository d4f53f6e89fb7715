"""What cannot be said or reached is refused in one line, before anything is connected to."""

from __future__ import annotations

import os
import sys

import click
import pytest

from tests.cli.processes import broker, program, running
from trio_broker.cli import main
from trio_broker.cli.options import TEXT_A_LINE

NOT_UTF8 = os.fsdecode(b"a:\xff")
HERE = ("--host", "127.0.0.1", "--port", "1")  # where nobody listens


def refusal(*arguments: str) -> str:
    """How a command line is refused, with status 2."""
    with pytest.raises(click.UsageError) as caught:
        main.main(list(arguments), standalone_mode=False)
    assert caught.value.exit_code == 2
    return caught.value.format_message()


def failure(*arguments: str) -> str:
    """How a command fails, with status 1."""
    with pytest.raises(click.ClickException) as caught:
        main.main(list(arguments), standalone_mode=False)
    assert caught.value.exit_code == 1
    return caught.value.format_message()


@pytest.mark.parametrize(
    ("header", "why"),
    [
        ("destination:x", "headers cannot contain destination"),
        ("receipt:x", "headers cannot contain receipt"),
        (NOT_UTF8, "the header 'a' cannot be written in STOMP 1.2"),
        (f"a:{'b' * 20_000}", "headers of 20,0"),
    ],
)
def test_a_header_that_cannot_be_sent(header: str, why: str) -> None:
    said = refusal("send", *HERE, "--header", header, "hello")
    assert said.startswith("Invalid value for '--header': ")
    assert why in said


def test_more_headers_than_a_message_can_have() -> None:
    headers = [part for number in range(200) for part in ("--header", f"h{number}:x")]
    assert "'--header': 200 headers; at most 1" in refusal("send", *HERE, *headers, "hello")


@pytest.mark.parametrize("host", ["a\nb", os.fsdecode(b"\xff")])
@pytest.mark.parametrize("command", [("send", "--confirm", "hello"), ("listen", "--ack", "client")])
def test_a_host_that_connect_cannot_name(command: tuple[str, ...], host: str) -> None:
    said = refusal(*command, "--host", host, "--port", "1")
    assert said.startswith("Invalid value for '--host': host cannot be written in CONNECT")


@pytest.mark.parametrize(
    "command",
    [
        ("send", "--confirm", "hello", "--channel"),
        ("send", "--header", "a:b", "hello", "--channel"),
        ("send", "--protocol", "stomp", "hello", "--channel"),
        ("listen", "--ack", "client", "--listen"),
        ("listen", "--protocol", "stomp", "--listen"),
    ],
)
def test_a_channel_that_stomp_would_call_otherwise(command: tuple[str, ...]) -> None:
    """Without the slash the broker would take it for the name of a queue, and in the framed protocol for a topic's."""
    said = refusal(command[0], *HERE, *command[1:], "news")
    assert said.startswith(f"Invalid value for '{command[-1]}': channel 'news': ")


@pytest.mark.parametrize("command", [("send", "hello", "--channel"), ("listen", "--listen")])
def test_in_the_framed_protocol_every_name_is_a_channel(command: tuple[str, ...]) -> None:
    assert failure(command[0], *HERE, *command[1:], "news") == "cannot connect to 127.0.0.1:1: Connection refused"


def test_help_says_what_makes_a_command_speak_stomp() -> None:
    for command, options in (("send", ("--header", "--confirm")), ("listen", ("--ack",))):
        of_name = {option: parameter for parameter in main.commands[command].params for option in parameter.opts}
        for option in options:
            assert "speak STOMP" in str(getattr(of_name[option], "help", "")).replace("Speak", "speak"), option
        assert "In STOMP a channel's name begins with a slash" in " ".join(str(main.commands[command].help).split())


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("stomp://a..b", "cannot connect to a..b:61613: "),
        (f"stomp://{'b' * 70}", f"cannot connect to {'b' * 70}:61613: "),
    ],
)
def test_an_address_that_cannot_be_looked_up(address: str, why: str) -> None:
    assert failure("conform", address).startswith(why)


@pytest.mark.parametrize("address", [os.fsdecode(b"stomp://\xff"), "stomp://a\nb", "stomp://a\tb:61613"])
def test_an_address_that_is_not_one(address: str) -> None:
    said = refusal("conform", address)
    assert said.startswith("Invalid value for 'stomp://HOST:PORT': ")
    assert said.endswith(" has a character in it that cannot be printed; no host's name has one")


@pytest.mark.parametrize("option", ["--login", "--passcode", "--vhost", "--queue-prefix", "--topic-prefix"])
def test_what_is_sent_to_a_broker_is_utf8_on_one_line(option: str) -> None:
    address = "stomp://127.0.0.1:1"
    said = refusal("conform", address, option, NOT_UTF8)
    assert said == f"Invalid value for '{option}': 'a:\\udcff' cannot be written in UTF-8, as headers are"
    said = refusal("conform", address, option, "a\nb")
    assert said.endswith("no escapes, so a line end or a NUL cannot be sent")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("serve", "--stall-seconds-max", "0"), "it must be more than 0 seconds, not 0"),
        (("serve", "--stall-seconds-max", "-1"), "it must be more than 0 seconds, not -1"),
        (("serve", "--stall-seconds-max", "nan"), "'nan' is not a number of seconds, more than 0"),
        (("send", "--interval", "-1"), "'-1' is not a number of seconds, 0 or more"),
        (("bench", "--idle-seconds-max", "-1"), "it must be more than 0 seconds, not -1"),
    ],
)
def test_a_time_is_refused_for_what_is_wrong_with_it(arguments: tuple[str, ...], said: str) -> None:
    assert refusal(*arguments) == f"Invalid value for '{arguments[1]}': {said}"


@pytest.mark.parametrize(
    ("command", "variable", "name", "rest"),
    [
        ("send", "TRIO_BROKER_SEND_HEADERS", "headers", ["hello"]),
        ("conform", "TRIO_BROKER_CONFORM_ONLY", "only", ["stomp://127.0.0.1"]),
    ],
)
def test_in_the_environment_texts_stand_one_a_line(
    monkeypatch: pytest.MonkeyPatch, command: str, variable: str, name: str, rest: list[str]
) -> None:
    monkeypatch.setenv(variable, "a:b c\nd: e \n\n")
    group = click.Context(main, info_name="trio-broker", auto_envvar_prefix="TRIO_BROKER")
    context = main.commands[command].make_context(command, rest, parent=group)
    assert context.params[name] == ("a:b c", "d: e ")
    assert TEXT_A_LINE.split_envvar_value("") == []


async def test_messages_cannot_be_printed_where_there_is_no_standard_output() -> None:
    command = f"exec {sys.executable} -m trio_broker listen --port 1 >&-"
    async with running("sh", "-c", command) as listener:
        assert await listener.end() == 2
        assert listener.log == [
            "Error: standard output is closed, so messages cannot be printed (see trio-broker listen --help)"
        ]


async def test_a_listener_without_standard_error() -> None:
    async with broker() as (_, port):
        async with program("send", "--port", str(port), "--channel", "/queue/a", "hello") as sender:
            assert await sender.end() == 0
        command = f"-m trio_broker listen --port {port} --listen /queue/a --count 1 --format raw"
        async with running("sh", "-c", f"exec {sys.executable} {command} 2>&-") as listener:
            assert await listener.end() == 0
            assert listener.out == b"hello"


async def test_a_refusal_is_one_line_on_standard_error() -> None:
    async with program("send", *HERE, "--header", NOT_UTF8, "hello") as sender:
        assert await sender.end() == 2
        assert (sender.lines, len(sender.log)) == ([], 1)
