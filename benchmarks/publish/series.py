"""What is drawn: the numbers of every picture, with their labels, units and small print, before anything is drawn.

Each picture has a digest of all of that. The drawing carries it, so that whoever has no plotting library can still tell
whether a committed picture is that of the committed results.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase

from benchmarks.harness.percentiles import Spread
from benchmarks.publish.goals import COST, GROWTHS, NATS, Growth
from benchmarks.publish.results import Measured, Results
from benchmarks.publish.text import describe_machine, describe_versions

DIGEST_MARK = "numbers sha256:"
# Okabe and Ito's colours, which people with any common colour blindness can tell apart. A broker keeps its own, and
# its marker, in every picture.
STYLES = {
    "trio": ("#0072B2", "o"),
    "seed": ("#56B4E9", "v"),
    "seed-uvloop": ("#E69F00", "^"),
    "nats": ("#000000", "s"),
    "redis": ("#D55E00", "D"),
    "mosquitto": ("#009E73", "P"),
    "rabbitmq": ("#CC79A7", "X"),
    "rabbitmq-stomp": ("#F0E442", "p"),
}
OTHERWISE = ("#666666", "*")
DELIVERY_COST = "broker's CPU time per delivery (\N{MICRO SIGN}s)"


@dataclass(frozen=True, slots=True)
class Bar:
    """A broker's ratio in a work; without one, why there is none."""

    broker: str
    label: str
    ratio: Spread | None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Group:
    """A work and its bars."""

    title: str
    bars: tuple[Bar, ...]


@dataclass(frozen=True, slots=True)
class Line:
    """A broker's figures along an axis."""

    broker: str
    label: str
    points: tuple[tuple[float, Spread], ...]


@dataclass(frozen=True, slots=True)
class Panel:
    """Lines over an axis; `ticks` are the places that are named on it."""

    title: str
    across: str
    up: str
    ticks: tuple[tuple[float, str], ...]
    lines: tuple[Line, ...]


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture of bars or of panels with lines, and what is printed small below."""

    name: str
    title: str
    footer: tuple[str, ...]
    axis: str = ""
    groups: tuple[Group, ...] = ()
    panels: tuple[Panel, ...] = ()

    def digest(self) -> str:
        """Return a mark that is another one when anything in the picture is."""
        content = json.dumps(asdict(self), sort_keys=True)
        return DIGEST_MARK + hashlib.sha256(content.encode()).hexdigest()


BARS = (
    ("rates-floods", "Floods, one publisher to one subscriber", ("flood-*",)),
    ("rates-fanout", "One publisher to many subscribers", ("fanout-*",)),
    (
        "rates-others",
        "Queue, interleaved topics, unbatched, connections",
        ("queue-*", "interleaved-*", "unbatched-*", "churn"),
    ),
)


def make_pictures(results: Results) -> list[Picture]:
    """Return the pictures that the results are enough for."""
    footer = tuple(_footer(results))
    bars = [_bars(results, name, title, patterns, footer) for name, title, patterns in BARS]
    curves = [_growth(results, growth, footer) for growth in GROWTHS]
    found = [*bars, *curves, _latency(results, footer)]
    return [picture for picture in found if picture is not None]


def _footer(results: Results) -> Iterator[str]:
    """Yield the small print: for each file its machine, versions and date."""
    for run in results.runs:
        yield f"{describe_machine(run)}; {describe_versions(results, run)}; {run.date}"


def _bars(
    results: Results, name: str, title: str, patterns: tuple[str, ...], footer: tuple[str, ...]
) -> Picture | None:
    """Return the rates of some works in rates of nats-server."""
    groups = []
    for work in results.works:
        if any(fnmatchcase(work.name, pattern) for pattern in patterns):
            bars = [_bar(results, work, broker) for broker in results.brokers]
            shown = tuple(bar for bar in bars if bar is not None)
            if any(bar.ratio for bar in shown):
                groups.append(Group(f"{work.title}  ({work.figures[0].unit})", shown))
    if not groups:
        return None
    axis = f"rate relative to {results.brokers[NATS]} (= 1), median of the rounds with the lowest and the highest"
    return Picture(name, title, footer, axis, tuple(groups))


def _bar(results: Results, work: Measured, broker: str) -> Bar | None:
    """Return a broker's bar; none for nats-server itself, or for who did not take part."""
    label = results.brokers[broker]
    ratio = work.ratio(broker, NATS, work.figures[0].key)
    if ratio is not None:
        return Bar(broker, label, ratio)
    return Bar(broker, label, None, "did not deliver everything") if broker in work.problems else None


def _growth(results: Results, growth: Growth, footer: tuple[str, ...]) -> Picture | None:
    """Return what a delivery costs over a growing number of something."""
    measured = [(number, work) for number, name in growth.works if (work := results.find(name)) is not None]
    if len(measured) < 2:
        return None
    lines = []
    for broker, label in results.brokers.items():
        spreads = [(float(number), work.spread(broker, COST)) for number, work in measured]
        points = tuple((number, cost) for number, cost in spreads if cost is not None and cost.low > 0)
        if points:
            lines.append(Line(broker, label, points))
    ticks = tuple((float(number), f"{number:,}") for number, _ in measured)
    panel = Panel("", growth.title, DELIVERY_COST, ticks, tuple(lines))
    title = f"Cost of a delivery over {measured[0][0]:,} to {measured[-1][0]:,} {growth.title}"
    return Picture(f"cost-{growth.key}", title, footer, panels=(panel,))


def _latency(results: Results, footer: tuple[str, ...]) -> Picture | None:
    """Return the percentiles of latency, a panel for each work that has them."""
    panels = []
    for work in results.works:
        if fnmatchcase(work.name, "latency-*"):
            keys = [figure.key for figure in work.figures]
            lines = []
            for broker, label in results.brokers.items():
                spreads = [(float(place), work.spread(broker, key)) for place, key in enumerate(keys)]
                points = tuple((place, found) for place, found in spreads if found is not None)
                if points:
                    lines.append(Line(broker, label, points))
            ticks = tuple((float(place), key) for place, key in enumerate(keys))
            panels.append(Panel(work.title, "percentile", "latency (\N{MICRO SIGN}s)", ticks, tuple(lines)))
    title = "One-way latency, percentiles of each round"
    return Picture("latency", title, footer, panels=tuple(panels)) if panels else None
