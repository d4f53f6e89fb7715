"""A listener whose reader pauses stands still, and promises nothing that it could not keep then."""

from __future__ import annotations

import trio

from tests.cli.processes import PATIENCE_SECONDS, program


async def test_a_listener_promises_no_heart_beats_and_asks_for_none() -> None:
    said = trio.Event()
    connect = b""

    async def serve(stream: trio.SocketStream) -> None:
        nonlocal connect
        while not connect.endswith(b"\0"):
            connect += await stream.receive_some()
        said.set()

    async with trio.open_nursery() as nursery:
        listeners: list[trio.SocketListener] = await nursery.start(trio.serve_tcp, serve, 0)
        port = listeners[0].socket.getsockname()[1]
        async with program("listen", "--host", "127.0.0.1", "--port", str(port), "--ack", "client"):
            with trio.fail_after(PATIENCE_SECONDS):
                await said.wait()
        nursery.cancel_scope.cancel()
    headers = dict(line.split(b":", 1) for line in connect.split(b"\n")[1:-2])
    assert connect.startswith(b"CONNECT\n")
    assert headers.get(b"heart-beat", b"0,0") == b"0,0"
