"""What the benchmarks share: placing and stopping brokers, loading them, and comparing what they did.

- `placement`: which CPU belongs to the broker and which to the load.
- `children`: a broker as a child process, started, watched and stopped by its process id.
- `brokers`: how a broker is started, and the recipes of our own.
- `wire`, `traffic`: what a protocol puts on the wire, encoded before the clock starts, and what a flood makes of it.
- `audience`: connections whose subscriptions have proved to be in place.
- `counting`: how what comes back is counted, and compared with what was sent.
- `load`, and the loads `flood`, `bursts`, `round_trips`, `latency`, `churn`: loops that pump bytes and count what comes
  back.
- `shapes`: the loads by name.
- `rounds`: calibrated samples of a broker under a load, taken in turns.
- `works`, `stuck`, `catalogue`: what brokers are compared in, and all of it by name.
- `comparison`, `percentiles`: a work done by several brokers, and what may be said about it.
- `report`, `tables`: results as text and as JSON.
"""
