"""`fssplat slurm`: send a launch to SLURM."""

from pathlib import Path

import typer

from fssplat.cli.options import EXPERIMENT, SET

LIMIT = typer.Option("", "--time", metavar="LIMIT", help="E.g. 4h, 90m or 1-12:00:00.")
ARRAY = typer.Option(
    "",
    metavar="N",
    help="N small launches that share the jobs, each on its own node or part of one; 16%4 "
    "lets four run at the same time. `fssplat plan X.yaml --limit 4h` says how many.",
)
CONTAINER = typer.Option(
    "", metavar="IMAGE", help="Run in this image: .sif by apptainer, .sqsh by pyxis."
)
OTHERS = typer.Option(
    [],
    "--option",
    metavar="NAME=VALUE",
    help="A further option of sbatch, e.g. --option constraint=a100",
)
SETUP = typer.Option(
    [], metavar="LINE", help='A line to run first, e.g. --setup "module load cuda"'
)


def slurm(
    experiment: Path = EXPERIMENT,
    changes: list[str] = SET,
    partition: str = typer.Option("", help="The partition.  [default: the site's]"),
    limit: str = LIMIT,
    array: str = ARRAY,
    nodes: int = typer.Option(1, min=1, help="Nodes of one launch."),
    gpus: int = typer.Option(None, min=0, help="GPUs on each node.", show_default=False),
    cpus: int = typer.Option(None, min=1, help="Cores on each node.", show_default=False),
    mem: str = typer.Option("", metavar="SIZE", help="Memory on each node, e.g. 64G."),
    account: str = typer.Option("", help="Whose budget pays."),
    qos: str = typer.Option("", help="Quality of service."),
    container: str = CONTAINER,
    others: list[str] = OTHERS,
    setup: list[str] = SETUP,
    dry_run: bool = typer.Option(False, help="Check everything, print the script, send nothing."),
) -> None:
    """Send a launch to SLURM: fssplat slurm X.yaml --partition gpu --time 4h --gpus 1 --array 16

    Before its time limit a job writes checkpoints and is queued again; then it resumes.
    `fssplat slurm X.yaml --dry-run` prints the script, which sbatch takes as it is.
    """  # fmt: skip
    import sys

    from fssplat.common.passwords import hidden
    from fssplat.common.printing import command_line, say
    from fssplat.launching.batch.slurm import BatchOptions, batch_script, checked_plan, submit
    from fssplat.launching.launch import Request
    from fssplat.planning.limit import limit_line, parse_limit

    request = Request(experiment, tuple(changes))
    options = BatchOptions(
        name=request.load().name,
        limit_s=parse_limit(limit) if limit else None,
        array=array,
        nodes=nodes,
        gpus=gpus,
        cpus=cpus,
        partition=partition,
        account=account,
        qos=qos,
        mem=mem,
        container=container,
        others=tuple(others),
        setup=tuple(setup),
    )
    settings = [part for change in changes for part in ("--set", change)]
    typed = hidden(command_line(["fssplat", *sys.argv[1:]]))
    script = batch_script(options, typed, [str(experiment), *settings])
    plan = checked_plan(request, options)
    if dry_run:
        say(script, end="")
        return
    if options.limit_s is not None:
        say(limit_line(plan, options.limit_s))
    if not options.asks_for_gpus:
        say("No GPU is asked for; --gpus 1 asks for one on each node.")
    number = submit(script)
    say(f"Submitted batch job {number}. To follow it: {request.command('status')}")
