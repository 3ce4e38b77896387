"""Charts drawn as PNG or SVG; matplotlib is imported at use and needs no display."""

from __future__ import annotations

import io
import math
import threading
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from ipfs_kit.errors import InvalidInput, MissingExtra

if TYPE_CHECKING:
    from matplotlib.axes import Axes

KINDS: Final = ("line", "bar", "pie", "histogram")
FORMATS: Final = ("png", "svg")
POINTS_MAX: Final = 100_000
"""Points of one chart: more would be slower to draw than a picture can show."""
LABEL_MAX: Final = 40
NOTHING: Final = "nothing recorded"
COLOURS: Final = ("#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9", "#7f7f7f", "#f0e442")
"""Told apart by colour-blind readers (Okabe and Ito)."""
DPI: Final = 110
_drawing = threading.Lock()
"""Matplotlib's font cache and settings belong to the process: one chart is drawn at a time."""


@dataclass(frozen=True, slots=True)
class Series:
    """Values that belong together.

    Args:
        name: Shown in the legend when a chart has several.
        x: Where each value stands: numbers or labels; a histogram needs none.
        y: The values; None was not measured and leaves a gap.
    """

    name: str
    x: Sequence[float | str]
    y: Sequence[float | None]


@dataclass(frozen=True, slots=True)
class Chart:
    """One picture.

    Args:
        title: Above it.
        kind: ``line``, ``bar``, ``pie`` or ``histogram``.
        x_label: Below it.
        y_label: Left of it.
        series: What it shows; a pie shows the first.
        times: Whether ``x`` is in seconds since 1970 and shown as UTC.
    """

    title: str
    kind: str
    x_label: str
    y_label: str
    series: Sequence[Series]
    times: bool = False


def render(chart: Chart, format: str = "png", width_in: float = 8, height_in: float = 4.5) -> bytes:  # noqa: A002
    """Draw a chart.

    Args:
        chart: What to draw.
        format: ``png`` or ``svg``.
        width_in: Width in inches, 1 to 40.
        height_in: Height in inches, 1 to 40.

    Returns:
        The file's bytes, the same for the same chart and version of matplotlib.

    Raises:
        MissingExtra: Matplotlib is not installed.
        InvalidInput: An unknown kind or format, or values that do not fit together.
    """
    _check(chart, format, width_in, height_in)
    try:
        import matplotlib as mpl
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as exc:
        raise MissingExtra("charts need matplotlib: pip install 'ipfs-kit-py[plots]'", package="matplotlib") from exc
    out = io.BytesIO()
    with _drawing, warnings.catch_warnings(), mpl.rc_context({"svg.hashsalt": "ipfs-kit"}):
        warnings.filterwarnings("ignore", message="Glyph", category=UserWarning)  # shown as a box
        warnings.filterwarnings("ignore", message="constrained_layout", category=UserWarning)  # labels may overlap
        figure = Figure(figsize=(width_in, height_in), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        axes.set_title(_plain(chart.title))
        if not any(value is not None for series in chart.series for value in series.y):
            axes.set_axis_off()
            axes.text(0.5, 0.5, NOTHING, ha="center", va="center", color="#555555", transform=axes.transAxes)
        elif chart.kind == "pie":
            _pie(axes, chart.series[0])
        else:
            _axes(axes, chart)
        metadata = {"Date": None} if format == "svg" else {"Software": None}
        figure.savefig(out, format=format, dpi=DPI, metadata=metadata)
    return out.getvalue()


def _check(chart: Chart, format: str, width_in: float, height_in: float) -> None:  # noqa: A002
    if chart.kind not in KINDS:
        raise InvalidInput(f"{chart.kind[:40]!r} is no kind of chart: they are {', '.join(KINDS)}")
    if format not in FORMATS:
        raise InvalidInput(f"{format[:40]!r} is no format of charts: they are {', '.join(FORMATS)}")
    if not (1 <= width_in <= 40 and 1 <= height_in <= 40):
        raise InvalidInput("a chart is 1 to 40 inches wide and high")
    if sum(len(series.y) for series in chart.series) > POINTS_MAX:
        raise InvalidInput(f"a chart shows at most {POINTS_MAX} points: choose a longer interval or a shorter range")
    for series in chart.series:
        if chart.kind != "histogram" and len(series.x) != len(series.y):
            raise InvalidInput(f"series {series.name[:40]!r} has {len(series.x)} places for {len(series.y)} values")
        if any(value is not None and not math.isfinite(value) for value in series.y):
            raise InvalidInput(f"series {series.name[:40]!r} holds a value that is no finite number")


def _plain(label: object) -> str:
    """A label as it reads: shortened, on one line, with nothing taken for mathematics."""
    text = "".join(each if each.isprintable() else " " for each in str(label))
    return (text if len(text) <= LABEL_MAX * 2 else text[: LABEL_MAX * 2 - 1] + "…").replace("$", r"\$")


def _tick(label: object, longest: int = LABEL_MAX) -> str:
    text = str(label)
    return _plain(text if len(text) <= longest else text[: longest - 1] + "…")


def _pie(axes: Axes, series: Series) -> None:
    kept = [(label, value) for label, value in zip(series.x, series.y, strict=True) if value is not None and value > 0]
    if not kept:
        axes.set_axis_off()
        axes.text(0.5, 0.5, "all values are 0", ha="center", va="center", color="#555555", transform=axes.transAxes)
        return
    total = sum(value for _, value in kept)
    colours = [COLOURS[index % len(COLOURS)] for index in range(len(kept))]
    wedges: Any = axes.pie([value for _, value in kept], colors=colours, startangle=90, counterclock=False)[0]
    named = [f"{_tick(label, LABEL_MAX // 2)}: {_number(value)} ({value / total:.1%})" for label, value in kept]
    axes.legend(wedges, named, loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)


def _number(value: float) -> str:
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.4g}"


def _axes(axes: Axes, chart: Chart) -> None:
    axes.set_xlabel(_plain(chart.x_label))
    axes.set_ylabel(_plain(chart.y_label))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    {"line": _lines, "bar": _bars, "histogram": _histogram}[chart.kind](axes, chart)
    if len(chart.series) > 1:
        axes.legend(frameon=False, fontsize="small")


def _colour(index: int) -> str:
    return COLOURS[index % len(COLOURS)]


def _lines(axes: Axes, chart: Chart) -> None:
    words = any(isinstance(place, str) for series in chart.series for place in series.x)
    named = list(dict.fromkeys(str(place) for series in chart.series for place in series.x)) if words else []
    places = {name: float(index) for index, name in enumerate(named)}
    for index, series in enumerate(chart.series):
        xs: list[Any] = [places[str(place)] for place in series.x] if words else list(series.x)
        if chart.times and not words:
            xs = [datetime.fromtimestamp(float(place), UTC) for place in xs]
        ys = [math.nan if value is None else value for value in series.y]
        axes.plot(xs, ys, color=_colour(index), marker="o", markersize=3, linewidth=1.4, label=_tick(series.name))
    if words:
        _name_ticks(axes, named)
    elif chart.times:
        from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

        locator = AutoDateLocator(tz=UTC)  # type: ignore[no-untyped-call]
        axes.xaxis.set_major_locator(locator)
        axes.xaxis.set_major_formatter(ConciseDateFormatter(locator, tz=UTC))  # type: ignore[no-untyped-call]
    lowest = min(value for series in chart.series for value in series.y if value is not None)
    if lowest >= 0:
        axes.set_ylim(bottom=0)


def _bars(axes: Axes, chart: Chart) -> None:
    named = list(dict.fromkeys(place for series in chart.series for place in series.x))
    places = {name: index for index, name in enumerate(named)}
    width = 0.8 / len(chart.series)
    for index, series in enumerate(chart.series):
        at = [places[place] - 0.4 + width * (index + 0.5) for place in series.x]
        heights = [math.nan if value is None else value for value in series.y]
        drawn = axes.bar(at, heights, width=width * 0.95, color=_colour(index), label=_tick(series.name))
        if len(named) * len(chart.series) <= 24:
            shown = ["" if value is None else _number(value) for value in series.y]
            axes.bar_label(drawn, labels=shown, fontsize="small", padding=2)
    _name_ticks(axes, named)


def _name_ticks(axes: Axes, named: Sequence[object]) -> None:
    step = max(1, -(-len(named) // 40))
    shown = [_tick(name) for name in named[::step]]
    crowded = sum(len(name) for name in shown) > 80
    axes.set_xticks(range(0, len(named), step), shown)
    if crowded:
        axes.tick_params(axis="x", labelrotation=45, labelsize="small")
        for label in axes.get_xticklabels():
            label.set_horizontalalignment("right")


def _histogram(axes: Axes, chart: Chart) -> None:
    for index, series in enumerate(chart.series):
        values = [value for value in series.y if value is not None]
        bins = min(50, max(1, math.ceil(math.sqrt(len(values)))))
        alpha = 1.0 if len(chart.series) == 1 else 0.6
        axes.hist(values, bins=bins, color=_colour(index), alpha=alpha, edgecolor="white", label=_tick(series.name))
