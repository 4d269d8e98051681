"""How results are shown: a table, and for each lab a chart as text and as PNG."""

import os
import platform
import shutil
import subprocess
import time
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

from tests.benchmarks.measure import OPERATORS, Missing, Result

WIDTH = 40  # characters of the longest bar
COLUMNS = "{:40} {:>10}  {:22} {:>10}  {:9} {}"
PACKAGES = ("pyzmq", "grpcio", "protobuf")


def number(value: float) -> str:
    """Return a figure with three digits, or all before the point."""
    if value >= 1e7 or 0 < value < 1e-3:
        return f"{value:.2e}"
    digits = 0 if value >= 100 else 1 if value >= 10 else 2 if value >= 1 else 3
    return f"{value:,.{digits}f}"


def heading() -> list[str]:
    """Return the lines above the table: when, where, and what the columns are."""
    line = COLUMNS.format("", "median", "min .. max", "ratio", "goal", "")
    return [*machine(), "ratio: ours divided by the one of that line", "", line.rstrip()]


def machine() -> list[str]:
    """Return what the figures depend on."""
    versions = []
    for package in PACKAGES:
        try:
            versions.append(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            versions.append(f"{package} -")
    return [
        time.strftime("%Y-%m-%d %H:%M"),
        f"{cpu()}, {os.cpu_count()} cores, {platform.system()} {platform.release()}",
        f"Python {platform.python_version()}, {', '.join(versions)}",
    ]


def cpu() -> str:
    """Return the processor's name."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    if shutil.which("sysctl"):  # macOS
        command = ["sysctl", "-n", "machdep.cpu.brand_string"]
        return subprocess.run(command, capture_output=True, text=True).stdout.strip()
    return platform.machine()


def table(result: Result) -> list[str]:
    """Return the lines of one row."""
    row = result.row
    lines = [f"lab {row.lab}: {row.what} [{row.unit}, {row.better} is better]"]
    for name in row.contestants:
        if name in result.missing:
            lines.append(f"    {name}: left out: {result.missing[name]}")
            continue
        figures = result.figures[name]
        span = f"{number(min(figures))} .. {number(max(figures))}"
        ratio = goal = verdict = ""
        if name != result.ours:
            ratio = number(result.ratio(name))
            if wanted := result.goal(name):
                goal = f"{OPERATORS[row.better]} {wanted.ratio:,g}"
                verdict = "met" if result.met(wanted) else "MISSED"
        figure = number(result.median(name))
        line = COLUMNS.format(f"    {name}", figure, span, ratio, goal, verdict)
        lines.append(line.rstrip())
    return lines


def summary(results: Iterable[Result]) -> str:
    """Return how many goals are met, missed and cannot be told."""
    verdicts = [result.met(goal) for result in results for goal in result.row.goals]
    line = f"{verdicts.count(True)} goals met, {verdicts.count(False)} missed"
    if unknown := verdicts.count(None):
        line += f", {unknown} unknown for want of a peer"
    return line


def text_chart(results: Iterable[Result]) -> list[str]:
    """Return bars for each row, the longest contestant's as long as WIDTH."""
    lines = []
    for result in results:
        row = result.row
        lines.append(f"{row.what} [{row.unit}, {row.better} is better]")
        medians = {name: result.median(name) for name in result.figures}
        most = max(medians.values())
        for name, value in medians.items():
            mark = "#" if name == result.ours else "-"
            bar = mark * max(1, round(WIDTH * value / most))
            lines.append(f"    {name:28} {bar:{WIDTH}} {number(value)}")
        lines.append("")
    return lines


def plot(results: list[Result], path: Path) -> None:
    """Draw the same as a PNG, with the ranges; raise Missing if there is no matplotlib."""
    try:
        import matplotlib
    except ImportError:
        raise Missing("matplotlib is not installed, there are no plots") from None
    matplotlib.use("Agg")
    from matplotlib import pyplot

    heights = [1.2 + 0.3 * len(result.figures) for result in results]
    figure, axes = pyplot.subplots(
        len(results),
        figsize=(9, sum(heights)),
        height_ratios=heights,
        squeeze=False,
        layout="constrained",
    )
    for ax, result in zip(axes[:, 0], results, strict=True):
        draw(ax, result)
    figure.savefig(path, dpi=100)
    pyplot.close(figure)


def draw(ax, result: Result) -> None:
    """Draw one row into its part of the plot."""
    row, names = result.row, list(result.figures)
    medians = [result.median(name) for name in names]
    low = [m - min(result.figures[name]) for m, name in zip(medians, names, strict=True)]
    high = [max(result.figures[name]) - m for m, name in zip(medians, names, strict=True)]
    colors = ["tab:blue" if name == result.ours else "lightgray" for name in names]
    bars = ax.barh(names, medians, xerr=[low, high], color=colors, ecolor="gray", capsize=3)
    ax.bar_label(bars, [number(value) for value in medians], padding=6)
    if max(medians) > 100 * min(medians):
        ax.set_xscale("log")
    ax.margins(x=0.15)
    ax.invert_yaxis()
    ax.set_title(f"{row.what} [{row.unit}, {row.better} is better]", loc="left", fontsize="medium")
