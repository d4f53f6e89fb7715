"""A broker as a child process: started, watched, and stopped by its process id whatever happens meanwhile.

The child gets a process group of its own, so that a Ctrl-C in the terminal reaches the benchmark alone, which then ends
the child in order. Its output goes to an unnamed temporary file: nobody has to keep a pipe empty during a measurement.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import IO, TypeVar

START_SECONDS = 15.0
POLL_SECONDS = 0.02
STOP_STEPS = ((signal.SIGINT, 5.0), (signal.SIGTERM, 3.0), (signal.SIGKILL, 5.0))
SHOWN_OUTPUT = 2000
CLOCK_TICKS = os.sysconf("SC_CLK_TCK")

Found = TypeVar("Found")


class ChildError(Exception):
    """A broker did not start."""


class Child:
    """A running child process, its output so far and the CPU time it has used."""

    def __init__(self, name: str, process: subprocess.Popen[bytes], output: IO[bytes]) -> None:
        """Take over a process that was just started with its output going to a file."""
        self.name = name
        self._process = process
        self._output = output

    @property
    def pid(self) -> int:
        """The process id, the only handle by which the child is ever signalled."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the process is still there."""
        return self._process.poll() is None

    def output(self) -> str:
        """Return what the child has printed so far on both streams."""
        size = os.fstat(self._output.fileno()).st_size
        return os.pread(self._output.fileno(), size, 0).decode(errors="replace")

    def cpu_seconds(self) -> float:
        """Return the CPU time the process has used in user and kernel mode; 0 when it has gone."""
        try:
            stat = Path(f"/proc/{self.pid}/stat").read_text()
        except OSError:
            return 0.0
        # The second field, the command in parentheses, may itself hold spaces: count from its end.
        fields = stat.rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / CLOCK_TICKS

    def wait_for(self, find: Callable[[str], Found | None]) -> Found:
        """Wait until `find` sees in the output what tells that the child is ready, and return what it found."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            alive = self.running
            found = find(self.output())
            if found is not None:
                return found
            if not alive:
                break
            time.sleep(POLL_SECONDS)
        state = f"was not ready after {START_SECONDS:g} s" if self.running else f"ended with {self._process.returncode}"
        message = f"{self.name} {state}; its output:\n{self.output()[-SHOWN_OUTPUT:]}"
        raise ChildError(message)

    def stop(self) -> None:
        """End the process: ask, insist, then kill. A second Ctrl-C does not interrupt this."""
        previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            for number, patience in STOP_STEPS:
                if not self.running:
                    break
                self._process.send_signal(number)
                try:
                    self._process.wait(patience)
                except subprocess.TimeoutExpired:
                    print(f"{self.name} (process {self.pid}) did not end on {number.name}", file=sys.stderr)
        finally:
            self._output.close()
            signal.signal(signal.SIGINT, previous)


@contextmanager
def running_child(name: str, command: Sequence[str], directory: Path) -> Iterator[Child]:
    """Start a command and stop it on leaving, whether the block ends, fails or is interrupted."""
    output = tempfile.TemporaryFile()  # noqa: SIM115 - the child owns it from here, and Child.stop closes it
    process = subprocess.Popen(
        command, cwd=directory, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, process_group=0
    )
    child = Child(name, process, output)
    try:
        yield child
    finally:
        child.stop()


def _interrupt(number: int, _frame: FrameType | None) -> None:
    """Leave through every `finally` when asked to end."""
    sys.exit(128 + number)


def end_in_order() -> None:
    """Make SIGTERM, SIGHUP and SIGINT unwind this process, so that its children are stopped.

    SIGINT is set although that is the default: a shell starts background jobs with it ignored, and the brokers would
    inherit that and not hear us.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, _interrupt)
    signal.signal(signal.SIGHUP, _interrupt)
