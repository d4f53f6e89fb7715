"""Host names and addresses as the in-memory network has them.

- Each address is one of this network, and each host name is 127.0.0.1 and then ::1, unless `Network.install` was told
  otherwise. A socket listens to one address, or to all of its family at ``0.0.0.0`` or ``::``; one at ``::`` without
  ``IPV6_V6ONLY`` listens to those of both. So does a `Network.listen`, and `Network.connect` reaches all of them.
- Port 0 is the first port from 49152 on to which no socket is bound at any address. As on a real system,
  ``open_tcp_listeners(port, host=None)`` makes two listeners, IPv4 first, and with port 0 two different ports.
- A port is taken while a socket is bound to it, and free as soon as that is closed, whatever ``SO_REUSEADDR`` says.
- Who connects has the address 127.0.0.1 or ::1, and if not bound a port from 32769 on, by the number of the connection.

A *place* is where a socket is bound or listens: a host and a port. The empty host stands for every address of both
families, as a socket has it that is bound to ``::`` and not restricted to IPv6.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, TypeAlias, final

import trio

from trio_broker.explorer.faults import Fault, next_operation

__all__ = ["Place", "Resolver", "as_sockaddr", "numeric_place", "os_error", "overlap", "wildcard_of"]

Place: TypeAlias = tuple[str, int]

_EVERYWHERE: Final = {"", "0.0.0.0", "::"}
_THIS_MACHINE: Final = ("127.0.0.1", "::1")


def os_error(number: int) -> OSError:
    """The error that the operating system would raise."""
    return OSError(number, os.strerror(number))


def wildcard_of(host: str) -> str:
    """The host that stands for every address of the family of this one."""
    return "::" if ":" in host else "0.0.0.0"


def overlap(one: Place, other: Place) -> bool:
    """Whether two sockets cannot be bound to these places at once."""
    (host, port), (other_host, other_port) = one, other
    if port != other_port:
        return False
    if host == other_host or not host or not other_host:
        return True
    everywhere = wildcard_of(host)
    return everywhere == wildcard_of(other_host) and everywhere in {host, other_host}


async def numeric_place(address: Any, family: int, *, local: bool) -> Place:
    """The place that an address, as ``bind`` and ``connect`` take it, stands for, with names resolved.

    Args:
        address: ``(host, port)``, and for IPv6 also the longer forms.
        family: of the socket.
        local: whether this is to be bound. An empty host is then every address, and else this machine.

    Raises: as a real Trio socket: `ValueError`, `OverflowError` and `socket.gaierror`.

    Cancellation: atomic; it changes nothing. No checkpoint if the host is an address.
    """
    sizes = {2} if family == socket.AF_INET else {2, 3, 4}
    if not isinstance(address, tuple) or len(address) not in sizes:
        expected = "(host, port)" if family == socket.AF_INET else "(host, port, [flowinfo, [scopeid]])"
        raise ValueError(f"address should be a {expected} tuple")
    host, port, *_ = address
    if isinstance(port, int):
        with suppress(OSError, TypeError):
            host = socket.inet_ntop(family, socket.inet_pton(family, host))  # in one spelling
            return _checked(host, port, local=local)  # noqa: ASYNC910  who calls it has a checkpoint of his own
    flags = socket.AI_PASSIVE if local else 0
    entries = await trio.socket.getaddrinfo(host or None, port, family, socket.SOCK_STREAM, 0, flags)
    host, port, *_ = entries[0][4]
    return _checked(str(host), int(port), local=local)


def _checked(host: str, port: int, *, local: bool) -> Place:
    if not 0 <= port <= 0xFFFF:
        raise OverflowError("port must be 0-65535.")
    if not local and host in _EVERYWHERE:  # as on Linux, a connection to every address is one to this machine
        host = _THIS_MACHINE[":" in host]
    return host, port


def as_sockaddr(family: int, place: Place) -> tuple[str, int] | tuple[str, int, int, int]:
    """A place as a socket of this family gives it to a program."""
    host, port = place
    if family == socket.AF_INET:
        return host or "0.0.0.0", port
    if host and ":" not in host:
        host = f"::ffff:{host}"
    return host or "::", port, 0, 0


@final
class Resolver(trio.abc.HostnameResolver):
    """Every host name is this machine, at 127.0.0.1 and then ::1, but for those that a scenario gives addresses.

    What is an address already stays it; Trio does not even ask, unless the port is a name.

    Args:
        names: addresses of host names, in order; a name without any does not resolve. Nor does one in ``.invalid``.
    """

    def __init__(self, names: Mapping[str, Sequence[str]]) -> None:
        self._names: Final = {name.lower(): tuple(addresses) for name, addresses in names.items()}

    async def getaddrinfo(
        self,
        host: bytes | None,
        port: bytes | str | int | None,
        family: int = 0,
        type: int = 0,  # noqa: A002  Trio's name
        proto: int = 0,
        flags: int = 0,
    ) -> list[Any]:
        """Look a name up. An operation at which a fault can happen.

        Raises: `socket.gaierror` if it does not resolve.

        Cancellation: atomic; it changes nothing. Always a checkpoint.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        fault = next_operation()
        if fault is Fault.STALL:
            await trio.sleep_forever()
        await trio.lowlevel.cancel_shielded_checkpoint()
        if fault is Fault.SHORT:
            await trio.lowlevel.cancel_shielded_checkpoint()
        elif fault is not None:
            raise _gaierror(socket.EAI_AGAIN if fault is Fault.RESET else socket.EAI_NONAME)
        entries: list[Any] = []
        for address in self._addresses(host):
            with suppress(socket.gaierror):  # an address of another family than the one that was asked for
                numeric = flags | socket.AI_NUMERICHOST
                entries += socket.getaddrinfo(address, port, family, type, proto, numeric)  # noqa: ASYNC240  numeric
        if not entries:
            raise _gaierror(socket.EAI_NONAME)
        return entries

    def _addresses(self, host: bytes | None) -> Sequence[str | None]:
        if host is None:  # it is the port that has a name
            return (None,)
        name = host.decode("ascii").lower().removesuffix(".")
        if _is_address(name):  # and again it is the port
            return (name,)
        if name in self._names:
            return self._names[name]
        return () if name.rpartition(".")[2] == "invalid" else _THIS_MACHINE

    async def getnameinfo(self, sockaddr: tuple[str, int] | tuple[str, int, int, int], flags: int) -> tuple[str, str]:
        """The address and the port themselves, as text: nothing has a name here.

        Cancellation: atomic; it changes nothing. Always a checkpoint.
        """
        await trio.lowlevel.checkpoint()
        return sockaddr[0], str(sockaddr[1])


def _is_address(host: str) -> bool:
    for family in (socket.AF_INET, socket.AF_INET6):
        with suppress(OSError):
            return bool(socket.inet_pton(family, host))
    return False


def _gaierror(number: int) -> socket.gaierror:
    reason = "Name or service not known" if number == socket.EAI_NONAME else "Temporary failure in name resolution"
    return socket.gaierror(number, reason)
