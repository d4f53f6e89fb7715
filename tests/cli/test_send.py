import json
import signal

from tests.cli.processes import Running, broker, program


async def received(listener: Running, count: int) -> list[str]:
    """Wait for the end of a listener in JSON and return what it got."""
    assert await listener.end() == 0
    assert len(listener.lines) == count
    return [json.loads(line)["text"] for line in listener.lines]


def listener_of(count: int, port: int, channel: str = "/topic/foo") -> tuple[str, ...]:
    return ("listen", "--format", "json", "--count", str(count), "--port", str(port), "--listen", channel)


async def test_count_sends_so_many_numbered_messages() -> None:
    async with broker() as (server, port), program(*listener_of(3, port)) as listener:
        await server.event("subscribed", channel="/topic/foo")
        async with program("send", "--port", str(port), "--count", "3", "--interval", "0") as sender:
            assert await sender.end() == 0
            identity = (await sender.line("Starting up ([0-9a-f]{8})"))[1]
            assert len(sender.lines) == 2
            assert sender.lines[1].startswith("I am ('127.0.0.1', ")
            assert sender.log == []
        assert await received(listener, 3) == [f"Msg {number} from {identity}" for number in range(3)]


async def test_size_sends_so_many_x() -> None:
    async with broker() as (server, port), program(*listener_of(2, port)) as listener:
        await server.event("subscribed", channel="/topic/foo")
        async with program("send", "--port", str(port), "--count", "2", "--interval", "0", "--size", "1KiB") as sender:
            assert await sender.end() == 0
        assert await received(listener, 2) == ["X" * 1024] * 2


async def test_messages_are_sent_once_each_and_repeated_for_a_count() -> None:
    messages = ("hello", "", "grün")
    async with broker() as (server, port), program(*listener_of(8, port)) as listener:
        await server.event("subscribed", channel="/topic/foo")
        async with program("send", "--port", str(port), *messages) as sender:
            assert await sender.end() == 0
        async with program("send", "--port", str(port), "--count", "5", *messages) as sender:
            assert await sender.end() == 0
        assert await received(listener, 8) == [*messages, *messages, *messages[:2]]


async def test_the_lines_of_standard_input_are_sent_as_they_come() -> None:
    async with broker() as (server, port), program(*listener_of(5, port)) as listener:
        await server.event("subscribed", channel="/topic/foo")
        async with program("send", "--port", str(port), "-") as sender:
            await sender.type(b"one\ntw")
            await listener.until(lambda: len(listener.lines) == 1, "the first line")
            await sender.type(b"o\n\r\n\nlast", end=True)
            assert await sender.end() == 0
        assert await received(listener, 5) == ["one", "two", "\r", "", "last"]


async def test_ctrl_c_while_standard_input_is_silent() -> None:
    async with broker() as (server, port), program("send", "--port", str(port), "-") as sender:
        await server.event("subscribed", channel="/null")
        await sender.line("I am .*")
        sender.signal()
        assert await sender.end() == 0
        assert sender.lines[-1] == "Bye!"
        assert sender.log == []


async def test_a_line_that_is_too_long_is_refused_after_the_lines_before_it() -> None:
    limit = ("--frame-bytes-max", "10")
    async with broker() as (server, port), program(*listener_of(1, port)) as listener:
        await server.event("subscribed", channel="/topic/foo")
        async with program("send", "--port", str(port), *limit, "-") as sender:
            await sender.type(b"short\n" + b"x" * 11 + b"\nmore\n")
            assert await sender.end() == 1
            assert sender.log == ["Error: a payload of 11 bytes; at most 10 are allowed"]
        assert await received(listener, 1) == ["short"]


async def test_ctrl_c_loses_nothing_that_was_handed_over() -> None:
    async with broker() as (server, port), program("listen", "--format", "json", "--port", str(port)) as listener:
        await server.event("subscribed", channel="/topic/foo")
        async with program("send", "--port", str(port), "--interval", "0", "--size", "10KiB") as sender:
            await listener.until(lambda: len(listener.lines) > 100, "messages")
            sender.signal()
            assert await sender.end() == 0
            assert sender.lines[-1] == "Bye!"
            assert sender.log == []
        await server.event("closed")
        # A torn frame would have been told as "disconnected".
        assert {record["event"] for record in server.records} == {"subscribed", "closed"}


async def test_a_broker_that_ends_ends_the_sender() -> None:
    async with broker() as (server, port), program("send", "--port", str(port), "--interval", "0.01") as sender:
        await server.event("subscribed", channel="/null")
        server.signal()
        assert await server.end() == 0
        assert await sender.end() == 1
        assert sender.lines[-1] == "Connection ended."
        assert len(sender.log) == 1
        assert sender.log[0].startswith(f"Error: localhost:{port}: ")


async def test_the_last_messages_may_take_their_time_and_a_second_signal_ends_the_waiting() -> None:
    # A queue without consumers whose backlog is full takes nothing more.
    async with broker("--backlog-bytes-max", "1KiB", "--publish-seconds-max", "1e6") as (server, port):
        command = ("send", "--port", str(port), "--channel", "/queue/full", "--interval", "0", "--size", "1MiB")
        async with program(*command, "--count", "12") as sender:
            await server.event("subscribed", channel="/null")
            await sender.line("I am .*")
            sender.signal(signal.SIGINT)
            sender.signal(signal.SIGTERM)
            assert await sender.end() == 1
            assert sender.lines[-1] == "Bye!"
            assert sender.log == ["Error: stopped before all was sent that had been handed over"]
