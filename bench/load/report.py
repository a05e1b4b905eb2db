"""Reports of runs as a table, and as a picture of latency against load.

    python bench/load/report.py FILE.json FILE.png

draws what `bench/serving.py --json FILE.json` measured, on a machine that has matplotlib.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

from octavo.services.client.load.figures import SHARES

COLUMNS = ("ttft_ms", "tpot_ms", "itl_ms", "e2e_ms")


def table(reports: Sequence[dict[str, Any]]) -> str:
    """One line a run: rate, throughput, goodput, latencies as p50 / p90 / p99."""
    lines = [f"{'rate':>6}{'failed':>7}{'tok/s':>9}{'req/s':>8}{'good/s':>8}"]
    lines[0] += "".join(f"{name[:-3] + ' p50/90/99 ms':>26}" for name in COLUMNS)
    for report in reports:
        line = f"{report['rate']:>6}{report['failed']:>7}{report['output_tokens_per_s']:>9.0f}"
        line += f"{report['requests_per_s']:>8.2f}{report['goodput_per_s']:>8.2f}"
        for name in COLUMNS:
            values = (f"{report[name][share]:.1f}" for share in SHARES)
            line += f"{' / '.join(values):>26}"
        lines.append(line)
    return "\n".join(lines)


def load_pyplot() -> Any:
    """matplotlib without a window. Raises SystemExit where it is absent."""
    try:
        import matplotlib
    except ImportError:
        raise SystemExit("--plot needs matplotlib: pip install matplotlib") from None
    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot


def plot(reports: Sequence[dict[str, Any]], path: Path) -> None:
    """Latency against the requests that were served a second."""
    pyplot = load_pyplot()
    ordered = sorted(reports, key=lambda report: float(report["requests_per_s"]))
    load = [report["requests_per_s"] for report in ordered]
    figure, axes = pyplot.subplots(1, len(COLUMNS), figsize=(4 * len(COLUMNS), 3.5))
    for axis, name in zip(axes, COLUMNS, strict=True):
        for share in SHARES:
            axis.plot(load, [report[name][share] for report in ordered], marker="o", label=share)
        axis.set(title=name[:-3].upper(), xlabel="requests/s", ylabel="ms", ylim=0)
        axis.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    plot(json.loads(Path(sys.argv[1]).read_text())["detail"], Path(sys.argv[2]))
