"""Depth at each pixel of rendered rooms whose noise is known: is what the network calls noise the noise?

The depth regression of "What Uncertainties Do We Need in Bayesian Deep Learning for Computer Vision?", Kendall and Gal,
2017, where every claim can be measured. Run: python experiments/kendall_2017_depth/run.py
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

sys.path.append(str(Path(__file__).parents[1]))  # what the experiments share lies beside them
from pictures import draw_maps, draw_noise, draw_spreads
from records import Experiment, Record, markdown, run
from scenes import Scenes, cone, cylinder, render
from unet import UNet, train

import caveat
from caveat.layers import MeanAndLogVarianceHead
from caveat.losses import gaussian_nll
from caveat.metrics import interval_coverage, miscalibration_area
from caveat.samplers import deterministic, ensemble

SIZES, MEMBERS = (20, 200, 2000), 3
SEEN, TESTED_ON, DRAWS = 28_000, 150, 20  # images that training sees in all; test rooms of each kind; passes
WIDTHS, RATE = (8, 16, 32, 64), 0.1
CENTER, SCALE = 5.0, 2.0  # meters: what the network returns is (depth - CENTER) / SCALE
METHODS = ("baseline", "aleatoric", "epistemic", "both", "both, by ensemble")
PLACES = ("rooms", "new shapes", "light from below")
EDGES = (0.0, 0.2, 0.3, 0.4, 0.5, 0.7, 1.0)  # bins of the true noise, meters


@functools.cache
def rooms(kind: str, count: int, seed: int) -> Scenes:
    """Rooms of one kind, in the network's unit but for the images."""
    options: dict[str, Any] = {"new shapes": {"solids": (cone, cylinder)}, "light from below": {"light_from": -1.0}}
    found = render(count, seed, **options.get(kind, {}))
    depth, measured = ((values - CENTER) / SCALE for values in (found.depth, found.measured))
    return replace(found, depth=depth, measured=measured, noise=found.noise / SCALE)


def compute(part: str, smoke: bool) -> Record:
    """Networks with dropout and a head for the noise, and of most rooms one without that head; read in every way."""
    size = int(part.split(" ")[0])
    count, seen, tested, draws, members = (16, 64, 4, 3, 2) if smoke else (size, SEEN, TESTED_ON, DRAWS, MEMBERS)
    layer = functools.partial(nn.Conv2d, kernel_size=1)
    own = rooms("rooms", 16 if smoke else max(SIZES), 0)
    own = replace(own, images=own.images[:count], measured=own.measured[:count])
    head = functools.partial(MeanAndLogVarianceHead, WIDTHS[0], layer=layer)
    networks = [trained(head, gaussian_nll, own, seen, seed) for seed in range(members)]
    output = caveat.MeanAndLogVariance()
    samplers: dict[str, list[tuple[Any, int]]] = {
        "aleatoric": [(deterministic(network, output=output), 1) for network in networks],
        "both": [(caveat.mc_dropout(network, output=output), draws) for network in networks],
        "both, by ensemble": [(ensemble(networks, output=output), members)],
    }
    if size == SIZES[-1]:
        mean_only = trained(functools.partial(layer, WIDTHS[0], 1), nn.functional.mse_loss, own, seen, 0)
        samplers |= constant_noise(mean_only, draws, tested)
    found: Record = {}
    for method, of_method in samplers.items():
        records: list[Record] = []
        for sampler, n in of_method:
            preds = {place: caveat.predict(sampler, rooms(place, tested, 1).images, n=n) for place in PLACES}
            records.append({place: scores(preds[place], rooms(place, tested, 1)) for place in PLACES})
            if method == "both" and sampler is of_method[0][0] and size == SIZES[-1] and not smoke:
                keep_maps(preds, tested)
        found[method] = {
            place: {key: [record[place][key] for record in records] for key in records[0][place]} for place in PLACES
        }
        if method == "both":
            found["noise"] = against_truth(preds["rooms"], rooms("rooms", tested, 1))  # of the last network
    return found


def constant_noise(network: nn.Module, draws: int, tested: int) -> dict[str, list[tuple[Any, int]]]:
    """A network that returns means alone: the variance of the noise is one number, of rooms that it has not seen."""
    found: dict[str, list[tuple[Any, int]]] = {}
    held = rooms("rooms", tested, 2)
    for method, make, n in (("baseline", deterministic, 1), ("epistemic", caveat.mc_dropout, draws)):
        mean: Any = caveat.predict(make(network, output=caveat.Mean()), held.images, n=n).mean
        variance = float((mean - held.measured).square().mean())
        found[method] = [(make(network, output=caveat.Mean(noise_variance=variance)), n)]
    return found


def keep_maps(preds: dict[str, Any], tested: int) -> None:
    """The first room of each kind, for the picture."""
    of_room = {place: maps(pred, rooms(place, tested, 1)) for place, pred in preds.items()}
    shown = {f"{place} {k}": one for place, own in of_room.items() for k, one in enumerate(own)}
    np.savez_compressed(Path(__file__).parent / "maps.npz", **shown)


def maps(pred: Any, test: Scenes, room: int = 0) -> list[np.ndarray]:
    """Image, depth, prediction, noise, aleatoric and epistemic standard deviation of one room, in meters."""
    depths = [CENTER + SCALE * depth[room, 0] for depth in (test.depth, pred.mean)]
    kinds = (test.noise, pred.aleatoric_variance.sqrt(), pred.epistemic_variance.sqrt())
    spreads = [SCALE * spread[room, 0] for spread in kinds]
    return [values.half().numpy() for values in (test.images[room], *depths, *spreads)]


def trained(head: Callable[[], nn.Module], loss: Any, own: Scenes, seen: int, seed: int) -> nn.Module:
    """One network; those who have fewer rooms see them more often."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = UNet(head(), WIDTHS, RATE)
    return train(network, loss, own.images, own.measured, images=seen, seed=seed)


def scores(pred: Any, test: Scenes) -> Record:
    """Of all pixels, in meters and nats."""
    error = pred.mean - test.depth
    low, high = pred.interval(0.9)
    found = {
        "RMSE": SCALE * error.square().mean().sqrt(),
        "log-likelihood": pred.log_prob(test.measured).double().mean() - np.log(SCALE),
        "coverage of 90 %": interval_coverage(low, high, test.measured),
        "miscalibration area": miscalibration_area(pred.cdf(test.measured)),
        "aleatoric": SCALE * pred.aleatoric_variance.sqrt().mean(),
        "epistemic": SCALE * pred.epistemic_variance.sqrt().mean(),
    }
    return {name: round(float(value), 4) for name, value in found.items()}


def against_truth(pred: Any, test: Scenes) -> Record:
    """The learned standard deviation of the noise over the true one."""
    ratio = pred.aleatoric_variance.sqrt() / test.noise
    inside = ~test.outline
    close = ((ratio - 1).abs() <= 0.15).double()
    place = torch.bucketize(test.noise * SCALE, torch.tensor(EDGES[1:-1]))
    striped = test.noise * SCALE > 0.1 * (test.depth * SCALE + CENTER)
    regions = {"everywhere": torch.ones_like(inside), "on outlines": ~inside, "off outlines": inside,
               "plain, off outlines": inside & ~striped, "striped, off outlines": inside & striped}  # fmt: skip
    return {
        "ratio": {name: round(float(ratio[own].median()), 4) for name, own in regions.items()},
        "within 15 %": {name: round(float(close[own].mean()), 4) for name, own in regions.items()},
        "by noise": [
            [round(float(values[place == bin].double().median()), 4) for values in (SCALE * test.noise, ratio)]
            for bin in range(len(EDGES) - 1)
            if bool((place == bin).any())
        ],
    }


# ------------------------------------------------------------------------------------------------ what is told of it


def mean(parts: dict[str, Record], size: int, *keys: str) -> float:
    """Over networks."""
    return float(np.mean(functools.reduce(lambda at, key: at[key], keys, parts[f"{size} rooms"])))


def sizes_of(parts: dict[str, Record]) -> list[int]:
    """Those that have been computed."""
    return [size for size in SIZES if f"{size} rooms" in parts]


def methods_of(parts: dict[str, Record], size: int) -> list[str]:
    return [method for method in METHODS if method in parts[f"{size} rooms"]]


def numbers(parts: dict[str, Record]) -> dict[str, float]:
    """What the claims are about."""
    found: dict[str, float] = {}
    for size in sizes_of(parts):
        of = functools.partial(mean, parts, size)
        for region in ("everywhere", "off outlines", "plain, off outlines", "striped, off outlines"):
            found[f"{size} rooms: learned over true noise, {region}"] = of("noise", "ratio", region)
        for method in methods_of(parts, size):
            for key in ("RMSE", "log-likelihood", "coverage of 90 %"):
                found[f"{size} rooms: {key}, {method}"] = of(method, "rooms", key)
        for method in ("both", "both, by ensemble"):
            for kind in ("aleatoric", "epistemic"):
                at_home = of(method, "rooms", kind)
                found[f"{size} rooms: {kind}, {method}"] = at_home
                for place in PLACES[1:]:
                    found[f"{size} rooms: {kind}, {place} over rooms, {method}"] = of(method, place, kind) / at_home
    return found


def table(parts: dict[str, Record]) -> str:
    """Methods; then what each uncertainty does with data and elsewhere; then the noise."""
    kinds = ("RMSE", "log-likelihood", "coverage of 90 %", "miscalibration area")
    most = sizes_of(parts)[-1]
    rows = [[m, *(f"{mean(parts, most, m, 'rooms', k):.3f}" for k in kinds)] for m in methods_of(parts, most)]
    lines = [markdown([f"trained on {most} rooms", *kinds], rows), ""]
    head = ["trained on", "tested on", "RMSE", "aleatoric, dropout", "epistemic, dropout", "aleatoric, ensemble",
            "epistemic, ensemble", "coverage of 90 %, dropout", "ensemble"]  # fmt: skip
    both = ("both", "both, by ensemble")
    rows = []
    for size in sizes_of(parts):
        for place in PLACES:
            of = functools.partial(mean, parts, size)
            spreads = [of(method, place, kind) for method in both for kind in ("aleatoric", "epistemic")]
            covered = [of(method, place, "coverage of 90 %") for method in both]
            cells = [of("both", place, "RMSE"), *spreads, *covered]
            rows.append([f"{size} rooms", place, *(f"{value:.3f}" for value in cells)])
    lines += [markdown(head, rows), ""]
    regions = ("everywhere", "on outlines", "off outlines", "plain, off outlines", "striped, off outlines")
    rows = []
    for size in sizes_of(parts):
        pairs = [[mean(parts, size, "noise", key, region) for key in ("ratio", "within 15 %")] for region in regions]
        rows.append([f"{size} rooms", *(f"{ratio:.2f} ({100 * close:.0f} %)" for ratio, close in pairs)])
    return "\n".join([*lines, markdown(["learned noise over true noise", *regions], rows)])


def draw(parts: dict[str, Record], folder: Path) -> None:
    """The maps; learned noise against true noise, and both uncertainties against the data."""
    with np.load(folder / "maps.npz") as file:
        draw_maps({place: [file[f"{place} {k}"] for k in range(6)] for place in PLACES}, folder / "maps.png")
    draw_noise({size: parts[f"{size} rooms"]["noise"]["by noise"] for size in SIZES}, folder / "noise.png")
    spreads = {
        (way, kind, place): [mean(parts, size, method, place, kind) for size in SIZES]
        for way, method in (("MC dropout", "both"), ("ensemble", "both, by ensemble"))
        for kind in ("aleatoric", "epistemic")
        for place in PLACES
    }
    draw_spreads(SIZES, spreads, folder / "spreads.png")


if __name__ == "__main__":
    names = [f"{size} rooms" for size in SIZES[::-1]]
    run(Experiment(Path(__file__).parent, names, compute, numbers, table, draw))
