"""The argument and the option that all commands on an experiment share."""

import typer

EXPERIMENT = typer.Argument(help="An experiment file, e.g. experiments/quickstart.yaml")
SET = typer.Option(
    [], "--set", metavar="KEY=VALUE", help="Change a setting, e.g. --set training.steps=100"
)
