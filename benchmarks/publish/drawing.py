"""Pictures as SVG and PNG, with matplotlib. What is in them was settled in `series`; here it only gets its place."""

from pathlib import Path
from textwrap import wrap
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from benchmarks.publish.series import OTHERWISE, STYLES, Group, Panel, Picture
from benchmarks.publish.text import show_number

# The same bytes for the same picture: no date, and identifiers that do not come from chance.
SETTINGS = {
    "svg.hashsalt": "trio_broker benchmarks",
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "savefig.facecolor": "white",
    "figure.facecolor": "white",
}
WIDTH = 8.0  # inches, at 100 pixels each where a page shows 800
PNG_DOTS = 200
# Heights in inches.
BAR_HEIGHT, GROUP_HEIGHT, PANEL_HEIGHT, AXIS_HEIGHT = 0.19, 0.32, 3.6, 0.6
TITLE_HEIGHT, LEGEND_LINE, FOOTER_LINE = 0.36, 0.2, 0.13
SMALL, FOOTER_WIDTH, LEGEND_COLUMNS = 7, 150, 4
GREY, LIGHT = "#444444", "#dddddd"


def draw(picture: Picture, folder: Path) -> list[Path]:
    """Draw a picture into a folder, as SVG and PNG; return the files."""
    with mpl.rc_context(SETTINGS):
        footer = [line for text in picture.footer for line in wrap(text, FOOTER_WIDTH)]
        brokers = {line.broker for panel in picture.panels for line in panel.lines}
        rows = -(-len(brokers) // LEGEND_COLUMNS)
        above = TITLE_HEIGHT + (LEGEND_LINE * rows + 0.12 if rows else 0)
        below = FOOTER_LINE * len(footer) + 0.12
        inside = sum(len(group.bars) * BAR_HEIGHT + GROUP_HEIGHT for group in picture.groups) or PANEL_HEIGHT
        height = above + inside + AXIS_HEIGHT + below
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        figure.get_layout_engine().set(rect=(0, below / height, 1, 1 - (above + below) / height))
        figure.text(0.01, 1 - 0.08 / height, picture.title, fontsize=12, fontweight="bold", va="top")
        figure.text(0.01, 0.06 / height, "\n".join(footer), fontsize=SMALL, color=GREY, va="bottom")
        if picture.groups:
            _draw_bars(figure.subplots(), picture)
        else:
            _draw_panels(figure, picture)
        return _save(figure, picture, folder)


def _save(figure: Figure, picture: Picture, folder: Path) -> list[Path]:
    """Write both files, each with the digest of its numbers."""
    folder.mkdir(parents=True, exist_ok=True)
    vector, pixels = folder / f"{picture.name}.svg", folder / f"{picture.name}.png"
    figure.savefig(vector, metadata={"Title": picture.title, "Description": picture.digest(), "Date": None})
    figure.savefig(pixels, dpi=PNG_DOTS, metadata={"Title": picture.title, "Description": picture.digest()})
    return [vector, pixels]


def _style(broker: str) -> tuple[str, str]:
    """Return the colour and the marker of a broker."""
    return STYLES.get(broker, OTHERWISE)


def _name_ticks(axis: Axis) -> None:
    """Name 1, 2 and 5 of every power of ten on a logarithmic axis, without exponents."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=99))
    axis.set_major_formatter(lambda value, _: f"{value:,g}")
    axis.set_minor_formatter(lambda *_: "")


def _draw_bars(axes: Axes, picture: Picture) -> None:
    """Draw ratios as bars that begin at 1, to the right where ahead; the scale is logarithmic."""
    places: list[float] = []
    labels: list[str] = []
    place = 0.0
    behind: dict[str, Any] = {"facecolor": "white", "edgecolor": "none", "pad": 1}
    for group in picture.groups:
        place += GROUP_HEIGHT
        heading = axes.text(0, 0.1 - place, group.title, transform=axes.get_yaxis_transform(), va="center", bbox=behind)
        heading.set_fontweight("bold")
        place = _draw_group(axes, group, place, places, labels)
    ratios = [bar.ratio for group in picture.groups for bar in group.bars if bar.ratio]
    axes.set_xscale("log")
    # Room for the numbers at both ends.
    axes.set_xlim(min([0.5, *(ratio.low for ratio in ratios)]) / 2, max([2.0, *(ratio.high for ratio in ratios)]) * 2)
    axes.set_ylim(-place - BAR_HEIGHT / 3, 0)
    axes.set_yticks(places, labels)
    axes.tick_params(axis="y", length=0)
    axes.axvline(1, color=_style("nats")[0], linewidth=1)
    axes.spines["left"].set_visible(False)
    axes.set_xlabel(picture.axis)
    _name_ticks(axes.xaxis)
    axes.grid(axis="x", color=LIGHT, linewidth=0.6)
    axes.set_axisbelow(True)


def _draw_group(axes: Axes, group: Group, place: float, places: list[float], labels: list[str]) -> float:
    """Draw the bars of a work from `place` on; return where the next may begin."""
    for bar in group.bars:
        middle = -place - BAR_HEIGHT / 2
        place += BAR_HEIGHT
        places.append(middle)
        labels.append(bar.label)
        if bar.ratio is None:
            axes.annotate(bar.note, (1, middle), (4, 0), textcoords="offset points", va="center", color=GREY)
            continue
        low, value, high = bar.ratio.low, bar.ratio.median, bar.ratio.high
        axes.barh(middle, value - 1, left=1, height=BAR_HEIGHT * 0.78, color=_style(bar.broker)[0])
        axes.errorbar(value, middle, xerr=[[value - low], [high - value]], color=GREY, capsize=2, linewidth=0.9)
        outside, shift, side = (max(high, 1), 4, "left") if value >= 1 else (min(low, 1), -4, "right")
        axes.annotate(
            show_number(value), (outside, middle), (shift, 0), textcoords="offset points", va="center", ha=side
        )
    return place


def _draw_panels(figure: Figure, picture: Picture) -> None:
    """Draw panels side by side under one legend; they share the height, so that they can be compared."""
    panels: Any = figure.subplots(1, len(picture.panels), sharey=True, squeeze=False)[0]
    known: dict[str, Any] = {}
    for axes, panel in zip(panels, picture.panels, strict=True):
        _draw_lines(axes, panel, known)
    panels[0].set_ylabel(picture.panels[0].up)
    place = (0, 1 - TITLE_HEIGHT / figure.get_figheight())
    legend = figure.legend(known.values(), known.keys(), loc="upper left", bbox_to_anchor=place, ncols=LEGEND_COLUMNS)
    legend.set_frame_on(False)
    legend.set_in_layout(False)  # its room is above the part that is laid out


def _draw_lines(axes: Axes, panel: Panel, known: dict[str, Any]) -> None:
    """Draw the lines of a panel; `known` gathers one handle a broker for the legend."""
    spread_out = panel.ticks[-1][0] >= 10
    for number, line in enumerate(panel.lines):
        colour, marker = _style(line.broker)
        # A little beside each other, so that no error bar hides another.
        beside = number - (len(panel.lines) - 1) / 2
        across = [place * 1.03**beside if spread_out else place + 0.03 * beside for place, _ in line.points]
        middle = [found.median for _, found in line.points]
        below = [found.median - found.low for _, found in line.points]
        above = [found.high - found.median for _, found in line.points]
        handle = axes.errorbar(
            across, middle, yerr=[below, above], color=colour, marker=marker, markersize=5, capsize=2
        )
        known.setdefault(line.label, handle)
    axes.set_yscale("log")
    if spread_out:
        axes.set_xscale("log")
    else:
        axes.margins(x=0.1)
    axes.set_xticks([place for place, _ in panel.ticks], [name for _, name in panel.ticks])
    axes.xaxis.set_minor_formatter(lambda *_: "")
    _name_ticks(axes.yaxis)
    axes.set_xlabel(panel.across)
    axes.set_title(panel.title, fontsize=9, loc="left")
    axes.grid(color=LIGHT, linewidth=0.6)
