"""Tasks and sockets; the only room where wire meets core.

- `server`: listeners, nurseries, the connection limit, the order in which they end. `accepting`: new connections.
- `connection`: one peer, and how its conversation ends. `reader`: what it says. `speaker`: what it is told.
- `dialect`: what it means in the framed protocol. `stomp`: the same in STOMP. `beating`: heart-beats.
- `holding`: what is held for a peer. `deadline`: how long it may take to finish a frame. `stall`: to take what it is
  sent.
- `transport`: plain TCP the fast way, any Trio stream the general way.
- `poller`, `flusher`: the tasks that read from all sockets, and write to them, where nothing must wait.
- `log`: where log lines go.
"""

from trio_broker.server.server import DrainReport, Server, serve

__all__ = ["DrainReport", "Server", "serve"]
