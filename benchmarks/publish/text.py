"""Numbers and names as the page and the pictures write them."""

from benchmarks.harness.percentiles import Spread
from benchmarks.harness.works import Figure
from benchmarks.publish.results import Results, Run

SCALES = ((1e6, " M"), (1e3, " k"), (1.0, ""))


def show_number(number: float) -> str:
    """Return a number with three digits, in thousands or millions where it is large."""
    for scale, unit in SCALES:
        if number >= 0.9995 * scale and scale > 1:
            return f"{_digits(number / scale)}{unit}"
    return _digits(number)


def _digits(number: float) -> str:
    """Return three digits of a number under a thousand, or two where it is under a tenth."""
    places = 2 if number < 9.995 else 1 if number < 99.95 else 0
    return f"{number:.{places}f}" if number >= 0.1 else f"{number:.2g}"


def show_spread(found: Spread | None) -> str:
    """Return the median and the ends, or a dash."""
    if found is None:
        return "-"
    return f"{show_number(found.median)} ({show_number(found.low)} to {show_number(found.high)})"


def show_unit(figure: Figure) -> str:
    """Return a unit as people write it."""
    return f"\N{MICRO SIGN}s{figure.unit[2:]}" if figure.unit.split()[0] == "us" else figure.unit


def describe_machine(run: Run) -> str:
    """Return the machine of a run in a line."""
    machine = run.machine
    apart = "a CPU each for broker and load"
    if machine["broker_cpu"] == machine["load_cpu"]:
        apart = "broker and load on the same CPU"
    return (
        f"{machine['cpu']}, {machine['cpus']} CPUs, {machine['system']}, Python {machine['python']}, {apart}, "
        f"load average {machine['load_average']:.1f} at the start"
    )


def describe_versions(results: Results, run: Run) -> str:
    """Return the brokers of a run with their versions, where they tell one."""
    brokers = results.brokers
    return "; ".join(
        f"{brokers[name]} ({version})" if version else brokers[name]
        for name, version in run.versions.items()
        if name not in run.missing
    )
