"""A fastai learner on a table with a category, trained as usual: which rows is it unsure of, and is that the noise?"""

import numpy as np
import pandas as pd
from fastai.tabular.all import (
    Categorify,
    CategoryBlock,
    Normalize,
    TabularDataLoaders,
    tabular_config,
    tabular_learner,
)

import caveat

ROWS = 600


def make_table(rng: np.random.Generator) -> pd.DataFrame:
    """Sizes from -1 to 1; red ones are "big" above 0, of green ones nobody can say."""
    size, color = rng.uniform(-1, 1, ROWS), rng.choice(["red", "green"], ROWS)
    big = np.where(color == "red", size > 0, rng.random(ROWS) > 0.5)
    return pd.DataFrame({"size": size, "color": color, "kind": np.where(big, "big", "small")})


def main() -> None:
    table = make_table(np.random.default_rng(0))
    dls = TabularDataLoaders.from_df(
        table, procs=[Categorify, Normalize], cat_names=["color"], cont_names=["size"], y_names="kind",
        y_block=CategoryBlock(), bs=64,
    )  # fmt: skip
    learner = tabular_learner(dls, layers=[64, 32], config=tabular_config(ps=[0.2, 0.1], embed_p=0.1), n_out=2)
    with learner.no_bar(), learner.no_logging():
        learner.fit_one_cycle(8, 1e-2)

    asked = pd.DataFrame({"size": [0.8, -0.8, 0.8, 6.0], "color": ["red", "red", "green", "green"]})
    pred = caveat.interop.fastai_predict(learner, learner.dls.test_dl(asked), n=100, seed=0)
    print(f"{'size':>5} {'color':6} {'P(big)':>7} {'entropy':>8} {'information':>12}   (nats)")
    entropy, information = caveat.predictive_entropy(pred), caveat.mutual_information(pred)
    for k, (size, color) in enumerate(zip(asked["size"], asked["color"], strict=True)):
        numbers = f"{pred.mean[k, 0]:7.2f} {entropy[k]:8.2f} {information[k]:12.3f}"
        print(f"{size:5.1f} {color:6} {numbers}")


if __name__ == "__main__":
    main()
