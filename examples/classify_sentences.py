"""A bot that says when it does not understand: intents of sentences, and a threshold for what is out of scope.

The sentences are made up here, and nothing is downloaded: a small network is trained from nothing.
Run: python examples/classify_sentences.py    (needs pip install ".[text]")
"""

from __future__ import annotations

import random

from caveat.text import Classifier

INTENTS = {
    "play music": (["play", "start", "put on"], ["some jazz", "the blues", "my favorite album", "the radio"]),
    "book a table": (["book", "reserve", "get me"], ["a table for two", "seats for dinner", "a table outside"]),
    "set an alarm": (["wake me", "set an alarm", "ring"], ["at six", "tomorrow at seven", "in an hour"]),
}
ASKED = [
    "please play the blues",
    "reserve seats for dinner tonight",
    "ring tomorrow at seven",
    "how tall is mount everest",
    "translate good morning into finnish",
]


def made_up(count: int, seed: int) -> tuple[list[str], list[str]]:
    """Sentences and what each asks for."""
    dice = random.Random(seed)
    names = [dice.choice(list(INTENTS)) for _ in range(count)]
    frames = ("{} {}", "please {} {}", "could you {} {}", "{} {} now", "{} {} tonight please")
    return [dice.choice(frames).format(*map(dice.choice, INTENTS[name])) for name in names], names


def main() -> None:
    model = Classifier(epochs=10, width=24, draws=50, random_state=0).fit(*made_up(600, seed=0))
    sentences, names = made_up(200, seed=1)
    print(f"right on new sentences: {model.score(sentences, names):.1%}")

    print(model.choose_threshold(false_alarms=0.02).why, "\n")
    answers, doubts = model.predict_or_abstain(ASKED, abstained="I do not understand"), model.decompose(ASKED)
    for sentence, answer, total, epistemic in zip(ASKED, answers, doubts["total"], doubts["epistemic"], strict=True):
        print(f"{sentence:38} {answer:20} entropy {total:.3f} nats, of it epistemic {epistemic:.3f}")


if __name__ == "__main__":
    main()
