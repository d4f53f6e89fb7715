import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from tests.interop.clients import Framed, InteropClient, StompJs, Stompman, StompPy

PACKAGES = ("@stomp/stompjs@7", "@stomp/tcp-wrapper@1")


@pytest.fixture(scope="package")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a broker in a process of its own, which must end in order and have logged no defect."""
    log = tmp_path_factory.mktemp("broker") / "log"
    command = [sys.executable, "-m", "trio_broker", "serve", "--port", "0", "--log-level", "warning"]
    with log.open("wb") as errors, subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors) as process:
        assert process.stdout is not None
        match = re.match(rb"Serving on 127\.0\.0\.1:(\d+)", process.stdout.readline())
        assert match, log.read_text()
        try:
            yield int(match[1])
        finally:
            process.send_signal(signal.SIGTERM)
            process.stdout.read()
            status = process.wait(timeout=30)
    assert status == 0, log.read_text()
    assert "Traceback" not in log.read_text()


def do_without(reason: str) -> NoReturn:
    """Skip what needs this, unless all clients are asked for. A machine may have Python's packages and no npm."""
    if os.environ.get("INTEROP_CLIENTS") == "all":
        pytest.fail(f"{reason}, and INTEROP_CLIENTS is 'all'", pytrace=False)
    pytest.skip(reason)


@pytest.fixture(scope="package")
def stompjs(tmp_path_factory: pytest.TempPathFactory) -> StompJs:
    """@stomp/stompjs in Node, installed into a temporary folder."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        do_without("node or npm is missing; on Debian and Ubuntu: apt-get install npm")
    folder = tmp_path_factory.mktemp("stompjs")
    command = [npm, "install", "--no-audit", "--no-fund", "--prefix", str(folder), *PACKAGES]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    except subprocess.TimeoutExpired:
        do_without("npm could not install @stomp/stompjs within 120 s")
    if done.returncode:
        do_without(f"npm could not install @stomp/stompjs: {done.stderr.strip().splitlines()[-1]}")
    return StompJs(node, Path(folder))


CLIENTS = ("stomp.py 1.0", "stomp.py 1.1", "stomp.py 1.2", "stompman", "stompjs", "framed")


@pytest.fixture
def clients(request: pytest.FixtureRequest) -> "ClientsByName":
    """Clients by their names; one that is not there skips the test."""
    return ClientsByName(request)


class ClientsByName:
    """Makes clients when they are asked for."""

    def __init__(self, request: pytest.FixtureRequest) -> None:
        self._request = request

    def __getitem__(self, name: str) -> InteropClient:
        if name == "stompjs":
            stompjs: StompJs = self._request.getfixturevalue("stompjs")
            return stompjs
        if name.startswith("stomp.py"):
            return StompPy(name.split()[1])
        return Stompman() if name == "stompman" else Framed()
