"""A picture of a dashboard of deploy/grafana, where there is no Grafana.

Its own panels and queries are put to a Prometheus that scrapes a server, and drawn by matplotlib
where Grafana would place them.

    python tools/dashboard_picture.py overview docs/images/dashboard.png
        [--prometheus http://127.0.0.1:9090] [--minutes 5]
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import httpx

FOLDER = Path(__file__).parent.parent / "deploy" / "grafana" / "dashboards"
COLUMN, ROW = 0.55, 0.36
"""Inches of Grafana's grid."""
STEP = 5
RATE = "30s"
SAID = (
    "Octavo: {name}. Panels and queries of deploy/grafana/dashboards/{name}.json, answered by a "
    "real Prometheus, drawn by tools/dashboard_picture.py: Grafana's own look differs."
)
UNITS = {"percentunit": (100, "%"), "s": (1e3, "ms"), "reqps": (1, "/s"), "ops": (1, "/s")}
Series = list[tuple[str, list[float], list[float]]]
"""Legend, seconds before now, values."""


def ask(url: str, target: dict[str, Any], seconds: float) -> Series:
    """The series of one query. Raises SystemExit for one that Prometheus does not take."""
    query = target["expr"].replace("$__rate_interval", RATE).replace("$instance", ".*")
    now = time.time()
    asked = {"query": query, "start": now - seconds, "end": now, "step": STEP}
    answer = httpx.get(f"{url}/api/v1/query_range", params=asked).json()
    if answer["status"] != "success":
        raise SystemExit(f"{query}: {answer}")
    return [
        (
            legend(target["legendFormat"], one["metric"]),
            [at - now for at, _ in one["values"]],
            [float(value) for _, value in one["values"]],
        )
        for one in answer["data"]["result"]
    ]


def legend(form: str, labels: dict[str, str]) -> str:
    for name, value in labels.items():
        form = form.replace(f"{{{{{name}}}}}", value)
    return form


def draw(name: str, url: str, seconds: float, path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    board = json.loads((FOLDER / f"{name}.json").read_text())
    places = [panel["gridPos"] for panel in board["panels"]]
    width, height = (max(p[a] + p[b] for p in places) for a, b in (("x", "w"), ("y", "h")))
    figure = pyplot.figure(figsize=(width * COLUMN, height * ROW + 0.4))
    for one, place in zip(board["panels"], places, strict=True):
        axis = figure.add_axes(
            (
                (place["x"] + 1.2) / width,
                1 - (place["y"] + place["h"] - 1) / height * 0.98,
                (place["w"] - 1.6) / width,
                (place["h"] - 2) / height * 0.98,
            )
        )
        panel(axis, one, [each for t in one["targets"] for each in ask(url, t, seconds)])
    figure.text(0.01, 0.005, SAID.format(name=name), fontsize=7)
    figure.savefig(path, dpi=80)


def panel(axis: Any, one: dict[str, Any], series: Series) -> None:
    scale, unit = UNITS.get(one["fieldConfig"]["defaults"]["unit"], (1, ""))
    axis.set_title(f"{one['title']}{f' [{unit}]' if unit else ''}", fontsize=9, loc="left")
    if one["type"] == "stat":
        axis.set_axis_off()
        text = f"{scale * series[0][2][-1]:,.4g} {unit}" if series else "no data"
        axis.text(0.5, 0.4, text, fontsize=20, ha="center", va="center")
        return
    if one["type"] == "bargauge":
        axis.barh([name for name, _, _ in series], [scale * ys[-1] for _, _, ys in series])
    else:
        for name, xs, ys in series:
            axis.plot([x / 60 for x in xs], [scale * y for y in ys], label=name, linewidth=1.2)
        axis.set_ylim(bottom=0)
        axis.xaxis.set_major_formatter(lambda x, _: f"{x:g} min")
        axis.grid(alpha=0.3)
        if 0 < len(series) < 10:
            axis.legend(fontsize=6, loc="upper left")
    axis.tick_params(labelsize=7)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", choices=sorted(path.stem for path in FOLDER.glob("*.json")))
    parser.add_argument("file", type=Path)
    parser.add_argument("--prometheus", default="http://127.0.0.1:9090", metavar="URL")
    parser.add_argument("--minutes", type=float, default=5)
    args = parser.parse_args()
    draw(args.name, args.prometheus.rstrip("/"), 60 * args.minutes, args.file)


if __name__ == "__main__":
    main()
