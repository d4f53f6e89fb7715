"""Sockets of the in-memory network, for programs that open their own.

Trio lets a program's sockets be made by somebody else, and its names be resolved by somebody else. After
`Network.install` both is this network, for the rest of the ``trio.run``: `trio.socket.socket` makes a `VirtualSocket`,
and so do `trio.open_tcp_stream`, `trio.open_tcp_listeners` and all that is built on them. The program is not changed,
and nothing leaves the process. A socket is told the errors that the operating system would tell it, so that
`trio.SocketStream` and `trio.SocketListener` make of them what they always make.

Faults happen as `network` says: at each ``send``, ``recv`` (and ``recv_into``), ``shutdown(SHUT_WR)``, ``accept`` and
``connect``. ``shutdown`` is synchronous, so ``SHORT`` does nothing there, and after ``STALL`` it returns, and the peer
never hears of it. To look up a host name is an operation too: ``EOF`` is a name that is not known, ``RESET`` a
temporary failure, ``SHORT`` gives way once more, ``STALL`` parks until cancelled. `addresses` says which there are.

What differs from Linux's sockets beyond that: to send to a peer that has closed fails at once, not only when its answer
has come; and a cancelled ``connect`` has connected nothing, where on a real network the peer may have seen a connection
that was closed at once.
"""

from __future__ import annotations

import errno
import os
import socket
import sys
from functools import partial
from typing import TYPE_CHECKING, Any, final

import trio

from trio_broker.explorer.addresses import Place, as_sockaddr, numeric_place, os_error
from trio_broker.explorer.faults import next_operation
from trio_broker.explorer.socket_base import OneTask, SocketBase, refuse_flags
from trio_broker.explorer.streams import NetworkStream, Parking, as_soon_as_possible

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from trio_broker.explorer.listeners import NetworkListener
    from trio_broker.explorer.network import Network

__all__ = ["VirtualSocket"]


@final
class VirtualSocket(SocketBase):
    """A TCP socket of a `Network`, as Trio's sockets are. Made by `trio.socket.socket` after `Network.install`.

    Methods do what they do on a Trio socket, and raise the same `OSError`; `trio.ClosedResourceError` if another task
    closes the socket while one waits, and `trio.BusyResourceError` if two would wait in one direction. What is not
    modelled raises `NotImplementedError`.

    Cancellation: each ``async`` method is atomic. If `trio.Cancelled` is raised, nothing was sent, taken, bound or
    connected; but a socket whose ``connect`` was cancelled is closed, as by Trio. Always a checkpoint.
    """

    def __init__(
        self,
        network: Network,
        family: int,
        type: int,  # noqa: A002  Trio's name
        proto: int,
        end: NetworkStream | None = None,
    ) -> None:
        super().__init__(family, type, proto, len(network._sockets))
        self._network = network
        self._place: Place | None = None  # where it is bound
        self._listener: NetworkListener | None = None
        self._connecting: trio.lowlevel.ParkingLot | None = None
        self._end: NetworkStream | None = None
        self._reading: Parking = OneTask(trio.lowlevel.ParkingLot())
        self._writing: Parking = self._reading
        self._reset_was_told = False
        self._did_shutdown_wr = False
        if end is not None:
            self._become(end)
        network._sockets.append(self)

    def _become(self, end: NetworkStream) -> None:
        self._end = end
        self._reading, self._writing = OneTask(end._receiving.changed), OneTask(end._sending.changed)

    def __repr__(self) -> str:
        state = "closed" if self.closed else "listening" if self._listener else "connected" if self._end else "open"
        return f"<VirtualSocket {self._sockname()}, {state}>"

    # -- addresses ---------------------------------------------------------------------------------------------------

    def getsockname(self) -> Any:
        self._refuse_if_closed()
        return self._sockname()

    def _sockname(self) -> Any:
        return as_sockaddr(self.family, self._end._local if self._end else self._place or ("", 0))

    def getpeername(self) -> Any:
        end = self._connected()
        if end._receiving.broken and not end._receiving.stalled:
            raise os_error(errno.ENOTCONN)
        return as_sockaddr(self.family, end._remote)

    async def bind(self, address: Any) -> None:
        place = await numeric_place(address, self.family, local=True)
        await trio.lowlevel.checkpoint()
        self._refuse_if_closed()
        if self._place or self._end:
            raise os_error(errno.EINVAL)
        self._bind(place)

    def _bind(self, place: Place) -> None:
        host, port = place
        if host == "::" and self._is_for_both_families:
            host = ""
        self._place = self._network._bind((host, port))

    # -- listening ---------------------------------------------------------------------------------------------------

    def listen(self, backlog: int = min(socket.SOMAXCONN, 128)) -> None:
        self._refuse_if_closed()
        if self._end or self._connecting:
            raise os_error(errno.EINVAL)
        if self._listener:
            return
        if self._place is None:
            self._bind(("0.0.0.0" if self.family == socket.AF_INET else "::", 0))
        assert self._place is not None
        self._listener = self._network._listen(self._place, backlog)
        self._reading = OneTask(self._listener._arrived)

    async def accept(self) -> tuple[VirtualSocket, Any]:
        if self.closed or self._listener is None:
            await trio.lowlevel.checkpoint()
            raise os_error(errno.EBADF if self.closed else errno.EINVAL)
        end = await self._listener._accept(self._reading)
        accepted = VirtualSocket(self._network, self.family, self.type, self.proto, end)
        return accepted, as_sockaddr(self.family, end._remote)

    # -- connecting --------------------------------------------------------------------------------------------------

    async def connect(self, address: Any) -> None:
        try:
            place = await numeric_place(address, self.family, local=False)
            await self._connect(place)
        except trio.Cancelled:
            self.close()
            raise

    async def _connect(self, place: Place) -> None:
        if self.closed or self._end or self._listener or self._connecting:
            await trio.lowlevel.checkpoint()
            self._refuse_if_closed()
            raise os_error(errno.EALREADY if self._connecting else errno.EISCONN)
        self._connecting = trio.lowlevel.ParkingLot()
        source = None
        if self._place is not None:
            host, port = self._place
            source = ("" if host in {"0.0.0.0", "::"} else host, port)
        try:
            end = await self._network._connect(place, source, self._connecting)
        except OSError as error:
            number = error.errno or 0
            message = f"Error connecting to {as_sockaddr(self.family, place)!r}: {os.strerror(number)}"
            raise OSError(number, message) from None
        finally:
            self._connecting = None
        self._become(end)
        if self.closed:
            end._close()
            raise trio.ClosedResourceError("another task closed this socket")

    # -- sending and receiving ---------------------------------------------------------------------------------------

    async def send(self, data: Buffer, flags: int = 0, /) -> int:
        refuse_flags(flags)
        with memoryview(data) as view, view.cast("B") as rest:
            end = self._end
            if self.closed or end is None or self._did_shutdown_wr:
                await trio.lowlevel.checkpoint()
                raise os_error(errno.EBADF if self.closed else errno.EPIPE)
            if not rest:
                await trio.lowlevel.checkpoint()
                return 0
            put = partial(end._put, rest)
            try:
                return await end._operation(end._sending, put, end._sending.write_bytes_max, self._writing)
            except trio.BrokenResourceError:
                raise self._broken(errno.EPIPE) from None
            except trio.ClosedResourceError:
                if self.closed:
                    raise
                raise os_error(errno.EPIPE) from None  # another task has ended this direction

    async def recv(self, buflen: int, flags: int = 0, /) -> bytes:
        refuse_flags(flags)
        if buflen < 0:
            raise ValueError("negative buffersize in recv")
        end = self._end
        if self.closed or end is None or buflen == 0:
            await trio.lowlevel.checkpoint()
            self._connected()
            return b""
        try:
            return await end._operation(end._receiving, end._take, min(buflen, sys.maxsize), self._reading)
        except trio.BrokenResourceError:
            if self._reset_was_told:
                return b""  # noqa: ASYNC910  the operation was a checkpoint, and Linux tells a reset once
            raise self._broken(errno.ECONNRESET) from None

    async def recv_into(self, buffer: Buffer, nbytes: int = 0, flags: int = 0) -> int:
        with memoryview(buffer) as view, view.cast("B") as room:
            if nbytes < 0:
                raise ValueError("negative buffersize in recv_into")
            if nbytes > len(room):
                raise ValueError("buffer too small for requested bytes")
            received = await self.recv(nbytes or len(room), flags)
            room[: len(received)] = received
            return len(received)

    async def wait_writable(self) -> None:
        if self.closed:
            raise ValueError("file descriptor cannot be a negative integer (-1)")
        if self._end is None or self._did_shutdown_wr:
            await trio.lowlevel.checkpoint()
            return
        await trio.lowlevel.checkpoint_if_cancelled()
        try:
            await as_soon_as_possible(self._end._has_room, self._writing)
        except trio.ClosedResourceError:
            if self.closed:
                raise

    def is_readable(self) -> bool:
        if self.closed:
            raise ValueError("file descriptor cannot be a negative integer (-1)")
        if self._listener is not None:
            return bool(self._listener._backlog)
        if self._end is None:
            return True
        pipe = self._end._receiving
        return not pipe.stalled and bool(pipe.waiting or pipe.ended or pipe.broken)

    def _connected(self) -> NetworkStream:
        self._refuse_if_closed()
        if self._end is None:
            raise os_error(errno.ENOTCONN)
        return self._end

    def _broken(self, number: int) -> OSError:
        """What a socket is told of a broken connection: of a reset once, unless the peer's end of data came before."""
        assert self._end is not None
        pipe = self._end._receiving
        if pipe.broken and not pipe.ended and not self._reset_was_told:
            self._reset_was_told = True
            return os_error(errno.ECONNRESET)
        return os_error(number)

    def _known_option(self, option: int) -> int | None:
        match option:
            case socket.SO_ACCEPTCONN:
                return int(self._listener is not None)
            case socket.SO_ERROR:
                return 0 if self._end is None else self._broken(0).errno
            case _:
                return super()._known_option(option)

    # -- the end -----------------------------------------------------------------------------------------------------

    @property
    def did_shutdown_SHUT_WR(self) -> bool:  # noqa: N802  Trio's name
        return self._did_shutdown_wr

    def shutdown(self, flag: int) -> None:
        self._refuse_if_closed()
        if flag not in {socket.SHUT_RD, socket.SHUT_WR, socket.SHUT_RDWR}:
            raise os_error(errno.EINVAL)
        end = self._connected()
        if flag != socket.SHUT_RD:
            fault = next_operation()
            if fault is not None:
                end._suffer(fault)
            if end._sending.broken and not end._sending.stalled:
                raise os_error(errno.ENOTCONN)
            end._put_eof()
            end._ended = self._did_shutdown_wr = True
        if flag != socket.SHUT_WR:
            end._receiving.ended = True
            end._receiving.deaf |= self._did_shutdown_wr  # nothing is expected any more: what comes is an error
            end._tell_both_ends()

    def close(self) -> None:
        if self.closed:
            return
        self._fileno = -1
        if self._listener is not None:
            self._listener._close()
        elif self._place is not None:
            self._network._places.pop(self._place)
        if self._connecting is not None:
            self._connecting.unpark_all()
        if self._end is not None:
            self._end._close(reset=self._lingers_not)
