"""Grafana's dashboards: `python tools/dashboards.py` writes deploy/grafana/dashboards.

A dashboard is rows of panels, a panel a title, a unit and its queries; what Grafana wants of JSON
is made from that.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent.parent / "deploy" / "grafana" / "dashboards"
WHERE = '{instance=~"$instance"}'
AND = 'instance=~"$instance"'
RATE = "[$__rate_interval]"
WIDTH, HEIGHT = 24, 8


@dataclass(frozen=True)
class Panel:
    title: str
    unit: str
    queries: dict[str, str]
    """PromQL by legend."""
    kind: str = "timeseries"
    help: str = ""


def rate(metric: str, labels: str = "", by: str = "") -> str:
    where = f"{{{AND}{', ' if labels else ''}{labels}}}"
    grouped = f"sum by ({by})" if by else "sum"
    return f"{grouped} (rate({metric}{where}{RATE}))"


def quantiles(metric: str) -> dict[str, str]:
    inner = rate(f"{metric}_bucket", by="le")
    return {f"p{q}": f"histogram_quantile({q / 100}, {inner})" for q in (50, 90, 99)}


def gauge(metric: str, labels: str = "", by: str = "") -> str:
    where = f"{{{AND}{', ' if labels else ''}{labels}}}"
    return f"sum by ({by}) ({metric}{where})" if by else f"sum ({metric}{where})"


OVERVIEW = [
    [
        Panel("Up", "none", {"replicas": "sum (up{job=~'octavo.*'})"}, "stat"),
        Panel("Running", "none", {"": gauge("vllm:num_requests_running")}, "stat"),
        Panel("Waiting", "none", {"": gauge("vllm:num_requests_waiting")}, "stat"),
        Panel(
            "KV cache in use", "percentunit", {"": f"max (vllm:kv_cache_usage_perc{WHERE})"}, "stat"
        ),
    ],
    [
        Panel(
            "Tokens",
            "short",
            {
                "generated/s": rate("vllm:generation_tokens_total"),
                "prompts/s": rate("vllm:prompt_tokens_total"),
            },
        ),
        Panel(
            "Requests",
            "none",
            {
                "running": gauge("vllm:num_requests_running"),
                "waiting for {{reason}}": gauge("vllm:num_requests_waiting_by_reason", by="reason"),
            },
        ),
    ],
    [
        Panel(
            "Ends",
            "reqps",
            {"{{finished_reason}}": rate("vllm:request_success_total", by="finished_reason")},
        ),
        Panel("HTTP answers", "reqps", {"{{status}}": rate("http_requests_total", by="status")}),
    ],
    [
        Panel(
            "Tokens by key",
            "short",
            {"{{tenant}}": rate("octavo:tenant_tokens_total", by="tenant")},
        ),
        Panel(
            "Requests by key",
            "reqps",
            {"{{tenant}}": rate("octavo:tenant_requests_total", by="tenant")},
        ),
        Panel(
            "Wait of a request by key",
            "s",
            {
                "{{tenant}}": f"{rate('octavo:tenant_queue_seconds_total', by='tenant')} / "
                f"clamp_min({rate('octavo:tenant_requests_total', by='tenant')}, 0.001)"
            },
        ),
    ],
]
LATENCY = [
    [
        Panel("Time to first token", "s", quantiles("vllm:time_to_first_token_seconds")),
        Panel("Time between tokens", "s", quantiles("vllm:inter_token_latency_seconds")),
        Panel(
            "A request's mean of that",
            "s",
            quantiles("vllm:request_time_per_output_token_seconds"),
        ),
    ],
    [
        Panel("End to end", "s", quantiles("vllm:e2e_request_latency_seconds")),
        Panel("Waiting for a slot", "s", quantiles("vllm:request_queue_time_seconds")),
    ],
    [
        Panel("Prompts", "s", quantiles("vllm:request_prefill_time_seconds")),
        Panel("Outputs", "s", quantiles("vllm:request_decode_time_seconds")),
    ],
    [
        Panel("Steps", "s", quantiles("octavo:step_duration_seconds")),
        Panel("HTTP", "s", quantiles("http_request_duration_highr_seconds")),
    ],
]
CAPACITY = [
    [
        Panel(
            "KV cache in use", "percentunit", {"{{instance}}": f"vllm:kv_cache_usage_perc{WHERE}"}
        ),
        Panel("KV blocks", "none", {"{{state}}": gauge("octavo:kv_blocks", by="state")}),
    ],
    [
        Panel(
            "Prompt tokens found in the prefix cache",
            "percentunit",
            {
                "share": f"{rate('vllm:prefix_cache_hits_total')} / "
                f"clamp_min({rate('vllm:prefix_cache_queries_total')}, 1)"
            },
        ),
        Panel("Preemptions", "none", {"a minute": f"60 * {rate('vllm:num_preemptions_total')}"}),
    ],
    [
        Panel("Tokens in a step", "none", quantiles("vllm:iteration_tokens_total")),
        Panel("Steps", "ops", {"{{kind}}": rate("octavo:steps_total", by="kind")}),
    ],
    [
        Panel(
            "Where time goes",
            "percentunit",
            {"{{part}}": rate("octavo:engine_seconds_total", by="part")},
        ),
        Panel(
            "Steps as CUDA graphs",
            "ops",
            {"{{graph}}": rate("octavo:graph_steps_total", by="graph")},
        ),
    ],
    [
        Panel("Prompt lengths", "none", quantiles("vllm:request_prompt_tokens")),
        Panel("Output lengths", "none", quantiles("vllm:request_generation_tokens")),
    ],
]
RELIABILITY = [
    [
        Panel(
            "Restarts",
            "none",
            {"{{process}}": gauge("octavo:process_restarts_total", by="process")},
        ),
        Panel(
            "Requests computed again",
            "none",
            {"{{cause}}": gauge("octavo:replayed_requests_total", by="cause")},
        ),
    ],
    [
        Panel("Errors", "reqps", {"{{code}}": rate("octavo:request_errors_total", by="code")}),
        Panel(
            "Refused",
            "reqps",
            {
                "{{reason}}": rate("vllm:admission_rejections_total", by="reason"),
                "a key's limits": rate("octavo:request_errors_total", 'code="rate_limited"'),
            },
        ),
    ],
    [
        Panel(
            "Outputs that are not numbers", "none", {"all": gauge("vllm:corrupted_requests_total")}
        ),
        Panel("Steps tried again", "none", {"all": gauge("octavo:failed_steps_total")}),
        Panel(
            "Kernels compiled while serving", "none", {"all": gauge("octavo:compilations_total")}
        ),
    ],
    [
        Panel(
            "Start", "s", {"{{phase}}": f"max by (phase) (octavo:start_seconds{WHERE})"}, "bargauge"
        ),
        Panel("Scrape", "s", {"{{instance}}": f"scrape_duration_seconds{WHERE}"}),
    ],
]
DASHBOARDS = {
    "overview": OVERVIEW,
    "latency": LATENCY,
    "capacity": CAPACITY,
    "reliability": RELIABILITY,
}
SOURCE = {"type": "prometheus", "uid": "octavo-prometheus"}


def panel_json(panel: Panel, number: int, x: int, y: int, width: int) -> dict[str, Any]:
    targets = [
        {"refId": chr(65 + i), "expr": query, "legendFormat": legend, "datasource": SOURCE}
        for i, (legend, query) in enumerate(panel.queries.items())
    ]
    return {
        "id": number,
        "title": panel.title,
        "type": panel.kind,
        "datasource": SOURCE,
        "gridPos": {"x": x, "y": y, "w": width, "h": 4 if panel.kind == "stat" else HEIGHT},
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "targets": targets,
    }


def panels_json(rows: list[list[Panel]]) -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = []
    y = 0
    for row in rows:
        width = WIDTH // len(row)
        for column, panel in enumerate(row):
            made.append(panel_json(panel, len(made) + 1, column * width, y, width))
        y += max(one["gridPos"]["h"] for one in made[-len(row) :])
    return made


def dashboard_json(name: str, rows: list[list[Panel]]) -> dict[str, Any]:
    return {
        "uid": f"octavo-{name}",
        "title": f"Octavo: {name}",
        "tags": ["octavo"],
        "schemaVersion": 39,
        "timezone": "browser",
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "links": [{"type": "dashboards", "tags": ["octavo"], "title": "Octavo", "keepTime": True}],
        "templating": {
            "list": [
                {
                    "name": "instance",
                    "type": "query",
                    "datasource": SOURCE,
                    "query": "label_values(vllm:num_requests_running, instance)",
                    "refresh": 2,
                    "includeAll": True,
                    "multi": True,
                    "allValue": ".*",
                    "current": {"text": "All", "value": "$__all"},
                }
            ]
        },
        "panels": panels_json(rows),
    }


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, rows in DASHBOARDS.items():
        text = json.dumps(dashboard_json(name, rows), indent=1)
        (FOLDER / f"{name}.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
