"""Writes docs/metrics.md: every metric with what it says of itself, and how they are scraped and shown.

PYTHONPATH=plugins python -m include.reference.metrics
"""

import sys
from collections.abc import Iterator
from pathlib import Path

from learning_engine.web import metrics

PAGE = Path(__file__).resolve().parents[2] / "docs" / "metrics.md"
HEAD = """\
# Metrics

<!-- Written by `make docs` from include/reference/metrics.py and the HELP texts of plugins/learning_engine/web/. -->

`/learning-engine/metrics` of Airflow's api-server tells Prometheus what the bucket knows; each scrape lists the bucket
once. Whether the model server's replicas answer is not asked here: `/learning-engine/health` does that.

## Scrape

Prometheus does not log in: set `web.token` to a random text of at least 16 characters, by
`LEARNING_ENGINE__WEB__TOKEN` where the api-server runs, and put the same text into a file that Prometheus can read.

```yaml
rule_files:
  - alerts.yaml
scrape_configs:
  - job_name: learning-engine
    metrics_path: /learning-engine/metrics
    scrape_interval: 1m
    scrape_timeout: 30s
    authorization:
      credentials_file: /etc/prometheus/learning-engine.token
    static_configs:
      - targets: ["airflow.example.com:8080"]
```

Older Prometheus has `bearer_token_file` in place of `authorization`; add `scheme: https` where Airflow has it. Several
api-servers tell the same: scrape one, or the address before them.

```bash
openssl rand -hex 32 > learning-engine.token
curl -H "Authorization: Bearer $(cat learning-engine.token)" http://airflow.example.com:8080/learning-engine/metrics
```

## Alerts and dashboard

`include/prometheus/alerts.yaml` holds the rules: nothing scraped for 15 minutes, no new version for 10 days, a version
that the gate rejected, a live version that is lost, records that cannot be read, a rollback, a training that says
nothing for 10 minutes, a bucket that grows by half within a week. Each says what to look at.

`include/grafana/learning-engine.json` is the dashboard, for Grafana 11 and later: Dashboards, New, Import, and choose
the Prometheus above as its data source. Deployments and rollbacks are marked in every graph.

## Every metric

One that was not measured, or has nothing to tell of, is absent and never 0. Labels have few values: reasons and rules
that this version of the package does not know are `other`, and `version` is that of the newest version, so that each
week ends the series of the week before.
"""


def page() -> str:
    """The whole of docs/metrics.md."""
    return "\n".join([HEAD, "| metric | type | labels | |", "|---|---|---|---|", *_rows()]) + "\n"


def _rows() -> Iterator[str]:
    for metric in metrics.described():
        name = metric.name + "_total" * (metric.type == "counter")
        labels = ", ".join(f"`{label}`" for label in metric._labelnames)
        yield f"| `{name}` | {metric.type} | {labels} | {metric.documentation} |"


def main() -> int:
    PAGE.write_text(page(), encoding="utf-8")
    print(f"  {PAGE.name} is new")
    return 0


if __name__ == "__main__":
    sys.exit(main())
