"""The bytes of a benchmark's messages, encoded once for all its connections."""

from __future__ import annotations

from struct import Struct
from typing import Final, final

from trio_broker.cli.bench_measure import STAMP_BYTES, Work
from trio_broker.wire import frame

__all__ = ["READ_BYTES", "Encoding"]

READ_BYTES: Final = 256 * 1024  # the most that a subscriber reads at once
_BLOCK_BYTES: Final = 128 * 1024  # one write of a publisher; a message that is larger is a block of its own

_NUMBER: Final = Struct(">Q")


@final
class Encoding:
    """What is written, and what is to be read.

    A payload is the run's name, repeated; where messages have numbers, the number stands after the first name.

    Attributes:
        block_messages: the most messages that one write has.
        delivery_bytes: the length of one delivery on the wire.
    """

    def __init__(self, work: Work) -> None:
        body = (work.run * (work.size_bytes // len(work.run) + 1))[: work.size_bytes]
        channel, delivery = frame(work.channel.encode()), frame(body)
        self.delivery_bytes = len(delivery)
        self.block_messages = max(1, _BLOCK_BYTES // len(channel + delivery))
        self._message_bytes = len(channel + delivery)
        self._block = self._pattern = b""
        if work.rate is None:
            self._block = (channel + delivery) * self.block_messages
            self._pattern = delivery * (READ_BYTES // len(delivery) + 2)
        else:
            assert work.size_bytes >= STAMP_BYTES
            self._number_at = len(delivery) - work.size_bytes + len(work.run)
            self._head = delivery[: self._number_at]
            self._tail = delivery[self._number_at + _NUMBER.size :]
            self._sent_head = channel + self._head

    def block(self, count: int) -> memoryview:
        """So many messages without numbers, at most ``block_messages``."""
        return memoryview(self._block)[: count * self._message_bytes]

    def matches(self, data: bytes, received_bytes: int) -> bool:
        """Whether bytes are those of messages without numbers, read where so many bytes had been read before."""
        return self._pattern.startswith(data, received_bytes % self.delivery_bytes)

    def numbered(self, numbers: range) -> bytes:
        """The messages with these numbers."""
        return b"".join(self._sent_head + _NUMBER.pack(number) + self._tail for number in numbers)

    def number(self, data: bytes, offset: int) -> int | None:
        """The number of the delivery that begins at an offset and is there whole; None if it is not of this run."""
        number_at = offset + self._number_at
        if not (data.startswith(self._head, offset) and data.startswith(self._tail, number_at + _NUMBER.size)):
            return None
        number: int = _NUMBER.unpack_from(data, number_at)[0]
        return number
