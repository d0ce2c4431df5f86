"""What operators do to the models of a service in trouble: others are declared, serve, and are retired."""

import random
import subprocess
import sys

from stream_ml.admin.models.log import ModelLog
from stream_ml.core.fold.roles import Declared
from stream_ml.errors import StreamMLError
from tests.support.service import Service, any_hash_seed

OTHER = """
from river import compose, linear_model, preprocessing


def build():
    numbers = compose.SelectType(int, float) | preprocessing.StandardScaler()
    texts = compose.SelectType(str) | preprocessing.OneHotEncoder()
    return (numbers + texts) | linear_model.LogisticRegression(l2={l2})
"""
OWN = "build"  # what the configuration's model is called
REFUSED = (69, 78)  # Kafka is away, or somebody else was first


class ModelFaults:
    """Verbs about models, typed while workers and brokers fail; what a verb refuses is said and is no failure."""

    def __init__(self, made: Service, chance: random.Random) -> None:
        self._made, self._chance = made, chance
        self._declared = 0

    def declare(self) -> str:
        """Another model, which the workers learn beside the one that serves."""
        made = self._made
        self._declared += 1
        factory = f"other_{self._declared}:build"
        (made.folder / f"other_{self._declared}.py").write_text(OTHER.format(l2=self._declared / 1000), "utf-8")
        return self._typed("models", "declare", "--name", f"m{self._declared}", "--set", f"model.factory={factory}")

    def promote(self) -> str:
        """Any of those that stand by, ready or not."""
        found = [one.name for one in self._known() if one.standby]
        return self._typed("promote", self._chance.choice(found), "--no-wait") if found else "nothing stands by"

    def retire(self) -> str:
        """Any but the configuration's own."""
        found = [one.name for one in self._known() if one.name != OWN and not one.retired]
        return self._typed("models", "retire", self._chance.choice(found)) if found else "nothing to retire"

    def own_again(self) -> None:
        """The configuration's model serves again, once every worker has it ready."""
        log = ModelLog(self._made.config)
        if log.named(OWN).lineage != log.roles.table.lineage:
            said = self._typed("promote", OWN, "--wait", "2m")
            assert "obeyed" in said, said

    def _known(self) -> list[Declared]:
        try:
            roles = ModelLog(self._made.config).roles
        except StreamMLError:
            return []
        return [one for one in roles.declared.values() if one.lineage != roles.table.lineage]

    def _typed(self, *words: str) -> str:
        verb = [*words[:2], str(self._made.folder / "w1.yaml"), *words[2:]]
        if words[0] == "promote":
            verb = [words[0], str(self._made.folder / "w1.yaml"), *words[1:]]
        done = subprocess.run(
            [sys.executable, "-m", "stream_ml", *verb],
            env=any_hash_seed(),
            capture_output=True,
            text=True,
            check=False,
            timeout=180,
        )
        said = (done.stdout + done.stderr).strip()
        assert done.returncode in (0, 1, *REFUSED), said
        return said.splitlines()[-1][:120] if words[0] != "promote" else said.replace("\n", "; ")[:300]
