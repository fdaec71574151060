"""The commands of `caveat` and their options."""

from __future__ import annotations

import webbrowser
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from caveat._extras import require
from caveat._plain import finite_or_none
from caveat.cli._arguments import check_at_least, check_draws
from caveat.cli._interrupts import Unwound
from caveat.cli._named_functions import import_function, make_model_and_batch
from caveat.cli._serve._command import serve
from caveat.cli._tabular_commands import register as register_table_commands
from caveat.cli._terminal import AsJson, print_json
from caveat.errors import CaveatError, InvalidArgumentError, explain_no_run

app = typer.Typer(
    name="caveat",
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="Uncertainty of PyTorch networks.\n\nExample: [bold]caveat demo --digit 6[/bold]",
)


def _print_version(asked: bool) -> None:
    if asked:
        print(f"caveat {version('caveat')}")
        raise typer.Exit


@app.callback()
def caveat(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Holds the options of `caveat` itself."""


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for report.html, the pictures and numbers.json.")] = Path(
        "caveat-demo"
    ),
    data: Annotated[
        Path | None,
        typer.Option(help="Folder with MNIST as train.npz and test.npz, instead of scikit-learn's digits."),
    ] = None,
    digit: Annotated[
        int, typer.Option(help="Turn the first test image of this class (0 to 9) that is classified correctly.")
    ] = 1,
    index: Annotated[int | None, typer.Option(help="Turn this test image instead, counted from 0.")] = None,
    draws: Annotated[int | None, typer.Option(help="Number of draws at each angle; 1000 if not given.")] = None,
    epochs: Annotated[
        int | None, typer.Option(help="Passes over the training digits; chosen by their number if not given.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Random seed for training and draws.")] = 0,
    threads: Annotated[
        int, typer.Option(help="Threads to compute with; with 1, results do not depend on the number of cores.")
    ] = 1,
    quick: Annotated[
        bool, typer.Option("--quick", help="Take a few seconds only: fewer digits, less training, 40 draws.")
    ] = False,
    as_json: AsJson = False,
    open_report: Annotated[bool, typer.Option("--open/--no-open", help="Show the report in the browser.")] = False,
) -> None:
    """Train a small network on digits, turn one through a full circle, and see when it says "not sure".

    Example: [bold]caveat demo --digit 6 --out six --open[/bold]
    """
    if not 0 <= digit <= 9:
        raise InvalidArgumentError(f"--digit must be a class in 0..9; got {digit}.")
    check_draws(draws)
    check_at_least(1, epochs=epochs, threads=threads)
    check_at_least(0, index=index)
    for module in ("matplotlib", "sklearn"):
        require(module, "demo")
    from caveat.cli._demo._files import as_json as numbers
    from caveat.cli._demo._files import demo_folder, write_files
    from caveat.cli._demo._settings import Settings
    from caveat.cli._demo._story import prepare, run_demo
    from caveat.cli._demo._terminal import print_result, progress_bar

    settings = Settings(data, digit, index, draws, epochs, seed, quick, threads)
    digits, plan = prepare(settings)
    with demo_folder(out), progress_bar(Console(stderr=True)) as stage:
        result = run_demo(settings, digits, plan, stage)
        written = write_files(result, out, stage)
    if as_json:
        print_json(numbers(result))
    else:
        print_result(Console(), result)
        print(f"\nReport: {written[0]}\nBeside it: {', '.join(path.name for path in written[1:])}")
    if open_report:
        webbrowser.open(written[0].resolve().as_uri())


@app.command()
def audit(
    target: Annotated[
        str, typer.Argument(metavar="MODULE:FUNCTION", help="A function that returns (model, example_input).")
    ],
    as_json: AsJson = False,
) -> None:
    """List every place in a model that could draw randomness, and whether it does.

    Example: [bold]caveat audit my_project.networks:make_network[/bold]
    """
    with Unwound():
        model, example = make_model_and_batch(target)
        from caveat._intercept import audit as audit_network

        try:
            found = audit_network(model, example)
        except CaveatError:
            raise
        except Exception as error:
            raise InvalidArgumentError(explain_no_run(error)) from error
    if not as_json:
        print(found)
        return
    sites = finite_or_none([asdict(site) for site in found])
    listed = {"schema": "caveat-audit-1", "sites": sites, "live": len(found.live), "notes": list(found.notes)}
    print_json(listed)


@app.command()
def doctor(
    target: Annotated[
        str,
        typer.Argument(
            metavar="MODULE:FUNCTION", help="A function that returns (model, batch), or a model if BATCH is given."
        ),
    ],
    batch: Annotated[
        str | None, typer.Argument(metavar="BATCH", help="A function that returns a batch, MODULE:FUNCTION.")
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(help="Your own predict(model, x) that returns its T outputs (T, B, ...), as MODULE:FUNCTION."),
    ] = None,
    n: Annotated[int, typer.Option(help="Number of caveat's draws to compare the recipe with.")] = 1000,
    seed: Annotated[
        int, typer.Option(help="Random seed for the draws, and for the process while the recipe runs.")
    ] = 0,
    stochastic_depth: Annotated[
        bool, typer.Option("--stochastic-depth", help="Accept stochastic depth: do not report it as a fault.")
    ] = False,
    ignore: Annotated[
        list[str] | None, typer.Option(help="Name of a fault to accept; may be given several times.")
    ] = None,
    html: Annotated[Path | None, typer.Option(help="Write the findings as an HTML page here, too.")] = None,
    as_json: AsJson = False,
) -> int:
    """Say what a recipe for Monte-Carlo dropout misses and damages: each fault by name, with its fix.

    Ends with 0 if no fault was found, with 1 if there are some, with 2 if nothing could be examined.

    Example: [bold]caveat doctor my_project.networks:make --recipe my_project:mc_predict --html doctor.html[/bold]
    """
    for name in (target, batch, recipe):
        if name is not None:
            with Unwound():
                import_function(name)
    from caveat.cli._doctor_command import FAULTY, examine, print_diagnosis, write_page

    found = examine(target, batch, recipe, n=n, seed=seed, stochastic_depth=stochastic_depth, ignore=ignore or [])
    if html is not None:
        write_page(html, found, target, recipe)
    if as_json:
        print(found.to_json())
    else:
        print_diagnosis(Console(), found)
    return FAULTY if found.faults else 0


@app.command()
def playground(
    model: Annotated[Path | None, typer.Argument(metavar="[MODEL]", help="A folder that `caveat fit` wrote.")] = None,
    data: Annotated[Path | None, typer.Argument(metavar="[DATA]", help="A table with the model's target.")] = None,
    port: Annotated[int, typer.Option(help="Port to serve the page on; 0 picks a free one.")] = 8765,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Show the page in the browser.")] = True,
) -> None:
    """Open a page to play with: train a network on points of your own, turn digits, move your model's threshold.

    Example: [bold]caveat playground model test.csv[/bold]
    """
    require("sklearn", "playground")
    from caveat.cli._playground._serving import serve_page

    serve_page(Path.cwd(), model, data, port=port, browser=browser)


register_table_commands(app)
app.command()(serve)
