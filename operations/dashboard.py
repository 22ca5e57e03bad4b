"""Writes dashboard.json, the dashboard for Grafana: `python operations/dashboard.py`."""

import json
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("dashboard.json")
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
OURS = '{application=~"$application"}'
RATE = "[$__rate_interval]"
WIDTH, HEIGHT = 8, 8  # of a panel; a row has 24 units


def query(expression: str, legend: str) -> tuple[str, str]:
    return expression.replace("@", OURS).replace("#", RATE), legend


def quantiles(metric: str, by: str = "", shares: tuple[float, ...] = (0.5, 0.95, 0.99)) -> list[tuple[str, str]]:
    labels, prefix = (f"{by}, le", f"{{{{{by}}}}} ") if by else ("le", "")
    return [
        query(f"histogram_quantile({share}, sum by ({labels}) (rate({metric}_bucket@#)))", f"{prefix}{share:.0%}")
        for share in shares
    ]


# Rows: a title, and panels: title, unit, queries.
ROWS: list[tuple[str, list[tuple[str, str, list[tuple[str, str]]]]]] = [
    (
        "Identifications",
        [
            (
                "Identifications by outcome",
                "reqps",
                [query("sum by (outcome) (rate(ray_aitax_identifications_total@#))", "{{outcome}}")],
            ),
            ("Time until the answer", "s", quantiles("ray_aitax_identification_seconds")),
            (
                "Errors by status",
                "reqps",
                [
                    query(
                        'sum by (status) (rate(ray_aitax_identifications_total{application=~"$application", '
                        'outcome="error"}#))',
                        "{{status}}",
                    )
                ],
            ),
            ("Time by part, 95 %", "s", quantiles("ray_aitax_part_seconds", "part", (0.95,))),
            (
                "Refusals by reason",
                "reqps",
                [query("sum by (reason) (rate(ray_aitax_refusals_total@#))", "{{reason}}")],
            ),
            (
                "Identifications by format",
                "reqps",
                [query("sum by (format) (rate(ray_aitax_identifications_total@#))", "{{format}}")],
            ),
        ],
    ),
    (
        "Do the photographs still fit the engine?",
        [
            (
                "Share of answers by outcome",
                "percentunit",
                [
                    query(
                        'sum by (outcome) (increase(ray_aitax_identifications_total{application=~"$application", '
                        'outcome=~"accepted|unsure|rejected"}[6h])) / ignoring (outcome) group_left () '
                        'sum (increase(ray_aitax_identifications_total{application=~"$application", '
                        'outcome=~"accepted|unsure|rejected"}[6h]))',
                        "{{outcome}}",
                    )
                ],
            ),
            ("Score of the best species", "short", quantiles("ray_aitax_top_score", "", (0.1, 0.5, 0.9))),
            (
                "Similarity to the nearest photograph",
                "short",
                quantiles("ray_aitax_nearest_similarity", "", (0.1, 0.5, 0.9)),
            ),
            (
                "Replicas by engine",
                "short",
                [query("count by (application, version) (ray_aitax_engine_info@ == 1)", "{{application}} {{version}}")],
            ),
            (
                "Engines that could not be used",
                "short",
                [query("sum by (application) (ray_aitax_engine_failures_total@)", "{{application}}")],
            ),
            (
                "Photographs fetched by their URL",
                "reqps",
                [query("sum by (outcome) (rate(ray_aitax_fetches_total@#))", "{{outcome}}")],
            ),
        ],
    ),
    (
        "Load",
        [
            (
                "Requests and photographs that wait",
                "short",
                [
                    query("sum (ray_aitax_waiting_requests@)", "requests"),
                    query("sum (ray_aitax_decoding_photographs@)", "photographs to decode"),
                ],
            ),
            (
                "Bytes in memory",
                "bytes",
                [
                    query("sum (ray_aitax_body_bytes@)", "bodies"),
                    query("sum (ray_aitax_decoding_bytes@)", "to decode"),
                ],
            ),
            ("Photographs in a run of the network", "short", quantiles("ray_aitax_batch_photographs")),
            (
                "Decoders that ended, calls that were repeated",
                "reqps",
                [
                    query("sum by (reason) (rate(ray_aitax_decoder_failures_total@#))", "decoder: {{reason}}"),
                    query("sum by (target) (rate(ray_aitax_retries_total@#))", "repeated: {{target}}"),
                ],
            ),
            (
                "Replicas",
                "short",
                [
                    query("sum by (deployment) (ray_serve_deployment_replica_healthy@)", "{{deployment}} healthy"),
                    query("max by (deployment) (ray_serve_autoscaling_target_replicas@)", "{{deployment}} wanted"),
                ],
            ),
            (
                "Requests at a replica",
                "short",
                [query("max by (deployment) (ray_serve_replica_processing_queries@)", "{{deployment}}")],
            ),
        ],
    ),
    (
        "Cluster",
        [
            ("Cores in use", "percent", [query("max by (ip) (ray_node_cpu_utilization)", "{{ip}}")]),
            (
                "Memory in use",
                "percentunit",
                [query("max by (ip) (ray_node_mem_used / ray_node_mem_total)", "{{ip}}")],
            ),
            ("Disk in use", "percent", [query("max by (ip) (ray_node_disk_utilization_percentage)", "{{ip}}")]),
            (
                "Object store in use",
                "bytes",
                [
                    query("sum by (NodeAddress) (ray_object_store_used_memory)", "{{NodeAddress}}"),
                    query(
                        'sum by (NodeAddress) (ray_spill_manager_objects_bytes{State="Spilled"})',
                        "{{NodeAddress}} on disk",
                    ),
                ],
            ),
            (
                "Network",
                "Bps",
                [
                    query("max by (ip) (ray_node_network_receive_speed)", "{{ip}} in"),
                    query("max by (ip) (ray_node_network_send_speed)", "{{ip}} out"),
                ],
            ),
            ("Tasks by state", "short", [query("sum by (State) (ray_tasks)", "{{State}}")]),
        ],
    ),
]


def panel(number: int, title: str, unit: str, queries: list[tuple[str, str]], x: int, y: int) -> dict[str, Any]:
    """Draw queries over time."""
    return {
        "id": number,
        "type": "timeseries",
        "title": title,
        "datasource": SOURCE,
        "gridPos": {"h": HEIGHT, "w": WIDTH, "x": x, "y": y},
        "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}},
        "targets": [
            {"refId": chr(65 + place), "datasource": SOURCE, "expr": expression, "legendFormat": legend}
            for place, (expression, legend) in enumerate(queries)
        ],
    }


def dashboard() -> dict[str, Any]:
    """Make the model of the dashboard."""
    panels: list[dict[str, Any]] = []
    y = 0
    for title, drawn in ROWS:
        grid = {"h": 1, "w": 24, "x": 0, "y": y}
        panels.append({"id": len(panels) + 1, "type": "row", "title": title, "gridPos": grid, "panels": []})
        for place, each in enumerate(drawn):
            down, across = divmod(place, 24 // WIDTH)
            panels.append(panel(len(panels) + 1, *each, across * WIDTH, y + 1 + down * HEIGHT))
        y += 1 + HEIGHT * -(-len(drawn) // (24 // WIDTH))
    application = {
        "name": "application",
        "label": "Application",
        "type": "query",
        "datasource": SOURCE,
        "query": {"query": "label_values(ray_aitax_engine_info, application)", "refId": "applications"},
        "refresh": 2,
        "includeAll": True,
        "multi": True,
        "current": {"text": "All", "value": "$__all"},
    }
    return {
        "uid": "aitax",
        "title": "aitax",
        "tags": ["aitax", "ray"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {"list": [{"name": "datasource", "type": "datasource", "query": "prometheus"}, application]},
        "panels": panels,
    }


def text() -> str:
    """Write the model as JSON."""
    return json.dumps(dashboard(), indent=1) + "\n"


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")
