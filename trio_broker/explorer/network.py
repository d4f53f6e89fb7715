"""A network in memory that is as unkind as a real one, and the same in every run.

`trio.testing.memory_stream_pair` takes all bytes at once, so a write never waits there and a frame is never torn: it
hides what an explorer looks for. Here buffers are finite, writes are short, a close with unread input resets the
connection, and a `Fault` may happen at each operation. There is no chance and no clock; tasks are woken in the order
in which they came.

What can be done at once is done at once, and then the task gives way, as with Trio's sockets: a peer may have answered
before `send_all` returns, and a cancellation that comes in between does not undo what was done.

Operations are each step of `send_all`, `receive_some` and `send_eof`; `accept` and `connect`. What faults do to them:

=========  =====================================  ================================  ===================================
fault      on a stream                            at ``accept``                     at ``connect``
=========  =====================================  ================================  ===================================
``EOF``    this end reads what has arrived, then  the accepted stream has this      connected, past the backlog; then
           ``b""``; what either end sends is      fault from its beginning          the other end closes at once
           lost, silently
``RESET``  both ends are broken; what was on its  ``OSError(EMFILE)``; who waits    `ConnectionRefusedError`
           way is lost                            in the backlog stays there
``SHORT``  one byte moves (`send_eof`: none);     the task gives way once more      the task gives way once more
           the task gives way once more
``STALL``  nothing moves any more; the tasks of   the accepted stream has this      parks until cancelled; nobody hears
           both ends park until cancelled, or     fault from its beginning          of it
           until they close their own end
=========  =====================================  ================================  ===================================

A program that opens its own sockets gets those of this network after `Network.install`; `sockets` says how they behave.

``EMFILE``, since `trio.serve_listeners` survives no other kind of error of ``accept`` than a lack of resources.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Final, final

import trio

from trio_broker.explorer.addresses import Place, Resolver, os_error, overlap, wildcard_of
from trio_broker.explorer.faults import Fault, next_operation
from trio_broker.explorer.listeners import NetworkListener
from trio_broker.explorer.sockets import VirtualSocket
from trio_broker.explorer.streams import BUFFER_BYTES, WRITE_BYTES_MAX, NetworkStream, stream_pair

__all__ = ["Network", "NetworkListener", "NetworkStream", "stream_pair"]

_BACKLOG_MAX: Final = 16
_FIRST_FREE_PORT: Final = 49_152
_LAST_PORT: Final = 65_535
_FIRST_SOURCE_PORT: Final = 32_768  # of those who connect without having chosen one


@final
class Network:
    """Listeners, those who connect to them, and a list of every stream there ever was.

    Args:
        buffer_bytes: of each connection and direction; see `stream_pair`.
        write_bytes_max: of each stream; see `stream_pair`.
        backlog_max: how many connections wait for a listener to accept them before `connect` has to; at least 1.
    """

    __slots__ = ("_backlog_max", "_pair", "_places", "_sockets", "_streams")

    def __init__(
        self,
        *,
        buffer_bytes: int = BUFFER_BYTES,
        write_bytes_max: int = WRITE_BYTES_MAX,
        backlog_max: int = _BACKLOG_MAX,
    ) -> None:
        if min(buffer_bytes, write_bytes_max, backlog_max) < 1:
            raise ValueError("a buffer, a write and a backlog must hold at least one")
        self._pair = partial(stream_pair, buffer_bytes=buffer_bytes, write_bytes_max=write_bytes_max)
        self._backlog_max = backlog_max
        self._places: dict[Place, NetworkListener | None] = {}  # None: a socket is bound there and does not listen
        self._streams: list[NetworkStream] = []
        self._sockets: list[VirtualSocket] = []

    @property
    def streams(self) -> tuple[NetworkStream, ...]:
        """Both ends of every connection ever made, in order; of each, first the end that connected.

        A socket's end is here too, as what is under the socket.
        """
        return tuple(self._streams)

    @property
    def open_streams(self) -> tuple[NetworkStream, ...]:
        """Those of `streams` that were not closed. At the end of a scenario there should be none."""
        return tuple(stream for stream in self._streams if not stream.closed)

    @property
    def open_listeners(self) -> tuple[NetworkListener, ...]:
        """The listeners that were not closed, those of sockets too, in the order in which their ports were taken."""
        return tuple(listener for listener in self._places.values() if listener is not None)

    @property
    def open_sockets(self) -> tuple[VirtualSocket, ...]:
        """The virtual sockets that were not closed, in order. A socket that was never connected is in no other list."""
        return tuple(socket for socket in self._sockets if not socket.closed)

    def install(self, names: Mapping[str, Sequence[str]] = MappingProxyType({})) -> None:
        """Have every socket that Trio makes from here on, in this ``trio.run``, be one of this network. Synchronous.

        What that means stands at the top of `sockets`.

        Args:
            names: addresses of host names, in order; a name without any does not resolve. All other names are
                127.0.0.1 and ::1, but those in ``.invalid``, which do not resolve.

        Raises:
            RuntimeError: it was not called from within a ``trio.run``.
        """
        trio.socket.set_custom_hostname_resolver(Resolver(names))
        trio.socket.set_custom_socket_factory(_SocketFactory(self))

    def listen(self, port: int = 0) -> NetworkListener:
        """Listen to a port; 0 for the first free one. Raises ``OSError(EADDRINUSE)`` if it is taken. Synchronous."""
        return self._listen(self._bind(("", port)), self._backlog_max)

    def _bind(self, place: Place) -> Place:
        host, port = place
        if port == 0:
            taken = {taken for _, taken in self._places}
            free = (port for port in range(_FIRST_FREE_PORT, _LAST_PORT + 1) if port not in taken)
            port = next(free, 0)
        if port == 0 or any(overlap((host, port), other) for other in self._places):
            raise os_error(errno.EADDRINUSE)
        self._places[host, port] = None
        return host, port

    def _listen(self, place: Place, backlog: int) -> NetworkListener:
        listener = NetworkListener(place, max(1, min(backlog, self._backlog_max)), self._places)
        self._places[place] = listener
        return listener

    def _listener_at(self, place: Place) -> NetworkListener | None:
        host, port = place
        if not host:
            return next((listener for listener in self.open_listeners if listener.port == port), None)
        hosts = (host, wildcard_of(host), "")
        return next((found for host in hosts if (found := self._places.get((host, port)))), None)

    async def connect(self, port: int) -> NetworkStream:
        """Connect to a listener. Waits while its backlog is full, not for it to accept. The caller must close it.

        Where several sockets listen to the port, at different addresses, it is the one that has taken it first.

        Raises:
            ConnectionRefusedError: nobody listens there, or the listener was closed while this waited.

        Cancellation: atomic. If `trio.Cancelled` is raised, nothing was connected. Always a checkpoint.
        """
        return await self._connect(("", port), None, trio.lowlevel.ParkingLot())

    async def _connect(self, to: Place, source: Place | None, parking: trio.lowlevel.ParkingLot) -> NetworkStream:
        """Connect; whoever unparks the task raises `trio.ClosedResourceError` in it."""
        await trio.lowlevel.checkpoint_if_cancelled()
        fault = next_operation()
        if fault is Fault.STALL:
            await parking.park()
            raise trio.ClosedResourceError("the socket was closed while it waited to be connected")
        listener = self._listener_at(to)
        if listener is None or fault is Fault.RESET:
            await trio.lowlevel.cancel_shielded_checkpoint()
            raise os_error(errno.ECONNREFUSED)
        if fault is not Fault.EOF:
            await listener._wait_for_room(parking)
        ours, theirs = self._new_connection(to, source)
        if fault is Fault.EOF:
            theirs._close()
        else:
            listener._arrive(theirs)
        await trio.lowlevel.cancel_shielded_checkpoint()
        if fault is Fault.SHORT:
            await trio.lowlevel.cancel_shielded_checkpoint()
        return ours

    def _new_connection(self, to: Place, source: Place | None) -> tuple[NetworkStream, NetworkStream]:
        ours, theirs = self._pair()
        number = len(self._streams) // 2 + 1
        host, port = to
        ours._name, theirs._name = f"{number} to port {port}", f"{number} at port {port}"
        source_host, source_port = source or ("", 0)
        ours._local = theirs._remote = (
            source_host or ("::1" if ":" in host else "127.0.0.1"),
            source_port or _FIRST_SOURCE_PORT + number % (_FIRST_FREE_PORT - _FIRST_SOURCE_PORT),
        )
        ours._remote = theirs._local = (host or "127.0.0.1", port)
        self._streams += (ours, theirs)
        return ours, theirs


@final
class _SocketFactory(trio.abc.SocketFactory):
    """Makes the sockets of one network."""

    def __init__(self, network: Network) -> None:
        self._network = network

    def socket(
        self,
        family: int = socket.AF_INET,
        type: int = socket.SOCK_STREAM,  # noqa: A002  Trio's name
        proto: int = 0,
    ) -> VirtualSocket:
        """A new one. Raises `NotImplementedError` if it is to be of a kind that is not modelled."""
        return VirtualSocket(self._network, family, type, proto)
