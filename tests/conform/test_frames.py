"""Frames are read strictly: what is no frame is refused, and what breaks the grammar is noted."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_broker.conform.frames import Frame, FrameReader, Malformed, encode

MESSAGE = b"MESSAGE\ndestination:/queue/a\nmessage-id:1\ncontent-length:3\n\na\0b\0"


def read(data: bytes, version: str = "1.2") -> list[Frame]:
    reader = FrameReader(version)
    reader.feed(data)
    frames = []
    while (frame := reader.next_frame()) is not None:
        frames.append(frame)
    return frames


def only(data: bytes, version: str = "1.2") -> Frame:
    (frame,) = read(data, version)
    return frame


def test_a_frame_is_read() -> None:
    assert only(MESSAGE) == Frame(
        "MESSAGE", (("destination", "/queue/a"), ("message-id", "1"), ("content-length", "3")), b"a\0b"
    )


@given(st.lists(st.integers(0, 2 * len(MESSAGE) + 3)))
def test_any_split_is_read_alike(cuts: list[int]) -> None:
    stream = MESSAGE + b"\n\r\n" + MESSAGE
    reader, frames = FrameReader("1.2"), []
    places = [0, *sorted(cuts), len(stream)]
    for start, end in itertools.pairwise(places):
        reader.feed(stream[start:end])
        while (frame := reader.next_frame()) is not None:
            frames.append(frame)
    assert frames == read(stream)
    assert (len(frames), reader.beats, reader.unfinished) == (2, 2, False)


def test_what_is_unfinished_is_waited_for() -> None:
    for length in range(1, len(MESSAGE)):
        reader = FrameReader("1.2")
        reader.feed(MESSAGE[:length])
        assert reader.next_frame() is None
        assert reader.unfinished


def test_without_content_length_the_first_nul_ends_a_body() -> None:
    first, second = read(b"ERROR\n\nwrong\0\nRECEIPT\nreceipt-id:1\n\n\0")
    assert (first.body, second.get("receipt-id")) == (b"wrong", "1")


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"CONFUSED\n\n\0", "'CONFUSED' is no frame of a server"),
        (b"message\n\n\0", "'message' is no frame of a server"),
        (b"MESSAGE\nno colon\n\n\0", "MESSAGE with a header line 'no colon'"),
        (b"MESSAGE\n:no name\n\n\0", "MESSAGE with a header line ':no name'"),
        (b"MESSAGE\nname:\xff\n\n\0", "headers that are not UTF-8"),
        (b"MESSAGE\nname:value\0", "a NUL before the blank line"),
        (b"MESSAGE\ncontent-length:x\n\n\0", "content-length is 'x'"),
        (b"MESSAGE\ncontent-length:-1\n\n\0", "content-length is '-1'"),
        (b"MESSAGE\ncontent-length:99999999999\n\n\0", "the suite reads up to 16,777,216 bytes"),
        (b"MESSAGE\ncontent-length:1\n\nab\0", "no NUL after so many bytes"),
        (b"MESSAGE\n" + b"x" * 70_000, "no end of the headers within 65,536 bytes"),
    ],
)
def test_what_is_no_frame_is_refused(data: bytes, why: str) -> None:
    with pytest.raises(Malformed, match=why):
        read(data)


@pytest.mark.parametrize(
    ("data", "version", "fault"),
    [
        (b"MESSAGE\nname:a:b\n\n\0", "1.1", "a colon without an escape in 'name:a:b'"),
        (b"MESSAGE\nname:a:b\n\n\0", "1.0", None),
        (b"CONNECTED\nsession:a:b\n\n\0", "1.2", None),
        (b"MESSAGE\nname:a\\tb\n\n\0", "1.2", "an undefined escape in 'name:a\\\\tb'"),
        (b"MESSAGE\nname:a\\\n\n\0", "1.2", "an undefined escape in 'name:a\\\\'"),
        (b"MESSAGE\nname:a\\rb\n\n\0", "1.1", "an undefined escape in 'name:a\\\\rb'"),
        (b"MESSAGE\nname:a\\rb\n\n\0", "1.2", None),
        (b"MESSAGE\nname:a\rb\n\n\0", "1.2", "a carriage return without an escape in 'name:a\\rb'"),
        (b"MESSAGE\nname:a\rb\n\n\0", "1.1", None),
        (b"MESSAGE\r\nname:a\r\n\r\n\0", "1.2", None),
        (b"MESSAGE\r\nname:a\r\n\r\n\0", "1.1", "lines that end in CR LF, which begin with 1.2"),
        (b"RECEIPT\nreceipt-id:1\n\nbody\0", "1.2", "RECEIPT with a body of 4 bytes"),
        (b"CONNECTED\nversion:1.2\n\nbody\0", "1.2", "CONNECTED with a body of 4 bytes"),
    ],
)
def test_what_breaks_the_grammar_is_noted(data: bytes, version: str, fault: str | None) -> None:
    faults = only(data, version).faults
    if fault is None:
        assert faults == ()
    else:
        assert len(faults) == 1
        assert fault in faults[0]


def test_escapes_stand_for_characters() -> None:
    data = b"MESSAGE\nn\\came:a\\nb\\\\nc\\r\n\n\0"
    assert only(data).headers == (("n:ame", "a\nb\\nc\r"),)
    assert only(data, "1.0").headers == (("n\\came", "a\\nb\\\\nc\\r"),)


def test_1_0_pads_headers_and_the_others_do_not() -> None:
    data = b"MESSAGE\nname : value \n\n\0"
    assert only(data, "1.0").headers == (("name", "value"),)
    assert only(data).headers == (("name ", " value "),)


def test_the_first_of_a_repeated_header_is_its_value() -> None:
    frame = only(b"MESSAGE\nname:first\nname:second\n\n\0")
    assert frame.get("name") == "first"
    assert len(frame.headers) == 2
    assert frame.get("other") is None


@pytest.mark.parametrize(
    ("version", "command", "written"),
    [
        ("1.0", "SEND", b"SEND\na:b:\\c\ncontent-length:2\n\n\0x\0"),
        ("1.1", "SEND", b"SEND\na:b\\c\\\\c\ncontent-length:2\n\n\0x\0"),
        ("1.2", "CONNECT", b"CONNECT\na:b:\\c\ncontent-length:2\n\n\0x\0"),
    ],
)
def test_frames_are_written_as_their_version_demands(version: str, command: str, written: bytes) -> None:
    assert encode(version, command, [("a", "b:\\c")], b"\0x") == written


def test_a_frame_shows_itself_in_one_line() -> None:
    assert str(only(b"ERROR\nmessage:it was\\nwrong\n\n\0")) == "ERROR 'it was wrong'"
    assert str(only(b"ERROR\n\nin the body\0")) == "ERROR 'in the body'"
    assert str(only(b"RECEIPT\n\n\0")) == "RECEIPT"
