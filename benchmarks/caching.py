"""Would a cache of answers pay? What a score costs beside a look into a cache, and how often an answer would be there.

Run it as ``python -m benchmarks.caching [REQUESTS]``: no Kafka, no server, 15 s. The cache holds the 10,000
answers of one position that were asked for last; its key is the exact bits of the features. Prices are CPU us, the
medians of interleaved rounds. A request asks for one instance. Streams, in the order in which their events come:

- flights: those of the demo, with its features; the label comes when a flight has landed, 2.8 % have none.
- texts: 5,000 of ten words, the n-th asked for 1/n as often as the first.
- categories: three of 10, 5 and 4 values, of each the n-th 1/n as often as the first.

Events of the last two come by chance, each with a label, 100 events later in the mean. A position that moves every n
requests is that of an app which is asked n times for each label, or for each transaction of labels. The table goes to
stderr, the last line is JSON.
"""

import json
import random
import statistics
import sys
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from river import feature_extraction, forest, linear_model, naive_bayes, preprocessing, tree

from benchmarks.core import NOW, configuration
from benchmarks.models import domain
from stream_ml.app.assemble import assemble
from stream_ml.core.api.answers import Answers, Of
from stream_ml.core.api.door import Door
from stream_ml.core.api.rows import Instance
from stream_ml.core.model.estimator import COLD, Learner, Scored
from stream_ml.demo.flights import flights
from stream_ml.serve.http.messages import json_answer

ENTRIES = 10_000
REQUEST_US = 100.0  # of a linear model, one instance over HTTP with a key, validated: RESULTS.md, "Over HTTP"
FEATURES, LEARNED, ASKED, ROUNDS = 14, 3_000, 1_000, 11
EVERY = ("each label", 10, 100, 1_000, "never")
MODELS: dict[str, Callable[[], Any]] = {
    "linear": lambda: preprocessing.StandardScaler() | linear_model.LogisticRegression(),
    "tree": tree.HoeffdingTreeClassifier,
    "10 trees": lambda: forest.ARFClassifier(n_models=10, seed=1),
    "text": lambda: feature_extraction.BagOfWords(on="text") | naive_bayes.MultinomialNB(alpha=1),
}
Work = Callable[[], object]  # all that was asked for, once
Stream = Sequence[bytes | None]  # the key of an event; None for a label
encode = msgspec.msgpack.Encoder().encode


class Cache:
    """Answers of one position, those that were asked for last."""

    def __init__(self) -> None:
        self._answers, self._position = OrderedDict[bytes, Scored](), -1

    def get(self, position: int, key: bytes) -> Scored | None:
        """The answer, if it is here."""
        if position != self._position:
            self._answers.clear()
            self._position = position
        found = self._answers.get(key)
        if found is not None:
            self._answers.move_to_end(key)
        return found

    def put(self, key: bytes, answer: Scored) -> None:
        """Keep an answer; the one that was not asked for the longest goes."""
        self._answers[key] = answer
        if len(self._answers) > ENTRIES:
            self._answers.popitem(last=False)


def key_of(features: dict[str, Any]) -> bytes:
    """The exact bits of the features and their types; names and order are always those of the plan."""
    return encode(tuple(features.values()))


# --- how often an answer would be there ---


def streams(count: int) -> dict[str, Stream]:
    """Events and labels, in the order in which they come."""
    chance, roles = random.Random(1), {"flight_id", "scheduled_departure"}
    of_flights = [
        key_of({n: v for n, v in item.values.items() if n not in roles}) if item.kind == "event" else None
        for item in flights(count)
    ]
    texts = [(" ".join(f"w{chance.randrange(1_000)}" for _ in range(10)),) for _ in range(5_000)]
    picks = [falling(chance, n, count) for n in (10, 5, 4)]
    return {
        "flights": of_flights,
        "texts": by_chance(chance, [encode(texts[n]) for n in falling(chance, len(texts), count)]),
        "categories": by_chance(chance, [encode(values) for values in zip(*picks, strict=True)]),
    }


def falling(chance: random.Random, values: int, count: int) -> list[int]:
    """So many of 0 to values - 1, the n-th 1/n as often as the first."""
    return chance.choices(range(values), [1 / (n + 1) for n in range(values)], k=count)


def by_chance(chance: random.Random, keys: Sequence[bytes]) -> Stream:
    """Events one after the other, each with a label later."""
    now, found = 0.0, list[tuple[float, bytes | None]]()
    for key in keys:
        now += chance.expovariate(1)
        found += [(now, key), (now + chance.expovariate(1 / 100), None)]
    return [key for _, key in sorted(found, key=lambda item: item[0])]


def hits(stream: Stream, every: int | str) -> float:
    """The share of events whose answer is in the cache, when the position moves so often."""
    cache = Cache()
    events = labels = found = 0
    for key in stream:
        if key is None:
            labels += 1
            continue
        position = labels if every == "each label" else events // every if isinstance(every, int) else 0
        events += 1
        if cache.get(position, key) is None:
            cache.put(key, COLD)
        else:
            found += 1
    return found / events


# --- what it costs ---


def rows(count: int, seed: int, *, text: bool) -> list[dict[str, Any]]:
    """Features of a model: 14 numbers, or a text of ten words."""
    chance = random.Random(seed)
    if text:
        return [{"text": " ".join(f"w{chance.randrange(1_000)}" for _ in range(10))} for _ in range(count)]
    return [{f"x{n}": chance.gauss(0, 1) for n in range(FEATURES)} for _ in range(count)]


def of_model(name: str) -> dict[str, Work]:
    """Scores of a model, its keys, hits in a full cache, and misses in one."""
    text, learner = name == "text", Learner(MODELS[name](), domain())
    for row in rows(LEARNED, 1, text=text):
        learner.learn_y(row, "w7" in row["text"] if text else row["x0"] + row["x1"] > row["x2"])
    asked, full, cold = rows(ASKED, 2, text=text), Cache(), Cache()
    for row in [*rows(ENTRIES - ASKED, 3, text=text), *asked]:
        full.get(1, key_of(row))
        full.put(key_of(row), COLD)
    fresh = iter(rows(ENTRIES + ROUNDS * ASKED, 4, text=text))
    for row in (next(fresh) for _ in range(ENTRIES)):
        cold.get(1, key_of(row))
        cold.put(key_of(row), COLD)

    def hit() -> None:
        for row in asked:
            assert full.get(1, key_of(row)) is not None

    def miss() -> None:
        for row in (next(fresh) for _ in range(ASKED)):
            key = key_of(row)
            assert cold.get(1, key) is None
            cold.put(key, COLD)

    return {
        f"{name} score": lambda: [learner.score_one(row) for row in asked],
        f"{name} key": lambda: [hash(key_of(row)) for row in asked],
        f"{name} hit": hit,
        f"{name} miss": miss,
    }


def of_request() -> dict[str, Work]:
    """What else is done in the process for a request: it is read and validated, and answered."""
    config = configuration()
    parts = assemble(config)
    door = Door(parts.reader, config.events, 1_000)
    answers = Answers(parts.domain, parts.feedback.label_field)
    instances = [item.values for item in flights(ASKED) if item.kind == "event"]
    bodies = [json.dumps({"instances": [values]}).encode() for values in instances]
    of = Of("lineage", 1, 1, LEARNED, 1, (), cold=False, frozen=False)
    scored = Scored("true", 0.5, None, None)

    def answer() -> None:
        for values in instances:
            one = answers.one(scored, of, imputed=False, clipped=False, event_id=values["flight_id"])
            json_answer({"predictions": [one], "model": of._asdict()})

    assert door.has_fast_lane and isinstance(door.read(bodies[0], NOW.now_ms).instances[0], Instance)
    return {"read": lambda: [door.read(body, NOW.now_ms) for body in bodies], "answer": answer}


def prices() -> dict[str, float]:
    """CPU us of one of each, medians of rounds in which each comes once."""
    works = of_request()
    for name in MODELS:
        works |= of_model(name)
    spent: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(ROUNDS):
        for name, work in works.items():
            began_s = time.process_time()
            work()
            spent[name].append((time.process_time() - began_s) / ASKED * 1e6)
    return {name: statistics.median(of) for name, of in spent.items()}


def main() -> None:
    cost, shares = prices(), dict[str, dict[str, float]]()
    saved, pays_from = dict[str, dict[str, dict[str, float]]](), dict[str, float]()
    sys.stderr.write(f"reading a request {cost['read']:.1f} us, its answer {cost['answer']:.1f} us\n")
    sys.stderr.write(f"{'':10} {'score':>8} {'key':>6} {'hit':>6} {'miss':>6} us   pays from\n")
    for name in MODELS:
        score, key, hit, miss = (cost[f"{name} {what}"] for what in ("score", "key", "hit", "miss"))
        pays_from[name] = miss / (score - hit + miss)
        sys.stderr.write(f"{name:10} {score:8.1f} {key:6.2f} {hit:6.2f} {miss:6.2f}      {pays_from[name]:6.1%} hits\n")
    sys.stderr.write(f"{'':11}{'position moves':>14} {'hits':>8}   of a request saved: {', '.join(MODELS)}\n")
    for stream_name, stream in streams(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000).items():
        shares[stream_name], saved[stream_name] = {}, {}
        for every in map(str, EVERY):
            share = shares[stream_name][every] = hits(stream, int(every) if every.isdecimal() else every)
            found = saved[stream_name][every] = {name: saving(cost, name, share) for name in MODELS}
            words = " ".join(f"{one:8.1%}" for one in found.values())
            sys.stderr.write(f"{stream_name:11}{every:>14} {share:8.2%} {words}\n")
    print(json.dumps(rounded({"cpu_us": cost, "pays_from": pays_from, "hits": shares, "saved": saved})))


def rounded(values: dict[str, Any]) -> dict[str, Any]:
    """Numbers of a tree with four decimals."""
    return {name: rounded(one) if isinstance(one, dict) else round(one, 4) for name, one in values.items()}


def saving(cost: dict[str, float], name: str, share: float) -> float:
    """What a cache saves of a request, when it has this share of the answers; below 0: what it costs."""
    score = cost[f"{name} score"]
    request = REQUEST_US - cost["linear score"] + score
    return (share * (score - cost[f"{name} hit"]) - (1 - share) * cost[f"{name} miss"]) / request


if __name__ == "__main__":
    main()
