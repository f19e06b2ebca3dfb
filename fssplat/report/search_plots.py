"""Plots of a search: its history, the importance of its parameters, and where the good values are.

`plots.html` has all figures, interactive and without any network access; each one is a PNG, too.
"""

import html
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from fssplat.common.whole_files import write_whole

PAGE = "plots.html"
DOTS_PER_INCH = 110
WIDTH_PER_AXIS = 1.6  # inches in a PNG
MAX_WIDTH = 12.0  # inches of a PNG


@dataclass(frozen=True)
class Figure:
    """One figure, drawn twice by Optuna: `interactive` by plotly, `static` by matplotlib."""

    name: str  # of its PNG
    title: str
    interactive: Callable[[], Any]
    static: Callable[[], Any]


def write_plots(study: optuna.Study, folder: Path) -> list[Path]:
    """Write every figure for which the study has enough trials; returns the files, page first.

    With one objective: history, importance, parallel coordinates, slices. With several: their
    Pareto front, and the last three for each of them. Returns an empty list if no trial is
    finished.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        warnings.simplefilter("ignore", UserWarning)  # of layouts that do not fit, while drawing
        figures = list(_figures(study))
        if not figures:
            return []
        page = folder / PAGE
        text = _page(study.study_name, figures)
        write_whole(page, lambda path: _write(path, text))
        return [page, *(_save(figure, folder / f"{figure.name}.png") for figure in figures)]


def _figures(study: optuna.Study) -> Iterator[Figure]:
    """The figures that this study's finished trials can fill."""
    import optuna.visualization as interactive
    import optuna.visualization.matplotlib as static

    finished = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if not finished:
        return
    names = objectives(study)
    if len(names) > 1:
        yield Figure(
            "pareto_front",
            "Pareto front",
            lambda: interactive.plot_pareto_front(study, target_names=names),
            lambda: static.plot_pareto_front(study, target_names=names),
        )
    else:
        yield Figure(
            "history",
            "History",
            lambda: interactive.plot_optimization_history(study, target_name=names[0]),
            lambda: static.plot_optimization_history(study, target_name=names[0]),
        )
    for index, name in enumerate(names):
        yield from _of_objective(study, finished, index, name, several=len(names) > 1)


def _of_objective(
    study: optuna.Study, finished: list[FrozenTrial], index: int, name: str, several: bool
) -> Iterator[Figure]:
    """The figures of how the parameters influence one objective."""
    import optuna.visualization as interactive
    import optuna.visualization.matplotlib as static

    plots = [
        ("parallel_coordinate", "Parallel coordinates", "plot_parallel_coordinate"),
        ("slice", "Slices", "plot_slice"),
    ]
    if len({trial.values[index] for trial in finished}) > 1:  # equal values give no importance
        plots.insert(0, ("importance", "Importance of the parameters", "plot_param_importances"))
    if not any(trial.params for trial in finished):
        return
    chosen: dict[str, Any] = {"target_name": name}
    if several:
        chosen["target"] = lambda trial: trial.values[index]
    for file, title, call in plots:
        yield Figure(
            f"{file}_{_file_name(name)}" if several else file,
            f"{title}: {name}" if several else title,
            _call(getattr(interactive, call), study, chosen),
            _call(getattr(static, call), study, chosen),
        )


def _call(
    plot: Callable[..., Any], study: optuna.Study, chosen: dict[str, Any]
) -> Callable[[], Any]:
    return lambda: plot(study, **chosen)


def objectives(study: optuna.Study) -> list[str]:
    """The study's names; without any: `objective`, or `objective 0`, `objective 1`, ..."""
    if study.metric_names:
        return list(study.metric_names)
    count = len(study.directions)
    return ["objective"] if count == 1 else [f"objective {index}" for index in range(count)]


def _page(name: str, figures: list[Figure]) -> str:
    """One HTML page with all figures; it contains plotly's code once."""
    parts = []
    for index, figure in enumerate(figures):
        drawn = figure.interactive().update_layout(title_text="")
        code = drawn.to_html(
            full_html=False,
            include_plotlyjs=index == 0,
            div_id=figure.name,
            config={"displaylogo": False, "showSendToCloud": False},
        )
        parts.append(f"<h2>{html.escape(figure.title)}</h2>\n{code}")
    title = html.escape(f"Search {name}")
    body = "\n".join([f"<h1>{title}</h1>", *parts])
    head = f'<meta charset="utf-8"><title>{title}</title>'
    style = "<style>body{font-family:sans-serif;margin:2em auto;max-width:1200px}</style>"
    return f"<!doctype html>\n<html><head>{head}{style}</head>\n<body>{body}</body></html>\n"


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def _save(figure: Figure, path: Path) -> Path:
    """Save a figure as PNG, no wider than MAX_WIDTH and with all labels inside."""
    import matplotlib

    matplotlib.use("agg")  # writes files and never opens a window
    from matplotlib import pyplot

    pyplot.close("all")
    figure.static()
    drawn = pyplot.gcf()
    width, height = drawn.get_size_inches()
    needed = max(width, WIDTH_PER_AXIS * len(drawn.axes))
    drawn.set_size_inches(min(needed, MAX_WIDTH), height)
    write_whole(
        path,
        lambda temporary: drawn.savefig(
            temporary, format="png", dpi=DOTS_PER_INCH, bbox_inches="tight"
        ),
    )
    pyplot.close("all")
    return path


def _file_name(name: str) -> str:
    return "".join(letter if letter.isalnum() else "_" for letter in name)
