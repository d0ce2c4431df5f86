"""What is done to the service, round by round: a function of the seed alone."""

import random
from collections.abc import Sequence
from typing import NamedTuple, get_args

from stream_ml.runtime.failpoints import Place
from tests.system.chaos.serving import WEIGHTS as OF_THE_API

INSTANCES = ("w1", "w2", "w3")
DELAYED = ("before-commit", "after-flush", "after-consume")  # killed a moment later: in the middle of what comes next


class Fault(NamedTuple):
    """One round: what is done, to which worker, where, after how long a time of peace."""

    kind: str
    instance: str
    detail: str
    peace_s: float


WEIGHTS = {
    "kill": 4,  # -9, wherever it is
    "kill-at": 10,  # -9 at a place
    "raise-at": 2,  # an error that nobody foresaw
    "zombie": 2,  # stopped for longer than the session timeout, then it goes on
    "leave": 2,  # SIGTERM
    "join": 2,  # one more
    "broker-restarts": 1,
    "broker-dies": 1,
    "disk-full": 1,  # no checkpoint can be written
    "bytes-flip": 2,  # in the newest checkpoint, while its worker is away
    "declare": 1,  # another model, beside the one that serves
    "promote": 2,  # one that stands by, ready or not
    "retire": 1,  # one that does not serve
}


def schedule(seed: int, rounds: int, kinds: Sequence[str] = tuple(WEIGHTS)) -> list[Fault]:
    """The faults of a storm, in order; of all kinds, or of some. Those of the API only where they are named."""
    chance = random.Random(seed)
    return [_fault(chance, kinds) for _ in range(rounds)]


def _fault(chance: random.Random, kinds: Sequence[str]) -> Fault:
    weights = WEIGHTS | OF_THE_API
    kind = chance.choices(kinds, [weights[kind] for kind in kinds])[0]
    instance = chance.choice(INSTANCES)
    detail = ""
    if kind in ("kill-at", "raise-at"):
        places = [place for place in get_args(Place) if kind == "kill-at" or not place.startswith("on-")]
        places = [place for place in places if place not in ("model-declared", "model-serves")]  # only at a take-over
        place = chance.choice(places)
        rare = place.startswith(("on-", "checkpoint", "before-prune")) or place in ("after-claim", "in-rebuild")
        detail = f"{place}:{kind.removesuffix('-at')}:{1 if rare else chance.randint(1, 12)}"
        if kind == "kill-at" and place in DELAYED:
            detail += f":{chance.randint(0, 6)}ms"
    return Fault(kind, instance, detail, round(chance.uniform(0.2, 1.5), 2))
