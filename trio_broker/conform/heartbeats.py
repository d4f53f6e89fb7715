"""Checks of heart-beats, the only ones that take their time."""

from __future__ import annotations

import math
from typing import Final

import trio

from trio_broker.conform.check import Chapter, Mismatch, NotShown
from trio_broker.conform.frames import Frame, encode
from trio_broker.conform.peer import Peer
from trio_broker.conform.stage import Stage

__all__ = ["HEARTBEATS"]

HEARTBEATS: Final = Chapter()

_LATER: Final = "1.1 1.2"
_PERIOD_MS: Final = 1000
_TOLERANCE: Final = 1.75  # a margin of error, and less than the two periods of a broker that looks once a period
_BEATS: Final = 3
_EARLY: Final = 0.8  # of the period: our beat has to be there within it, however strict the broker is


def _terms(frame: Frame) -> tuple[int, int]:
    """What CONNECTED says: milliseconds that the broker can do, and milliseconds that it wants."""
    value = frame.get("heart-beat") or "0,0"
    numbers = value.split(",")
    if len(numbers) != 2 or not all(number.isascii() and number.isdigit() and len(number) <= 9 for number in numbers):
        raise Mismatch(f"heart-beat:{value}")
    return int(numbers[0]), int(numbers[1])


async def _agreed(stage: Stage, can_ms: int, wants_ms: int) -> tuple[Peer, int, int]:
    """A connection, and the periods in seconds of our beats and of the broker's; 0 for none."""
    peer, connected = await stage.greet({**stage.connect_headers(), "heart-beat": f"{can_ms},{wants_ms}"})
    broker_can, broker_wants = _terms(connected)
    ours = max(can_ms, broker_wants) if can_ms and broker_wants else 0
    theirs = max(wants_ms, broker_can) if wants_ms and broker_can else 0
    return peer, ours, theirs


def _affordable(stage: Stage, period_ms: int, periods: float) -> float:
    """A period in seconds, if so many of them fit into the time of a check. Raises `NotShown`."""
    seconds = period_ms / 1000
    if seconds * periods > stage.target.check_seconds_max:
        raise NotShown(f"with heart-beats every {seconds:g} s it takes longer than a check may")
    return seconds


@HEARTBEATS.check("Heart-beating", "heart-beat of CONNECTED is two decimal numbers", must=_LATER, ours="S-15")
async def header(stage: Stage) -> str:
    _, connected = await stage.greet({**stage.connect_headers(), "heart-beat": f"{_PERIOD_MS},{_PERIOD_MS}"})
    if connected.get("heart-beat") is None:
        raise NotShown("no heart-beat header: the broker has none")
    _terms(connected)
    return f"heart-beat:{connected.get('heart-beat')}"


@HEARTBEATS.check(
    "Heart-beating",
    "a client that says nothing of heart-beats is sent none, and is not given up",
    must=_LATER,
    ours="S-15",
)
async def none_agreed(stage: Stage) -> str:
    peer = await stage.connect()
    seconds = _PERIOD_MS / 1000 * 2
    with trio.move_on_after(seconds):
        end = await peer.data()
        raise Mismatch("data" if end is None else str(end))
    await stage.put(peer, stage.queue(), b"alive")
    return f"nothing in {seconds:g} s"


@HEARTBEATS.check(
    "Heart-beating",
    "the broker sends something in each period that was agreed, counted from what it sent last",
    must=_LATER,
    ours="S-15 S-16",
)
async def broker_beats(stage: Stage) -> str:
    peer, _, theirs = await _agreed(stage, 0, _PERIOD_MS)
    if not theirs:
        raise NotShown("the broker sends no heart-beats")
    seconds = _affordable(stage, theirs, _BEATS * _TOLERANCE)
    longest = 0.0
    for number in range(1, _BEATS + 1):
        began = trio.current_time()
        with trio.move_on_after(seconds * _TOLERANCE) as scope:
            end = await peer.data()
            if end is not None:
                raise Mismatch(f"{end} before beat {number}")
        if scope.cancelled_caught:
            raise Mismatch(f"nothing for {seconds * _TOLERANCE:g} s, with {seconds:g} s agreed")
        longest = max(longest, trio.current_time() - began)
        await stage.put(peer, stage.queue(), b"meanwhile")  # a broker that looks only now and then forgets this one
    return f"{longest:.1f} s at most, {seconds:g} s agreed"


@HEARTBEATS.check("Heart-beating", "what the broker sends as a heart-beat is a line end", must=_LATER, ours="S-16")
async def beats_are_line_ends(stage: Stage) -> str:
    peer, _, theirs = await _agreed(stage, 0, _PERIOD_MS)
    if not theirs:
        raise NotShown("the broker sends no heart-beats")
    frames = []
    before = peer.beats
    with trio.move_on_after(_affordable(stage, theirs, _BEATS) * _BEATS):
        frames.append(await peer.receive())
    if frames:
        raise Mismatch(str(frames[0]))
    if peer.beats == before:
        raise Mismatch("nothing came")
    return f"{peer.beats - before} line ends"


@HEARTBEATS.check(
    "Heart-beating", "a client that sends a line end in each period is kept", must=_LATER, ours="S-15 S-16"
)
async def client_beats(stage: Stage) -> str:
    peer, ours, _ = await _agreed(stage, _PERIOD_MS, 0)
    if not ours:
        raise NotShown("the broker wants no heart-beats")
    seconds = _affordable(stage, ours, _BEATS + 1)
    for _ in range(math.ceil(_BEATS / _EARLY)):
        with trio.move_on_after(seconds * _EARLY):
            end = await peer.data()
            raise Mismatch("data" if end is None else f"{end} in spite of heart-beats")
        await peer.send(b"\n")
    await stage.put(peer, stage.queue(), b"alive")
    return f"kept for {_BEATS} periods of {seconds:g} s"


@HEARTBEATS.check("Heart-beating", "a client that stays silent is given up", convention=_LATER, ours="S-15")
async def silent_client(stage: Stage) -> str:
    peer, ours, _ = await _agreed(stage, _PERIOD_MS, 0)
    if not ours:
        raise NotShown("the broker wants no heart-beats")
    seconds = _affordable(stage, ours, 4)
    began = trio.current_time()
    end = await peer.ended(seconds * 4, "silence")
    return f"{end} after {trio.current_time() - began:.1f} s, {seconds:g} s agreed"


@HEARTBEATS.check("Heart-beating", "a heart-beat header that is not two numbers is refused", should=_LATER, ours="S-15")
async def wrong_header(stage: Stage) -> str:
    peer = await stage.open()
    wrong = encode(stage.version, "CONNECT", {**stage.connect_headers(), "heart-beat": "often"}.items())
    await peer.send(wrong)
    peer.waiting = "an ERROR or the end"
    came = await peer.receive()
    if isinstance(came, Frame) and came.command != "ERROR":
        raise Mismatch(str(came))
    return str(came)
