"""`fssplat doctor`: check what a launch needs from this machine."""

import typer

from fssplat.common.printing import say


def doctor() -> None:
    """Check Python, packages, GPU, weights, data, disks and ports: fssplat doctor

    Each line is ok, missing (needed by some experiments) or a problem with its remedy. The exit
    code is 1 if there is a problem. Takes at most 90 seconds and changes nothing.
    """
    from fssplat.cli.doctor_checks import PROBLEM, every_check
    from fssplat.cli.text_columns import columns

    problems = 0
    for found in every_check():
        problems += found.state == PROBLEM
        say(columns([(f"{found.state:<8} {found.name:<20}", found.text)], widest=40))
    say(f"Lines with a problem: {problems}" if problems else "No problem found.")
    if problems:
        raise typer.Exit(1)
