"""What a virtual socket has from its beginning: a family, options, a number; and what it refuses.

`sockets` makes sockets that connect out of it.
"""

from __future__ import annotations

import errno
import socket
import struct
import sys
from collections.abc import Callable
from socket import AddressFamily, SocketKind
from typing import TYPE_CHECKING, Any, Final, Self, final, overload

import trio

from trio_broker.explorer.addresses import os_error

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Buffer

__all__ = ["OneTask", "SocketBase", "refuse_flags"]

_FIRST_FILENO: Final = 2**30  # no process has so many files open: a call with one of these numbers fails
_LEVELS: Final = {
    "SO_": socket.SOL_SOCKET,
    "TCP_": socket.IPPROTO_TCP,
    "IP_": socket.IPPROTO_IP,
    "IPV6_": socket.IPPROTO_IPV6,
}
_NAMES: Final = (  # of what a program may set on a TCP socket, as far as this system knows it
    "SO_KEEPALIVE SO_LINGER SO_OOBINLINE SO_RCVBUF SO_RCVLOWAT SO_REUSEADDR SO_SNDBUF "
    "TCP_CORK TCP_DEFER_ACCEPT TCP_FASTOPEN TCP_KEEPCNT TCP_KEEPIDLE TCP_KEEPINTVL TCP_MAXSEG TCP_NODELAY "
    "TCP_NOTSENT_LOWAT TCP_QUICKACK TCP_SYNCNT TCP_USER_TIMEOUT "
    "IP_BIND_ADDRESS_NO_PORT IP_TOS IP_TTL IPV6_TCLASS IPV6_UNICAST_HOPS IPV6_V6ONLY"
)
_REMEMBERED: Final = {
    (level, getattr(socket, name))
    for name in _NAMES.split()
    for prefix, level in _LEVELS.items()
    if name.startswith(prefix) and hasattr(socket, name)
}
_LINGER: Final = struct.Struct("ii")


def _refused(name: str) -> Callable[..., Any]:
    def method(_self: object, *_arguments: object, **_options: object) -> Any:
        raise NotImplementedError(
            f"a virtual socket has no {name}(): it does bind, listen, accept, connect, send, recv, recv_into, "
            f"shutdown and close, for streams over IPv4 and IPv6"
        )

    return method


@final
class OneTask:
    """Where one task at a time may wait, as Trio has it for each direction of a socket."""

    def __init__(self, lot: trio.lowlevel.ParkingLot) -> None:
        self._lot = lot
        self._taken = False

    async def park(self) -> None:
        """Wait to be woken. Raises `trio.BusyResourceError` if another task waits here."""
        if self._taken:
            await trio.lowlevel.cancel_shielded_checkpoint()
            raise trio.BusyResourceError("another task is already reading / writing this socket")
        self._taken = True
        try:
            await self._lot.park()
        finally:
            self._taken = False


class SocketBase(trio.socket.SocketType):
    """The passive part of a virtual socket.

    Args:
        family: ``AF_INET`` or ``AF_INET6``.
        type: ``SOCK_STREAM``.
        proto: 0 or ``IPPROTO_TCP``.
        number: how many sockets of the network were made before it.

    Raises:
        NotImplementedError: it is to be of any other kind.
    """

    def __init__(self, family: int, type: int, proto: int, number: int) -> None:  # noqa: A002  Trio's name
        super().__init__()
        kind = type & ~(socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        if (
            family not in {socket.AF_INET, socket.AF_INET6}
            or kind != socket.SOCK_STREAM
            or proto not in {0, socket.IPPROTO_TCP}
        ):
            raise NotImplementedError(
                "virtual sockets are of the families AF_INET and AF_INET6, the type SOCK_STREAM and the protocol TCP, "
                f"not {family!r}, {type!r}, {proto!r}"
            )
        self._family = AddressFamily(family)
        self._proto = proto
        self._fileno = _FIRST_FILENO + number
        self._options: dict[tuple[int, int], int | bytes] = {}

    detach = _refused("detach")
    dup = _refused("dup")
    recvfrom = _refused("recvfrom")
    recvfrom_into = _refused("recvfrom_into")
    recvmsg = _refused("recvmsg")
    recvmsg_into = _refused("recvmsg_into")
    sendmsg = _refused("sendmsg")
    sendto = _refused("sendto")
    set_inheritable = _refused("set_inheritable")
    share = _refused("share")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def _sock(self) -> Self:
        """Itself. anyio asks the socket under a Trio socket, by this private name, for its addresses and options."""
        return self

    @property
    def family(self) -> AddressFamily:
        """``AF_INET`` or ``AF_INET6``."""
        return self._family

    @property
    def type(self) -> SocketKind:
        """Always ``SOCK_STREAM``."""
        return SocketKind.SOCK_STREAM

    @property
    def proto(self) -> int:
        """As it was asked for."""
        return self._proto

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._fileno == -1

    def fileno(self) -> int:
        """-1 when it is closed; else a number that no file of the process has."""
        return self._fileno

    def get_inheritable(self) -> bool:
        """No process inherits it."""
        return False

    @overload
    def setsockopt(self, level: int, optname: int, value: int | Buffer) -> None: ...

    @overload
    def setsockopt(self, level: int, optname: int, value: None, optlen: int) -> None: ...

    def setsockopt(self, level: int, optname: int, value: int | Buffer | None, optlen: int | None = None) -> None:
        """Remember an option of a TCP socket.

        Two have an effect: ``IPV6_V6ONLY``, and an ``SO_LINGER`` of no seconds, with which a close is a reset.

        Raises:
            OSError: ``ENOPROTOOPT``, an option that is not known here; ``EBADF``, the socket is closed.
        """
        self._refuse_if_closed()
        if (value is None) != (optlen is not None):
            raise TypeError("optlen is given if value is None, and only then")
        if (level, optname) not in _REMEMBERED:
            raise os_error(errno.ENOPROTOOPT)
        if value is None:
            self._options[level, optname] = bytes(optlen or 0)
        else:
            self._options[level, optname] = int(value) if isinstance(value, int) else bytes(value)

    @overload
    def getsockopt(self, level: int, optname: int) -> int: ...

    @overload
    def getsockopt(self, level: int, optname: int, buflen: int) -> bytes: ...

    def getsockopt(self, level: int, optname: int, buflen: int | None = None) -> int | bytes:
        """What was set, and 0 if nothing was; or what is asked about the socket itself.

        Raises:
            OSError: ``ENOPROTOOPT``, an option that is not known here; ``EBADF``, the socket is closed.
        """
        self._refuse_if_closed()
        known: int | bytes | None = self._known_option(optname) if level == socket.SOL_SOCKET else None
        if known is None:
            if (level, optname) not in _REMEMBERED:
                raise os_error(errno.ENOPROTOOPT)
            known = self._options.get((level, optname), 0)
        as_bytes = known if isinstance(known, bytes) else known.to_bytes(4, sys.byteorder, signed=True)
        return int.from_bytes(as_bytes[:4], sys.byteorder, signed=True) if buflen is None else as_bytes[:buflen]

    def _known_option(self, option: int) -> int | None:
        match option:
            case socket.SO_TYPE:
                return int(self.type)
            case socket.SO_DOMAIN:
                return int(self.family)
            case socket.SO_PROTOCOL:
                return socket.IPPROTO_TCP
            case _:
                return None

    @property
    def _lingers_not(self) -> bool:
        linger = self._options.get((socket.SOL_SOCKET, socket.SO_LINGER))
        if not isinstance(linger, bytes) or len(linger) < _LINGER.size:
            return False
        on, seconds = _LINGER.unpack_from(linger)
        return bool(on) and seconds == 0

    @property
    def _is_for_both_families(self) -> bool:
        only_6 = self._options.get((socket.IPPROTO_IPV6, socket.IPV6_V6ONLY), 0)
        return self.family == socket.AF_INET6 and not any(bytes(only_6) if isinstance(only_6, bytes) else [only_6])

    def _refuse_if_closed(self) -> None:
        if self.closed:
            raise os_error(errno.EBADF)


def refuse_flags(flags: int) -> None:
    """Raise `NotImplementedError` if there are any."""
    if flags:
        raise NotImplementedError(f"virtual sockets send and receive without flags, not with {flags:#x}")
