"""The documentation is whole: every public name is explained and in the reference, its code runs, and is typed."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import json
import os
import pkgutil
import re
import subprocess
import sys
import tomllib
import zlib
from pathlib import Path
from types import ModuleType

import pytest
import torch

import caveat

from .stages import FOREIGN_WARNINGS, find_stage

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PACKAGES = [found.name for found in pkgutil.iter_modules(caveat.__path__) if not found.name.startswith("_")]
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
QUIET = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}  # about the theme's makers, not the site


def public(module: ModuleType) -> list[str]:
    """The names in ``__all__``; of a single file without one, what it defines."""
    if hasattr(module, "__all__"):
        return list(module.__all__)
    own = {name: value for name, value in vars(module).items() if not name.startswith("_")}
    return [name for name, value in own.items() if getattr(value, "__module__", None) == module.__name__]


def undocumented(module: ModuleType) -> list[str]:
    """The public classes and functions without a docstring of their own, and such methods of classes."""
    bare: list[str] = []
    for name in public(module):
        thing = getattr(module, name)
        if inspect.isclass(thing):
            inherited = next((base.__doc__ for base in thing.__mro__[1:] if base.__doc__), None)
            if not thing.__doc__ or thing.__doc__ == inherited or thing.__doc__.startswith(f"{name}("):
                bare.append(name)
            methods = [key for key, value in vars(thing).items() if key[0] != "_" and callable(value)]
            bare += [f"{name}.{key}" for key in methods if not inspect.getdoc(getattr(thing, key))]
        elif inspect.isroutine(thing) and not inspect.getdoc(thing):
            bare.append(name)
    return bare


def blocks(path: Path, *, stage: str) -> list[tuple[int, str]]:
    """(line, code) of the Python blocks of a page that run in a stage.

    Without heavy libraries those are the blocks before the first one that imports any; where they are installed,
    the whole page, in its order. Empty where the page has no block of this very stage.
    """
    text = path.read_text()
    found = [(text.count("\n", 0, match.start(1)), match.group(1)) for match in BLOCK.finditer(text)]
    stages = [find_stage(code) for _, code in found]
    if stage not in stages:
        return []
    light = next((k for k, one in enumerate(stages) if one != "fast"), len(found))
    return found[:light] if stage == "fast" else found


def run_blocks(path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, *, stage: str) -> None:
    """Run a page's blocks one after another in an empty folder, as a reader would; tracebacks name page and line."""
    monkeypatch.chdir(folder)
    space: dict[str, object] = {"__name__": "__page__"}
    for line, code in blocks(path, stage=stage):
        exec(compile("\n" * line + code, str(path), "exec"), space)


def with_code(stage: str) -> list[pytest.ParameterSet]:
    return [pytest.param(path, id=str(path.relative_to(ROOT))) for path in PAGES if blocks(path, stage=stage)]


def test_every_name_of_the_public_face_has_a_docstring() -> None:
    assert not undocumented(caveat)


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_name_of_a_package_has_a_docstring(package: str) -> None:
    module = importlib.import_module(f"caveat.{package}")
    assert module.__doc__
    assert not undocumented(module)


@pytest.mark.filterwarnings("ignore:.*torch.jit.* is deprecated")  # linear_operator, below BoTorch, scripts on import
@pytest.mark.parametrize("path", with_code("fast"))
def test_the_code_of_a_page_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_blocks(path, tmp_path, monkeypatch, stage="fast")


@pytest.mark.heavy
@pytest.mark.filterwarnings(*FOREIGN_WARNINGS)
@pytest.mark.parametrize("path", with_code("heavy"))
def test_the_heavy_code_of_a_page_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_blocks(path, tmp_path, monkeypatch, stage="heavy")


@pytest.mark.frameworks
@pytest.mark.filterwarnings("ignore")  # of fastai's many libraries: pandas, IPython, TorchScript
@pytest.mark.parametrize("path", with_code("frameworks"))
def test_the_code_of_a_page_of_frameworks_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_blocks(path, tmp_path, monkeypatch, stage="frameworks")


@pytest.mark.slow
def test_the_site_builds_and_its_reference_is_whole(tmp_path: Path) -> None:
    """A strict build; its inventory holds every public name of every package, its index the public face."""
    # not --quiet: that would hide the warnings from --strict too
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    build = subprocess.run(command, cwd=ROOT, env=QUIET, capture_output=True, text=True, check=False)
    assert build.returncode == 0, build.stdout + build.stderr

    inventory = (tmp_path / "objects.inv").read_bytes().split(b"\n", 4)[4]
    entries = [line.split(" ", 2)[:2] for line in zlib.decompress(inventory).decode().splitlines()]
    listed = {(name, kind == "py:module") for name, kind in entries}
    packages = [importlib.import_module(f"caveat.{package}") for package in PACKAGES if package != "cli"]
    public_names = [(package, name) for package in packages for name in public(package)]
    wanted = [(f"{one.__name__}.{name}", inspect.ismodule(getattr(one, name))) for one, name in public_names]
    assert not [name for name in wanted if name not in listed]

    assert "at 4:  " in (tmp_path / "index.html").read_text()  # what the first block prints
    assert all((tmp_path / "pictures" / f"index-2-1-{shade}.svg").is_file() for shade in ("light", "dark"))
    assert "](how-to/decide/): A threshold says" in (tmp_path / "llms.txt").read_text()
    assert f"caveat {caveat.__version__}" in (tmp_path / "index.html").read_text().partition("</header>")[0]
    gallery = (tmp_path / "gallery" / "index.html").read_text()
    assert not [path for path in ROOT.glob("experiments/*/run.py") if f"{path.parent.name}/run.py" not in gallery]

    index = (tmp_path / "reference" / "index.html").read_text()
    assert "<blockquote>" not in index  # examples are code
    homes = {name: rf'href="[^"]*#caveat\.(\w+\.)?{name}"' for name in caveat.__all__}
    homeless = [name for name, home in homes.items() if not re.search(home, index)]
    assert not homeless, f"in caveat.__all__ and nowhere in the reference: {homeless}"


# -- links and spelling -----------------------------------------------------------------------------------------------

LINK = re.compile(r"\[[^]]*\]\(([^)\s]+)\)")


def anchors(page: Path) -> set[str]:
    """The addresses of a page's headings, as GitHub and mkdocs make them."""
    titles = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S), re.M)
    return {re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", title.lower()).strip()) for title in titles}


@pytest.mark.parametrize("page", [*PAGES, *ROOT.glob("*.md")], ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    """Files and headings of this repository; the pages that the build makes are checked by the strict build."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S)
    for address in LINK.findall(text):
        name, _, heading = address.partition("#")
        if "://" in name or "reference/" in name:
            continue
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), f"{page.name}: {address}"
        assert not heading or heading in anchors(target), f"{page.name}: {address}"


def test_words_are_spelled_as_in_american_english() -> None:
    """With the dictionary of common slips, and the one of British words; exceptions are in pyproject.toml."""
    pytest.importorskip("codespell_lib")
    pages = {*PAGES, *ROOT.glob("*.md"), *ROOT.glob("experiments/*/README.md")}
    files = [str(page.relative_to(ROOT)) for page in pages]
    command = [sys.executable, "-m", "codespell_lib", *files, "src", "examples", "docs/_outputs.py", "docs/_tables.py"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_code_of_a_page_is_as_wide_as_its_column(page: Path) -> None:
    code = "".join(re.findall(r"^```(?:python|py)\n(.*?)^```$", page.read_text(), re.M | re.S))
    assert [line for line in code.split("\n") if len(line) > 120] == []


# -- what the build puts under code ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def outputs() -> ModuleType:
    """The hook that runs pages; its file belongs to no package."""
    pytest.importorskip("mkdocs")
    spec = importlib.util.spec_from_file_location("outputs", ROOT / "docs" / "_outputs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_what_blocks_print_and_draw_is_collected(outputs: ModuleType) -> None:
    drawing = "from caveat import plot\nax = plot.plot_risk_coverage(([0.5, 1.0], [0.05, 0.1]), title='One')\n"
    first, second = outputs.run(["number = 41 + 1\n", drawing + "print(number)\n"], "page.md")
    assert first["printed"] == ""
    assert first["figures"] == []
    assert second["printed"] == "42\n"
    (figure,) = second["figures"]
    assert ">One</text>" in figure
    assert "#1b1d21" in figure
    assert "#1b1d21" not in outputs.darkened(figure)
    assert "#e6e8ec" in outputs.darkened(figure)


def test_a_page_stops_where_a_library_is_missing(outputs: ModuleType) -> None:
    codes = ["print('before')\n", "import not_there.at_all\n", "raise AssertionError('this must not run')\n"]
    before, at, after = outputs.run(codes, "page.md")
    assert before["printed"] == "before\n"
    assert before["note"] == ""
    assert "not_there" in at["note"]
    assert after == {"printed": "", "figures": [], "animations": [], "note": ""}


def test_running_a_page_leaves_folder_and_random_state(outputs: ModuleType) -> None:
    state, here = torch.random.get_rng_state(), Path.cwd()
    with pytest.raises(ZeroDivisionError):
        outputs.run(["import torch\ntorch.rand(3)\n1 / 0\n"], "page.md")
    assert torch.equal(state, torch.random.get_rng_state())
    assert Path.cwd() == here


def test_the_line_that_installs_brings_what_the_first_row_needs() -> None:
    """README's first table row runs after its install line: the command, tables, and models on the disk."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for page in (ROOT / "README.md", ROOT / "docs" / "index.md"):
        (line, *_) = re.findall(r'pip install "\.\[([a-z,]+)\]"', page.read_text())
        asked, brought = line.split(","), set[str]()
        while asked:
            for need in extras[asked.pop()]:
                inner = re.fullmatch(r"caveat\[(.+)\]", need)
                asked += inner[1].split(",") if inner else []
                brought.add(re.split(r"[\[<>=]", need)[0])
        assert {"typer", "rich", "safetensors", "scikit-learn", "matplotlib"} <= brought


# -- types -------------------------------------------------------------------------------------------------------------

KINDS = """
from typing import Any, assert_type

import torch
from numpy.typing import NDArray
from torch import nn

import caveat

model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 3))
x = torch.zeros(2, 4)
sampler = caveat.mc_dropout(model, output=caveat.Logits())
pred = caveat.predict(sampler, x, n=10, seed=0)
assert_type(pred, caveat.Categorical)
assert_type(pred.predicted, torch.Tensor)
assert_type(caveat.predict(sampler, x, n="auto"), caveat.Categorical)
assert_type(caveat.predict(caveat.ensemble([model], output=caveat.Mean()), x), caveat.Gaussian)
assert_type(caveat.predict(caveat.mixture([sampler, sampler]), x), caveat.Categorical)
assert_type(caveat.predict(caveat.deterministic(model, output=caveat.BinaryLogit()), x), caveat.Bernoulli)
for batch in caveat.predict_batches(sampler, [x], n=10, seed=1):
    assert_type(batch, caveat.Categorical)
assert_type(caveat.predictive.concatenate([pred, pred]), caveat.Categorical)
assert_type(caveat.draws(sampler, x), torch.Tensor)
assert_type(caveat.predict(caveat.samplers.moments(model, output=caveat.Logits()), x), caveat.Categorical)
assert_type(caveat.samplers.decompose_mixture(caveat.mixture([sampler]), x), dict[str, torch.Tensor])
heads = caveat.mc_dropout(model, output={"kind": caveat.Logits(), "size": caveat.Mean()})
assert_type(caveat.predict(heads, x), caveat.Heads)
assert_type(caveat.predict(heads, x)["kind"], caveat.predictive.Predictive)
assert_type(caveat.draws(heads, x), dict[str, Any])
class Classifying:
    classes_ = [0, 1]

net: Any = None
assert_type(caveat.interop.skorch_predict(Classifying(), [[1.0]]), caveat.Categorical)
assert_type(caveat.interop.skorch_predict(object(), [[1.0]]).interval(0.9)[0], torch.Tensor)
assert_type(caveat.interop.skorch_predict(net, [[1.0]], output=caveat.Logits()), caveat.Categorical)
assert_type(caveat.interop.fastai_predict(net, output=caveat.Logits()), caveat.Categorical)
regressor = caveat.tabular.Regressor()
assert_type(regressor.predict([[1.0]]), NDArray[Any])
assert_type(regressor.predict([[1.0]], return_std=True), tuple[NDArray[Any], NDArray[Any]])
"""


def errors_of(folder: Path, *, missing: str = "error") -> list[str]:
    """What pyright says in basic mode of the files of a folder, as a user's editor would."""
    settings = {"typeCheckingMode": "basic", "pythonVersion": "3.11", "extraPaths": [str(ROOT / "src")]}
    settings["reportMissingImports"] = missing
    (folder / "pyrightconfig.json").write_text(json.dumps(settings))
    command = [sys.executable, "-m", "pyright", "--pythonpath", sys.executable, "--outputjson", "-p", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    report = json.loads(done.stdout)
    assert report["summary"]["filesAnalyzed"] == len(list(folder.glob("*.py")))
    return [
        f"{Path(one['file']).name}:{one['range']['start']['line'] + 1}: {one['message']}"
        for one in report["generalDiagnostics"]
        if one["severity"] == "error"
    ]


@pytest.mark.slow
def test_the_kind_of_a_prediction_is_known(tmp_path: Path) -> None:
    (tmp_path / "kinds.py").write_text(KINDS)
    assert errors_of(tmp_path) == []


@pytest.mark.slow
def test_a_wrong_kind_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "kinds.py").write_text(KINDS.replace("caveat.Gaussian)", "caveat.Categorical)"))
    assert len(errors_of(tmp_path)) == 1


def write_page(page: Path, folder: Path, stages: tuple[str, ...]) -> None:
    """Write the blocks of a page into one file, each at its line."""
    lines = [""] * (page.read_text().count("\n") + 1)
    for line, code in [one for stage in stages for one in blocks(page, stage=stage)]:
        for number, text in enumerate(code.split("\n")):
            lines[line + number] = text
    (folder / f"{page.parent.name}_{page.stem}.py".replace("-", "_")).write_text("\n".join(lines))


@pytest.mark.slow
def test_code_of_the_documents_passes_as_a_users(tmp_path: Path) -> None:
    """The blocks of a page one after another, each at its line, and the examples as they are.

    Those of the heavy stage count where its libraries are installed; those of frameworks are below.
    """
    stages = ("fast", "heavy") if importlib.util.find_spec("transformers") else ("fast",)
    for page in PAGES:
        write_page(page, tmp_path, stages)
    examples = [one for one in (ROOT / "examples").glob("*.py") if find_stage(one.read_text()) in stages]
    for example in examples:
        (tmp_path / f"example_{example.name}").write_text(example.read_text())
    assert len([*tmp_path.glob("*.py")]) == len(PAGES) + len(examples)  # no page took another's name
    assert errors_of(tmp_path) == []


@pytest.mark.slow
def test_code_for_frameworks_passes_as_a_users_whose_they_are_not(tmp_path: Path) -> None:
    """What is taken from a library that is not installed may be anything; what is asked of caveat is known."""
    for page in PAGES:
        if blocks(page, stage="frameworks"):
            write_page(page, tmp_path, ("frameworks",))
    for example in (ROOT / "examples").glob("*.py"):
        if find_stage(example.read_text()) == "frameworks":
            (tmp_path / f"example_{example.name}").write_text(example.read_text())
    assert len([*tmp_path.glob("*.py")]) > 4
    assert errors_of(tmp_path, missing="none") == []
