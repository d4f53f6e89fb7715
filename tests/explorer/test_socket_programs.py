"""Unmodified programs on virtual sockets: servers, TLS, and an exploration that finds what is wrong with them."""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable
from functools import partial

import trio
from trio.testing import open_stream_to_socket_listener

from tests.explorer.helpers import failing, holding
from tests.explorer.socket_helpers import left_open, read_to_the_end
from trio_broker.explorer import afterwards
from trio_broker.explorer.network import Network

# -- the same on real sockets -----------------------------------------------------------------------------------------


async def test_serve_tcp(either: None) -> None:
    async def echo(stream: trio.SocketStream) -> None:
        async with stream:
            await stream.send_all(await read_to_the_end(stream))

    async with trio.open_nursery() as nursery:
        listeners: list[trio.SocketListener] = await nursery.start(partial(trio.serve_tcp, echo, 0, host="127.0.0.1"))
        stream = await open_stream_to_socket_listener(listeners[0])
        async with stream:
            await stream.send_all(bytes(range(200)))
            await stream.send_eof()
            assert await read_to_the_end(stream) == bytes(range(200))
        nursery.cancel_scope.cancel()
    assert listeners[0].socket.fileno() == -1


async def test_tls_over_it(either: None) -> None:
    """With a cipher that needs no certificate, so that none is needed here."""
    contexts = {side: ssl.SSLContext(getattr(ssl, f"PROTOCOL_TLS_{side}")) for side in ("CLIENT", "SERVER")}
    contexts["CLIENT"].check_hostname = False
    contexts["CLIENT"].verify_mode = ssl.CERT_NONE
    for context in contexts.values():
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers("aNULL:@SECLEVEL=0")

    async def answer(stream: trio.SSLStream[trio.SocketStream]) -> None:
        async with stream:
            await stream.send_all(bytes(reversed(await stream.receive_some())))

    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    tls_listener = trio.SSLListener(listener, contexts["SERVER"])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, answer, [tls_listener])
        plain = await open_stream_to_socket_listener(listener)
        async with trio.SSLStream(plain, contexts["CLIENT"], server_hostname="here") as stream:
            await stream.send_all(b"abc")
            assert await read_to_the_end(stream) == b"cba"
        nursery.cancel_scope.cancel()


# -- explored ---------------------------------------------------------------------------------------------------------


MESSAGE = b"one message that is longer than one write, since a write moves no more than 64 bytes\n"


async def _echo(stream: trio.SocketStream) -> None:
    """A server of one line, that survives its peers."""
    async with stream:
        received = b""
        try:
            while not received.endswith(b"\n"):
                data = await stream.receive_some()
                if not data:
                    return
                received += data
            await stream.send_all(received)
        except trio.BrokenResourceError:
            pass


async def _ask(line: bytes) -> bytes:
    """An unmodified program's client; None of what it gets is not whole."""
    async with await trio.open_tcp_stream("127.0.0.1", 7) as stream:
        await stream.send_all(line)
        return await read_to_the_end(stream)


async def _conversation(ask: Callable[[bytes], Awaitable[bytes]], whole: Callable[[bytes], bool]) -> None:
    network = Network()
    network.install()
    answers: list[bytes] = []

    async def check() -> None:
        await trio.lowlevel.checkpoint()
        assert left_open(network) == []
        assert all(map(whole, answers)), "a partial line was taken for an answer"

    afterwards(check)
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(trio.serve_tcp, _echo, 7, host="127.0.0.1"))
        with trio.move_on_after(60):
            try:
                answers.append(await ask(MESSAGE))
            except (OSError, trio.BrokenResourceError):
                pass
        nursery.cancel_scope.cancel()


async def _careful_ask(line: bytes) -> bytes:
    answer = await _ask(line)
    if not answer.endswith(b"\n"):
        raise trio.BrokenResourceError("the answer ended early")
    return answer


async def careful() -> None:
    """Only what is whole counts."""
    await _conversation(_careful_ask, MESSAGE.__eq__)


async def careless() -> None:
    """The bug: the end of what was sent is taken for the end of the answer."""
    await _conversation(_ask, MESSAGE.__eq__)


async def leaky() -> None:
    """The bug: a stream is left open if it breaks."""

    async def ask(line: bytes) -> bytes:
        stream = await trio.open_tcp_stream("127.0.0.1", 7)
        await stream.send_all(line)
        answer = await read_to_the_end(stream)
        await stream.aclose()
        if not answer.endswith(b"\n"):
            raise trio.BrokenResourceError("the answer ended early")
        return answer

    await _conversation(ask, MESSAGE.__eq__)


def test_an_unmodified_program_is_explored() -> None:
    result = holding(careful, turns=False)
    assert result.runs["fault"] > 20


def test_a_partial_answer_is_found() -> None:
    result = failing(careless, axis="fault", match="a partial line", turns=False, interrupts=False, double=False)
    assert {failure.token.rpartition(":")[2] for failure in result.failures} <= {"eof", "reset", "short", "stall"}


def test_a_socket_that_stays_open_is_found() -> None:
    failing(leaky, axis="cancel", failures_max=1, turns=False, double=False)
