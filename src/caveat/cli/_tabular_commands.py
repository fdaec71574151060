"""The commands for tables and pictures: `fit`, `predict`, `evaluate`, `decide` and `calibrate`, and their options."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, cast

import typer
from rich.console import Console

from caveat._extras import check_installed
from caveat._goal import Goal, check_aims
from caveat.cli._arguments import (
    FitRequest,
    are_pictures,
    check_at_least,
    check_data,
    check_draws,
    check_fit,
    check_level,
    check_method,
    check_model,
    require_none,
    threads_set,
)
from caveat.cli._terminal import AsJson, bare_table, print_json, share_bar
from caveat.errors import InvalidArgumentError

MostRows = Annotated[int, typer.Option(min=2, help="Largest number of rows to use; of a larger file, a random sample.")]
Threads = Annotated[
    int | None, typer.Option(help="Threads to compute with; if not given, one for a small table, else one per core.")
]
Folder = Annotated[Path, typer.Argument(metavar="MODEL", help="A folder that `caveat fit` wrote.")]
ToLearnFrom = Annotated[
    Path,
    typer.Argument(
        metavar="DATA",
        help="A table: .csv, .jsonl (.gz too), .parquet, .feather; "
        "or pictures: a folder of class folders, or a CSV with paths in its first column.",
    ),
]
Labeled = Annotated[
    Path, typer.Argument(metavar="DATA", help="Rows with the target that the model was not trained on.")
]
Advance = Callable[[float], None]
_YES_NO = {"True": "yes", "False": "no"}


def fit(
    data: ToLearnFrom,
    out: Annotated[Path, typer.Option(help="Folder to save the model in; a model that is there is replaced.")],
    target: Annotated[
        list[str] | None,
        typer.Option(help="Column to predict; repeat it for several numbers. Not for class folders."),
    ] = None,
    kind: Annotated[
        str | None,
        typer.Option(
            help="What to predict: classes or numbers. If not given, text and a few whole numbers are classes."
        ),
    ] = None,
    drop: Annotated[
        list[str] | None, typer.Option(help="Column to leave out, such as an identifier; may be given several times.")
    ] = None,
    category: Annotated[
        list[str] | None, typer.Option(help="Column of categories that look like numbers; may be given several times.")
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(
            help="Method: ensemble (if not given), mc_dropout, concrete_dropout or sngp for tables; "
            "ensemble or mc_dropout for pictures."
        ),
    ] = None,
    members: Annotated[int, typer.Option(help="Number of networks in an ensemble.")] = 5,
    draws: Annotated[int, typer.Option(help="Number of draws behind each prediction.")] = 100,
    epochs: Annotated[int | None, typer.Option(help="Largest number of passes over the rows.")] = None,
    seed: Annotated[int, typer.Option(help="Random seed: the same rows and seed give the same model.")] = 0,
    backbone: Annotated[
        str | None, typer.Option(help="For pictures: name of the timm model whose features are used.")
    ] = None,
    size: Annotated[
        int | None, typer.Option(help="For pictures: pixels along a side; chosen by the pictures if not given.")
    ] = None,
    most_rows: MostRows = 1_000_000,
    threads: Threads = None,
    as_json: AsJson = False,
) -> None:
    """Train a model on a table or on pictures and save it, with a part of the rows held out to calibrate it.

    A run that was killed goes on where it stopped, when the same command is given again.

    Example: [bold]caveat fit houses.csv --target price --out model[/bold]
    """
    check_draws(draws)
    check_at_least(1, members=members, epochs=epochs, size=size, threads=threads)
    check_at_least(0, seed=seed)
    request = FitRequest(data, target or (), out, kind, drop or (), category or (), most_rows)
    check_fit(request)
    options: dict[str, Any] = {"members": members, "draws": draws, "epochs": epochs, "random_state": seed}
    with threads_set(threads, data):
        if are_pictures(data):
            check_method(method, "pictures")
            require_none({"--drop": drop, "--category": category}, "pictures")
            options |= {"method": method, "backbone": backbone, "size": size}
            _fit_pictures(request, options, as_json)
        else:
            check_method(method, "tables")
            require_none({"--backbone": backbone, "--size": size}, "tables")
            _fit_table(request, {**options, "method": method or "ensemble"}, as_json)


def _fit_pictures(request: FitRequest, options: dict[str, Any], as_json: bool) -> None:
    check_installed("PIL", "image")
    from caveat.cli._picture_commands import fit_pictures

    found = fit_pictures(request, options, verbose=not as_json)
    said = f"Model of {found['rows']:,} pictures in {request.out} ({found['seconds']:.0f} s)."
    _show(found, as_json, said)


def _fit_table(request: FitRequest, options: dict[str, Any], as_json: bool) -> None:
    check_installed("safetensors", "tabular")
    from caveat.cli._fit_command import column_lines, fit_file
    from caveat.cli._tabular_tested import TABLES

    with share_bar(f"Reading {request.data.name}") as advance:
        found = fit_file(request, TABLES.settings(**options), advance, verbose=not as_json)
    if not as_json:
        print("\n".join(column_lines(found["columns"])))
    said = f"Model of {found['rows']:,} rows in {request.out} ({found['seconds']:.0f} s)."
    _show(found, as_json, said, skip=("columns", "resumed"))


def predict(
    model: Folder,
    data: Annotated[
        Path, typer.Argument(metavar="DATA", help="Rows with the columns of the training data; no target needed.")
    ],
    out: Annotated[
        Path, typer.Option(help="File to write predictions to: .csv, .tsv or .jsonl; with --engine ray, a folder.")
    ],
    draws: Annotated[
        int | None,
        typer.Option(
            help="Number of draws for each row; if not given, the model's, which its intervals are calibrated for."
        ),
    ] = None,
    level: Annotated[float, typer.Option(help="Coverage of the intervals or sets of classes.")] = 0.9,
    keep: Annotated[
        list[str] | None,
        typer.Option(help="Column to copy to the output, such as an identifier; may be given several times."),
    ] = None,
    engine: Annotated[
        str, typer.Option(help="Where to compute: local, or ray (the cluster at RAY_ADDRESS, or this machine's cores).")
    ] = "local",
    workers: Annotated[
        int | None, typer.Option(help="Number of Ray workers; one per core of the cluster if not given.")
    ] = None,
    threads: Threads = None,
    as_json: AsJson = False,
) -> None:
    """Predict every row of a file of any size; a run that was killed goes on where it stopped.

    Example: [bold]caveat predict model new.csv --out predictions.csv[/bold]
    """
    check_level(level)
    check_draws(draws)
    check_at_least(1, workers=workers)
    if engine not in ("local", "ray"):
        raise InvalidArgumentError(f"--engine must be local or ray; got {engine}.")
    require_none({"--threads": threads} if engine == "ray" else {"--workers": workers}, f"--engine {engine}")
    if engine == "ray":
        check_installed("ray", "ray")
    with _working(f"Predicting {data.name}", model, data, threads) as advance:
        from caveat._kinds import package_of

        if package_of(model) == "image":
            from caveat.cli._picture_commands import predict_for_pictures

            require_none({"--keep": keep, "--engine ray": engine == "ray"}, "pictures")
            found = predict_for_pictures(model, data, out, draws=draws, level=level, advance=advance)
        elif engine == "ray":
            from caveat.cli._ray_engine import predict_file_by_ray

            asked: dict[str, Any] = {"draws": draws, "level": level, "keep": keep or ()}
            found = predict_file_by_ray(model, data, out, **asked, workers=workers, advance=advance)
        else:
            from caveat.cli._predict_command import predict_file

            found = predict_file(model, data, out, draws=draws, level=level, keep=keep or (), advance=advance)
    resumed = f", {found['resumed_at']:,} of them by an earlier run" if found["resumed_at"] else ""
    referred = found["decisions"]["refer"]
    said = f"{found['rows']:,} rows in {out}{resumed}" + (f"; {referred:,} to refer." if referred else ".")
    unreadable = found["decisions"].get("unreadable", 0)
    said += f" {unreadable:,} cannot be read or show nothing: see the column problem." if unreadable else ""
    said += _say_uncalibrated(found)
    _show(found, as_json, said, skip=tuple(found))


def evaluate(
    model: Folder,
    data: Labeled,
    report: Annotated[Path | None, typer.Option(help="Write a report with pictures here, as HTML.")] = None,
    draws: Annotated[int | None, typer.Option(help="Number of draws for each row; the model's if not given.")] = None,
    most_rows: MostRows = 200_000,
    threads: Threads = None,
    as_json: AsJson = False,
) -> None:
    """Score a model on rows it has not seen, with a report of how far to trust it.

    Example: [bold]caveat evaluate model test.csv --report report.html[/bold]
    """
    check_draws(draws)
    with _working(f"Evaluating on {data.name}", model, data, threads) as advance:
        from caveat.cli._evaluate_command import evaluate_file
        from caveat.cli._tabular_scores import describe_interval, describe_policy

        found = evaluate_file(model, data, report, draws=draws, most_rows=most_rows, advance=advance)
    if as_json:
        print_json(found)
        return
    table = bare_table(("metric", "value", "95 % interval"), left=("metric",))
    for one in found["metrics"].values():
        title = f"{one['title']}, {one['unit']}" if one["unit"] else one["title"]
        table.add_row(title, f"{one['value']:.4g}", describe_interval(one["low"], one["high"]))
    Console().print(table)
    print(f"Calibrated by: {found['calibration']}.")
    _say_left_out(found)
    if "policy" in found:
        print(f"Policy: {describe_policy(found['policy'])}.")
    if report is not None:
        print(f"Report: {report}")


def decide(
    model: Folder,
    data: Labeled,
    risk: Annotated[float | None, typer.Option(help="Largest fraction of wrong answers among those given.")] = None,
    human_cost: Annotated[
        float | None, typer.Option(help="Cost of referring a row to a person, where a wrong answer costs 1.")
    ] = None,
    budget: Annotated[float | None, typer.Option(help="Fraction of the rows that a person has time for.")] = None,
    tolerance: Annotated[
        float | None, typer.Option(help="For numbers: error above which an answer counts as wrong.")
    ] = None,
    confidence: Annotated[
        float | None, typer.Option(help="Probability that the risk holds on new rows; 0.95 if not given.")
    ] = None,
    measure: Annotated[
        str | None, typer.Option(help="Measure to rank rows by; total uncertainty if not given.")
    ] = None,
    most_rows: MostRows = 200_000,
    threads: Threads = None,
    as_json: AsJson = False,
) -> None:
    """Choose above which uncertainty rows are deferred to a person, and write it into the model.

    Example: [bold]caveat decide model validation.csv --risk 0.05[/bold]
    """
    goal = Goal(risk, human_cost, budget, tolerance, confidence, measure)
    check_aims(goal)
    with _working(f"Deciding on {data.name}", model, data, threads) as advance:
        from caveat.cli._decide_command import decide_file

        found = decide_file(model, data, goal, most_rows=most_rows, advance=advance)
    said = f"{found['coverage']:.1%} of the rows are answered, the others deferred; written into {model}."
    _show(found, as_json, said, skip=("unit",))


def calibrate(
    model: Folder,
    data: Labeled,
    most_rows: MostRows = 20_000,
    threads: Threads = None,
    as_json: AsJson = False,
) -> None:
    """Fit a model's probabilities and intervals to newer rows, without training again.

    Example: [bold]caveat calibrate model recent.csv[/bold]
    """
    with _working(f"Calibrating on {data.name}", model, data, threads) as advance:
        from caveat.cli._decide_command import calibrate_file

        found = calibrate_file(model, data, most_rows=most_rows, advance=advance)
    _show(found, as_json, f"Calibrated on {found['rows']:,} rows; written into {model}.")


def register(app: typer.Typer) -> None:
    """Put the commands into the application."""
    for command in (fit, predict, evaluate, decide, calibrate):
        app.command()(command)


@contextmanager
def _working(title: str, model: Path, data: Path, threads: int | None) -> Generator[Advance]:
    """A bar while a model works on data, after what can be said of them before torch is loaded."""
    check_at_least(1, threads=threads)
    check_model(model)
    check_data(data)
    check_installed("safetensors", "tabular")
    with threads_set(threads, data), share_bar(title) as advance:
        yield advance


def _say_uncalibrated(found: dict[str, Any]) -> str:
    """Returns what must be said of predictions that nothing calibrates, or nothing."""
    said = str(found.get("calibration", ""))
    return f" Calibration: {said}." if said.startswith("none") else ""


def _say_left_out(found: dict[str, Any]) -> None:
    """Print what was doubtful of the columns of a table, or how many pictures were left out, and the first of them."""
    left_out: dict[str, str] = found.get("left_out", {})
    for warning in found.get("warnings", []):
        print(f"warning: {warning}")
    if left_out:
        named = ", ".join(f"{name} ({why})" for name, why in list(left_out.items())[:5])
        more = f" and {len(left_out) - 5:,} more" if len(left_out) > 5 else ""
        print(f"Pictures left out: {len(left_out):,}: {named}{more}")


def _show(found: dict[str, Any], as_json: bool, said: str, skip: tuple[str, ...] = ()) -> None:
    if as_json:
        print_json(found)
        return
    _say_left_out(found)
    for name, value in found.items():
        if name in ("schema", "model", "left_out", "warnings", *skip) or value is None or value == []:
            continue
        if name == "threshold":  # with the digits of the predictions' column that it is compared with
            print(f"threshold: {value!r} (column uncertainty of the predictions, {found['unit']})")
            continue
        inner = cast("dict[str, Any]", value).items() if isinstance(value, dict) else [("", value)]
        print(f"{name.replace('_', ' ')}: {', '.join(_plain(*pair) for pair in inner)}")
    print(said)


def _plain(name: str, value: Any) -> str:
    """A number, or several, for people."""
    listed = cast("list[Any]", value) if isinstance(value, list) else [value]
    shown = ", ".join(f"{one:.5g}" if isinstance(one, float) else _YES_NO.get(str(one), str(one)) for one in listed)
    return f"{name.replace('_', ' ')} {shown}".strip()
