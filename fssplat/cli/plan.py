"""`fssplat plan`: show which jobs a launch would run, and how long they would take."""

from pathlib import Path

import typer

from fssplat.cli.options import (
    EXPERIMENT,
    GANTT,
    SET,
    SHOW_CONFIG,
    require_png,
    show_config,
    writing,
)
from fssplat.common.printing import say

GPUS = typer.Option(
    None,
    min=0,
    max=10_000,
    help="Number of GPUs.  [default: those of this machine]",
    show_default=False,
)
LIMIT = typer.Option(
    "",
    metavar="TIME",
    help="Say how many GPUs finish everything within this time, e.g. 4h or 1-12:00:00.",
    show_default=False,
)
PRICE = typer.Option(
    "",
    metavar="PRICE",
    help="Say what it costs if one GPU costs this in an hour, e.g. 1.20/h",
    show_default=False,
)


def plan(
    experiment: Path = EXPERIMENT,
    changes: list[str] = SET,
    gpus: int = GPUS,
    limit: str = LIMIT,
    price: str = PRICE,
    gantt: Path | None = GANTT,
    as_json: bool = typer.Option(False, "--json", help="Print the plan as JSON, with every job."),
    config: bool = SHOW_CONFIG,
) -> None:
    """Show the jobs of a launch, their order and hours: fssplat plan X.yaml --gpus 8"""
    if config:
        show_config([experiment], tuple(changes))
        return
    import json
    from dataclasses import asdict

    from fssplat.common.printing import Screen
    from fssplat.launching.checks import check_data, check_weights, data_is_here
    from fssplat.launching.launch import Request, plan_from
    from fssplat.planning import gantt as chart
    from fssplat.planning import packing, plan_table
    from fssplat.planning.limit import limit_line, need, parse_limit

    require_png(gantt)
    limit_s = parse_limit(limit) if limit else None
    hourly = plan_table.parse_price(price) if price else None
    machine = packing.this_machine() if gpus is None else packing.machine_with_gpus(gpus)
    planned, _ = plan_from(Request(experiment, tuple(changes)), machine)
    unchecked = check_weights(planned)
    if data_is_here(planned):
        check_data(planned)
    if as_json:
        facts = plan_table.as_json(planned)
        if limit_s is not None:
            facts["limit"] = {"hours": limit_s / 3600, **asdict(need(planned, limit_s))}
        if hourly is not None:
            facts["price"] = hourly * planned.work_s / 3600
        say(json.dumps(facts, indent=1))
    else:
        Screen().print(plan_table.plan_table(planned))
        if limit_s is not None:
            Screen().print(limit_line(planned, limit_s), soft_wrap=True)
        if hourly is not None:
            Screen().print(plan_table.price_line(planned, hourly), soft_wrap=True)
        for line in unchecked:
            say(line)
    if gantt is not None:
        with writing(gantt):
            chart.draw_plan(planned, gantt)
