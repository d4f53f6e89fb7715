"""How bytes come and go: plain TCP the fast way, any Trio stream the general way.

`Transport` is an internal protocol, not a `trio.abc.Stream`: ``send_nowait`` tries the socket at once and ``send``
waits only when the socket would block, so a write that need not wait is one system call and nothing else.
On plain TCP a transport also knows how many bytes have left, to the byte, whatever interrupts it.
"""

from __future__ import annotations

import socket
import struct
import sys
from contextlib import nullcontext, suppress
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol, final

import trio

from trio_broker.limits import Limits

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from trio_broker.server.poller import Poller

if sys.platform == "linux":
    import fcntl
    import termios

__all__ = ["StreamTransport", "TcpTransport", "Transport", "open_transport"]

_GROWTH: Final = 4
"""A read that came back full makes the next one this much larger; one that used less than such a share, smaller."""

_PIECES: Final = 4
"""A general stream is given a share of ``stall_bytes_min`` at once: of a write that is cut off whole pieces count as
sent, and within a piece no movement can be seen. By default a piece is 16 KiB, a record of TLS."""


class Transport(Protocol):
    """One peer's bytes. At any time at most one receives, and one sends."""

    peer: str
    """The peer's address, for people."""

    slack_bytes: int
    """How many bytes may have left that nothing tells of: 0 on plain TCP."""

    async def feed(self, digest: Callable[[bytes], bool]) -> None:
        """Give ``digest`` what comes, ``b""`` at the end of the stream, until it returns False.

        On plain TCP it may be called in another task than this (see `Poller`); what it raises is raised here.

        Raises:
            trio.BrokenResourceError: the connection is broken.

        Cancellation: atomic. What was taken from the stream was given to ``digest``. Always a checkpoint.
        """
        ...

    def read_more(self, read_bytes: int) -> None:
        """A read of this size was for many channels. Where it was full the next one may be longer: what is shared by
        the messages of a batch is shared by more of them then."""
        ...

    def send_nowait(self, data: bytes | memoryview) -> int:
        """Send what can be sent without waiting; return how many bytes left, perhaps none.

        Raises:
            trio.BrokenResourceError: the connection is broken.
        """
        ...

    def gather_nowait(self, parts: Sequence[bytes | memoryview]) -> int:
        """`send_nowait` of all parts, one after the other, without joining them. At most ``IOV_MAX`` parts."""
        ...

    async def send(self, data: memoryview) -> int:
        """Wait until something can be sent, send it, and return how many bytes left: at least one.

        Raises:
            trio.BrokenResourceError: the connection is broken.

        Cancellation: on plain TCP atomic. On a general stream a part may have left, of which nothing is known.
        """
        ...

    def watch_for_hang_up(self, act: Callable[[], None]) -> AbstractContextManager[None]:
        """For the length of a block, in which nobody receives, have ``act`` called once when the peer has closed its
        side or is gone, if that can be told without reading: on plain TCP, where there is a poller."""
        ...

    def unsent_bytes(self) -> int:
        """How many bytes that were sent the system still holds because the peer does not take them; 0 if unknown."""
        ...

    async def finish(self, linger_seconds: float) -> None:
        """Send the end of the stream, and see to it that closing does not reset what the peer has yet to read.

        A reset happens where input is left unread. So if there is any it is read and thrown away, up to the peer's
        own end of stream, for at most ``linger_seconds``. If there is none this takes no time.

        Cancellation: stops the lingering; the transport may only be closed then.
        """
        ...

    async def aclose(self) -> None:
        """Close at once.

        Cancellation: cleanup. Closed whatever is raised.
        """
        ...


@final
class TcpTransport:
    """Plain TCP, on the socket itself. Takes the stream's socket over: the stream is of no use afterwards.

    Args:
        stream: the stream.
        limits: ``read_bytes_min`` and ``read_bytes_max`` are used.
        poller: what waits for the socket; None to wait here.
    """

    __slots__ = ("_poller", "_read_bytes", "_read_bytes_max", "_read_bytes_min", "_socket", "peer", "slack_bytes")

    def __init__(self, stream: trio.SocketStream, limits: Limits, poller: Poller | None = None) -> None:
        self._poller = poller
        self._socket = socket.socket(fileno=stream.socket.detach())
        self._socket.setblocking(False)
        self.slack_bytes = 0
        self._read_bytes_min = limits.read_bytes_min
        self._read_bytes_max = limits.read_bytes_max
        self._read_bytes = limits.read_bytes_min  # size of the next read: small for small talkers
        try:
            self.peer = _address(self._socket.getpeername())
        except OSError:  # it is gone already; the first read will say so
            self.peer = "unknown"

    async def feed(self, digest: Callable[[bytes], bool]) -> None:
        if self._poller is not None:
            await self._poller.watch(self._socket, partial(self._feed_some, digest))
            return
        while True:
            await trio.lowlevel.wait_readable(self._socket)
            if not self._feed_some(digest):
                return

    def read_more(self, read_bytes: int) -> None:
        if read_bytes >= self._read_bytes_max:
            self._read_bytes = self._read_bytes_max * _GROWTH

    def send_nowait(self, data: bytes | memoryview) -> int:
        try:
            return self._socket.send(data)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise trio.BrokenResourceError(f"sending failed: {error}") from error

    def gather_nowait(self, parts: Sequence[bytes | memoryview]) -> int:
        if sys.platform == "win32":
            return self.send_nowait(b"".join(parts))
        try:
            return self._socket.sendmsg(parts)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise trio.BrokenResourceError(f"sending failed: {error}") from error

    async def send(self, data: memoryview) -> int:
        sent = 0
        while not sent:
            await trio.lowlevel.wait_writable(self._socket)
            sent = self.send_nowait(data)
        return sent

    def watch_for_hang_up(self, act: Callable[[], None]) -> AbstractContextManager[None]:
        return nullcontext() if self._poller is None else self._poller.watch_for_hang_up(self._socket, act)

    def unsent_bytes(self) -> int:
        if sys.platform != "linux":
            return 0
        try:
            return int(struct.unpack("i", fcntl.ioctl(self._socket, termios.TIOCOUTQ, bytes(4)))[0])
        except OSError:
            return 0

    async def finish(self, linger_seconds: float) -> None:
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError:  # the peer is gone: there is nobody to be polite to
            return
        try:
            if self._receive_nowait() is None:  # nothing unread: closing now sends no reset
                return
            with trio.move_on_after(linger_seconds):
                while self._receive_nowait() != b"":
                    await trio.lowlevel.wait_readable(self._socket)
        except trio.BrokenResourceError:
            return

    async def aclose(self) -> None:
        if self._socket.fileno() != -1:
            trio.lowlevel.notify_closing(self._socket)
            self._socket.close()

    def _feed_some(self, digest: Callable[[bytes], bool]) -> bool:
        """Read once, and have it digested."""
        data = self._receive_nowait()
        if data is None:
            return True
        count = len(data)
        if count == self._read_bytes:
            self._read_bytes = min(self._read_bytes * _GROWTH, self._read_bytes_max)
        elif count * _GROWTH < self._read_bytes:
            self._read_bytes = max(self._read_bytes // _GROWTH, self._read_bytes_min)
        return digest(data)

    def _receive_nowait(self) -> bytes | None:
        """Some bytes, ``b""`` at the end of the stream, or None if there is nothing now."""
        try:
            return self._socket.recv(self._read_bytes)
        except BlockingIOError:
            return None
        except OSError as error:
            raise trio.BrokenResourceError(f"receiving failed: {error}") from error


@final
class StreamTransport:
    """Any `trio.abc.Stream`: TLS, memory, Unix sockets.

    Args:
        stream: the stream; this transport closes it.
        limits: ``read_bytes_max`` and ``stall_bytes_min`` are used.
        peer: what to call the peer.
    """

    __slots__ = ("_read_bytes", "_stream", "peer", "slack_bytes")

    def __init__(self, stream: trio.abc.Stream, limits: Limits, peer: str = "stream") -> None:
        self._stream = stream
        self._read_bytes = limits.read_bytes_max
        self.slack_bytes = max(1, limits.stall_bytes_min // _PIECES)  # of a piece that is under way
        self.peer = peer

    async def feed(self, digest: Callable[[bytes], bool]) -> None:
        while digest(bytes(await self._stream.receive_some(self._read_bytes))):
            pass

    def read_more(self, read_bytes: int) -> None:
        """All reads are of one size."""

    def send_nowait(self, data: bytes | memoryview) -> int:
        return 0

    def gather_nowait(self, parts: Sequence[bytes | memoryview]) -> int:
        return 0

    async def send(self, data: memoryview) -> int:
        piece = data[: self.slack_bytes]
        await self._stream.send_all(piece)
        return len(piece)

    def watch_for_hang_up(self, act: Callable[[], None]) -> AbstractContextManager[None]:
        return nullcontext()

    def unsent_bytes(self) -> int:
        return 0

    async def finish(self, linger_seconds: float) -> None:
        with trio.move_on_after(linger_seconds):
            try:
                if isinstance(self._stream, trio.abc.HalfCloseableStream):
                    await self._stream.send_eof()
                await self._stream.aclose()
            except (trio.BrokenResourceError, trio.ClosedResourceError, OSError):
                return

    async def aclose(self) -> None:
        await trio.aclose_forcefully(self._stream)


def open_transport(stream: trio.abc.Stream, limits: Limits, poller: Poller | None = None) -> Transport:
    """The fast transport for a plain TCP stream, the general one for every other."""
    if isinstance(stream, trio.SocketStream) and stream.socket.family in {socket.AF_INET, socket.AF_INET6}:
        with suppress(NotImplementedError):  # by a socket without a descriptor: see trio.abc.SocketFactory
            return TcpTransport(stream, limits, poller)
    return StreamTransport(stream, limits)


def _address(name: object) -> str:
    """A socket's address as people write it."""
    match name:
        case (str(host), int(port), *_):
            return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        case _:
            return str(name)
