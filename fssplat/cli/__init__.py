"""What can I type? One module per command, and this list of them.

Commands import heavy modules inside their functions, so that `fssplat --help` is fast.
"""

import os
import sys
from collections.abc import Callable

import typer

from fssplat import __version__
from fssplat.cli import (
    compare,
    data,
    doctor,
    gc,
    import_checkpoint,
    init,
    json_schema,
    launch,
    logs,
    methods,
    models,
    options,
    plan,
    predict,
    report,
    rescore,
    retry,
    search,
    serve,
    settings,
    show,
    slurm,
    status,
    stop,
    sync,
    time,
    ui,
    verify,
)
from fssplat.cli.unknown_command import Commands
from fssplat.cli.usage import USAGE_ERRORS, usage_line
from fssplat.common.errors import InputError, RayLostError, StoreAwayError
from fssplat.common.passwords import hidden
from fssplat.common.printing import complain, say

app = typer.Typer(
    no_args_is_help=True,
    cls=Commands,
    rich_markup_mode=None,  # help has brackets, which Rich would take for markup; and it is faster
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    help="Few-shot segmentation experiments: from a grid in YAML to a table of results.",
    epilog="Start with: fssplat launch experiments/quickstart.yaml",
)
app.add_typer(data.app, name="data")
app.add_typer(init.app, name="init")
COMMANDS: tuple[Callable[..., None], ...] = (
    launch.launch,
    plan.plan,
    slurm.slurm,
    search.search,
    status.status,
    logs.logs,
    report.report,
    compare.compare,
    rescore.rescore,
    show.show,
    retry.retry,
    stop.stop,
    sync.sync,
    gc.gc,
    time.time,
    ui.ui,
    import_checkpoint.import_checkpoint,
    verify.verify,
    methods.methods,
    settings.settings,
    json_schema.schema,
    doctor.doctor,
    predict.predict,
    serve.serve,
    models.models,
    models.export,
)
RERUNNING = (launch.launch, verify.verify)  # commands with the option --rerun
for command in COMMANDS:
    app.command(cls=options.RerunCommand if command in RERUNNING else None)(command)
app.command("import")(models.import_model)


@app.callback(invoke_without_command=True)
def version(
    context: typer.Context,
    show: bool = typer.Option(False, "--version", "-V", help="Print the version and exit."),
) -> None:
    """Few-shot segmentation experiments: from a grid in YAML to a table of results."""
    if show:
        say(__version__)
        raise typer.Exit
    _ = context


def main() -> None:
    """Run `fssplat`. A wrong input is reported in one line on stderr, with exit code 2."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    try:
        code = app(standalone_mode=False)
    except (InputError, StoreAwayError) as error:
        complain(hidden(str(error)))
        sys.exit(2)
    except USAGE_ERRORS as error:
        line = usage_line(error, typer.main.get_command(app))
        complain(hidden(line)) if line else error.show()
        sys.exit(error.exit_code)
    except typer.Abort:
        sys.exit(1)
    except RayLostError:
        sys.stdout.flush()
        os._exit(1)  # threads that block in Ray would keep the process
    if isinstance(code, int):  # of typer.Exit
        sys.exit(code)
