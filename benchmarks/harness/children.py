"""A broker as a child process: started, watched, and stopped by its process id whatever happens meanwhile.

The child gets a process group of its own, so that a Ctrl-C in the terminal reaches the benchmark alone, which then ends
the child in order. Its output goes to an unnamed temporary file: nobody has to keep a pipe empty during a measurement.
"""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import IO, TypeVar

START_SECONDS = 15.0
POLL_SECONDS = 0.02
STOP_STEPS = ((signal.SIGINT, 5.0), (signal.SIGTERM, 3.0), (signal.SIGKILL, 5.0))
SHOWN_OUTPUT = 2000
PAGE_SIZE = os.sysconf("SC_PAGE_SIZE")
# Of /proc/PID/stat without its second field, counted from 0.
PROCESS, GROUP, RESIDENT_PAGES = 0, 3, 22
CPU_CLOCK = 2

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
        """Return the CPU time the processes of the child's group have used in user and kernel mode; 0 when gone."""
        spent = 0.0
        for fields in self._group():
            # clock_getcpuclockid(3), which Python has for threads only. /proc tells the same in hundredths of a second.
            with contextlib.suppress(OSError):
                spent += time.clock_gettime((~int(fields[PROCESS]) << 3) | CPU_CLOCK)
        return spent

    def resident_bytes(self) -> int:
        """Return the memory the processes of the child's group hold; 0 when they have gone."""
        return sum(int(each[RESIDENT_PAGES]) for each in self._group()) * PAGE_SIZE

    def _group(self) -> list[list[str]]:
        """Return the statistics of each process in the child's group: a server may be started by a script."""
        found = []
        for path in Path("/proc").glob("[0-9]*/stat"):
            try:
                stat = path.read_text()
            except OSError:
                continue
            # The second field, the command in parentheses, may itself hold spaces: count from its end.
            fields = [path.parent.name, *stat.rpartition(")")[2].split()]
            if int(fields[GROUP]) == self.pid:
                found.append(fields)
        return found

    def wait_for(self, find: Callable[[str], Found | None], seconds: float = START_SECONDS) -> Found:
        """Wait until `find` sees in the output, or elsewhere, that the child is ready, and return what it found."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            alive = self.running
            found = find(self.output())
            if found is not None:
                return found
            if not alive:
                break
            time.sleep(POLL_SECONDS)
        state = f"was not ready after {seconds:g} s" if self.running else f"ended with {self._process.returncode}"
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
            self._kill_remains()
        finally:
            self._output.close()
            signal.signal(signal.SIGINT, previous)

    def _kill_remains(self) -> None:
        """End what the child started in its group and left behind, each by its process id."""
        for fields in self._group():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(fields[PROCESS]), signal.SIGKILL)


@contextmanager
def running_child(
    name: str, command: Sequence[str], directory: Path, environment: Mapping[str, str] | None = None
) -> Iterator[Child]:
    """Start a command and stop it on leaving, whether the block ends, fails or is interrupted.

    `environment` is added to this process's.
    """
    output = tempfile.TemporaryFile()  # noqa: SIM115 - the child owns it from here, and Child.stop closes it
    process = subprocess.Popen(
        command,
        cwd=directory,
        env={**os.environ, **(environment or {})},
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        process_group=0,
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
