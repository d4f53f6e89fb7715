"""The seed's clients with our broker, and our clients with the seed's broker."""

import signal
import sys

import pytest

from tests.cli.processes import Running, broker, program, running

CLIENTS = "tests/peers/seed_clients.py"
SEED_BROKER = "tests/peers/seed_broker.py"
LISTENERS = {
    "ours": (sys.executable, "-m", "trio_broker", "listen"),
    "script": (sys.executable, "scripts/mq_client_listen.py"),
    "seed": (sys.executable, CLIENTS, "listen"),
}
SENDERS = {
    "ours": (sys.executable, "-m", "trio_broker", "send"),
    "script": (sys.executable, "scripts/mq_client_sender.py"),
    "seed": (sys.executable, CLIENTS, "send"),
}
SOCKET_NAME = r"\('127\.0\.0\.1', [0-9]+\)"
PAIRS = [("ours", "seed"), ("seed", "ours"), ("seed", "seed"), ("script", "script"), ("ours", "ours")]


async def received_by(listener: Running, count: int) -> list[str]:
    """Wait for so many messages and return them as they were printed."""
    identity = (await listener.line("Starting up ([0-9a-f]{8})"))[1]
    await listener.line(f"I am {SOCKET_NAME}")
    prefix = f"Received by {identity}: "
    await listener.until(lambda: sum(line.startswith(prefix) for line in listener.lines) >= count, f"{count} messages")
    return [line.removeprefix(prefix) for line in listener.lines if line.startswith(prefix)]


async def sender_identity(sender: Running) -> str:
    identity = (await sender.line("Starting up ([0-9a-f]{8})"))[1]
    await sender.line(f"I am {SOCKET_NAME}")
    return identity


@pytest.mark.parametrize(("listens", "sends"), PAIRS)
async def test_a_queue_alternates_and_everyone_ends_in_order(listens: str, sends: str) -> None:
    async with broker() as (server, port):
        listen = (*LISTENERS[listens], "--port", str(port), "--listen", "/queue/blah")
        async with running(*listen) as first, running(*listen) as second:
            await server.event("subscribed", 2, channel="/queue/blah")
            send = (*SENDERS[sends], "--port", str(port), "--channel", "/queue/blah", "--interval", "0.01")
            async with running(*send) as sender:
                identity = await sender_identity(sender)
                shares = [await received_by(first, 3), await received_by(second, 3)]
                server.signal()
                assert await server.end() == 0
                shares.sort()
                for number in range(3):
                    assert shares[0][number] == repr(f"Msg {2 * number} from {identity}".encode()[:20])
                    assert shares[1][number] == repr(f"Msg {2 * number + 1} from {identity}".encode()[:20])
                await sender.end()
                assert sender.lines[-1] == "Connection ended."
            for listener in (first, second):
                assert await listener.end() == 0
                assert listener.lines[-1] == "Server closed."


@pytest.mark.parametrize(("listens", "sends"), PAIRS)
async def test_a_topic_reaches_everyone(listens: str, sends: str) -> None:
    async with broker() as (server, port):
        listen = (*LISTENERS[listens], "--port", str(port))
        async with running(*listen) as first, running(*listen) as second:
            await server.event("subscribed", 2, channel="/topic/foo")
            async with running(*SENDERS[sends], "--port", str(port), "--interval", "0.01") as sender:
                identity = await sender_identity(sender)
                for listener in (first, second):
                    messages = (await received_by(listener, 4))[:4]
                    assert messages == [repr(f"Msg {number} from {identity}".encode()) for number in range(4)]
                sender.signal()
                assert await sender.end() == 0
                assert sender.lines[-1] == "Bye!"
            for listener in (first, second):
                listener.signal()
                assert await listener.end() == 0
                assert listener.lines[-1] == "Bye!"


@pytest.mark.parametrize(
    ("listens", "sends"), [("ours", "ours"), ("ours", "seed"), ("seed", "ours"), ("script", "script")]
)
async def test_with_the_seeds_broker(listens: str, sends: str) -> None:
    async with running(sys.executable, SEED_BROKER, "--port", "0") as server:
        port = (await server.line(r"Serving on 127\.0\.0\.1:([0-9]+)"))[1]
        async with running(*LISTENERS[listens], "--port", port) as listener:
            await server.line(r"Remote .* subscribed to b'/topic/foo'")
            send = (*SENDERS[sends], "--port", port, "--interval", "0.01", "--size", "30")
            async with running(*send) as sender:
                assert (await received_by(listener, 3))[:3] == [repr(b"X" * 20)] * 3
                sender.signal(signal.SIGINT)
                assert await sender.end() == 0
            server.signal()
            await listener.end()
            assert listener.lines[-1] in {"Server closed.", "Connection ended."}


async def test_our_clients_are_told_when_the_seeds_broker_dies() -> None:
    async with running(sys.executable, SEED_BROKER, "--port", "0") as server:
        port = (await server.line(r"Serving on 127\.0\.0\.1:([0-9]+)"))[1]
        async with (
            program("send", "--port", port, "--interval", "0.01") as sender,
            program("listen", "--port", port) as listener,
        ):
            await received_by(listener, 1)
            server.signal(signal.SIGKILL)
            assert await sender.end() == 1
            assert sender.lines[-1] == "Connection ended."
            await listener.end()
            assert "Connection ended." in listener.lines
