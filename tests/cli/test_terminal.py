"""What changes where stderr is a terminal."""

import os
import signal
import subprocess
import sys

import pytest
import trio

from tests.cli.processes import ROOT, broker


class Terminal:
    """``trio-broker`` with a terminal as its stderr."""

    def __init__(self) -> None:
        self.shown = b""
        self._ours, self._theirs = os.openpty()

    async def start(self, *arguments: str, **environment: str) -> trio.Process:
        process = await trio.lowlevel.open_process(
            [sys.executable, "-m", "trio_broker", *arguments],
            stdout=subprocess.PIPE,
            stderr=self._theirs,
            env={"TERM": "xterm", "PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **environment},
        )
        os.close(self._theirs)
        return process

    async def read_until(self, text: bytes | None) -> None:
        """Read until this is shown, or to the end."""
        with trio.fail_after(30):
            await trio.lowlevel.checkpoint()
            while (text is None or text not in self.shown) and (data := await trio.to_thread.run_sync(self._read)):
                self.shown += data

    def close(self) -> None:
        os.close(self._ours)

    def _read(self) -> bytes:
        try:
            return os.read(self._ours, 4096)
        except OSError:  # nobody has the other end open any more
            return b""


async def test_progress_is_shown_where_the_number_is_known() -> None:
    async with broker() as (_, port):
        terminal = Terminal()
        process = await terminal.start("send", "--port", str(port), "--count", "3", "--interval", "0")
        await terminal.read_until(None)
        assert await process.wait() == 0
        assert b"Sent" in terminal.shown
        assert b"3/3" in terminal.shown
        terminal.close()
        assert process.stdout is not None
        await process.stdout.aclose()


@pytest.mark.parametrize(("environment", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False)])
async def test_logs_are_coloured_unless_no_color_is_set(environment: dict[str, str], coloured: bool) -> None:
    terminal = Terminal()
    process = await terminal.start("serve", "--port", "0", **environment)
    assert process.stdout is not None
    with trio.fail_after(30):
        port = int((await process.stdout.receive_some()).rsplit(b":", 1)[1])
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    await stream.send_all(b"\0\0\0\6/topic")
    await terminal.read_until(b"subscribed")
    process.send_signal(signal.SIGINT)
    await terminal.read_until(None)
    assert await process.wait() == 0
    assert (b"\x1b[" in terminal.shown) is coloured
    terminal.close()
    await stream.aclose()
    await process.stdout.aclose()
