"""Bugs that checkpoints in a bucket, an answer that goes out whole, and manifests can have, as patches."""

from tests.system.mutations.bug import Bug

MIRROR, WHOLE = "tests/storage/test_mirror.py", "tests/serve/test_whole.py"

BUCKET = (
    Bug(
        "what comes from a bucket gets its name before its checks",
        "stream_ml/storage/checkpoints.py",
        "            self._read(temporary, named=path)\n            self._name(temporary, path)\n",
        "            self._name(temporary, path)\n",
        (MIRROR,),
    ),
    Bug(
        "a checkpoint in a bucket is written over",
        "stream_ml/storage/bucket.py",
        'mode="create"',
        'mode="overwrite"',
        (MIRROR,),
    ),
    Bug(
        "a bucket keeps every checkpoint for ever",
        "stream_ml/storage/mirror.py",
        '        self._bucket.delete([f"{folder}/{there[at]}" for at in gone])\n',
        "",
        (MIRROR,),
    ),
    Bug(
        "a pinned checkpoint goes from the bucket",
        "stream_ml/storage/mirror.py",
        '(*self._bucket.names(f"{folder}/pins"), *store.pins())',
        "store.pins()",
        (MIRROR,),
    ),
    Bug(
        "a model that is written often keeps all others from the bucket",
        "stream_ml/storage/mirror.py",
        "        offered = self._waiting.pop(folder)\n",
        "        offered = self._waiting[folder]\n        if offered[1] == position:\n            del self._waiting[folder]\n",
        (MIRROR,),
    ),
    Bug(
        "a checkpoint without a seal is loaded where there is no key",
        "stream_ml/follower/restore.py",
        "    return key is not None or config.checkpoints.unsealed\n",
        "    return True\n",
        ("tests/follower/test_checkpoints_without_a_key.py",),
    ),
    Bug(
        "a module that is a link is named by where it leads",
        "stream_ml/app/sources.py",
        "    for of, below in ((file.absolute(), folder.absolute()), (file.resolve(), folder.resolve())):\n",
        "    for of, below in ((file.resolve(), folder.resolve()),):\n",
        ("tests/app/test_sources.py",),
    ),
    Bug(
        "a bucket that is away is told with every try",
        "stream_ml/storage/mirror.py",
        "            if not self.problem:\n                log.error",
        "            if True:\n                log.error",
        (MIRROR,),
    ),
    Bug(
        "what was not kept in the bucket at the end is not said",
        "stream_ml/storage/mirror.py",
        "            if self._waiting:\n                why",
        "            if False:\n                why",
        (MIRROR,),
    ),
    Bug(
        "the newest of a bucket goes before a newer one that is here",
        "stream_ml/storage/mirror.py",
        "        for position in sorted(here | set(there), reverse=True):\n",
        "        for position in [*sorted(there, reverse=True), *sorted(here - set(there), reverse=True)]:\n",
        (MIRROR,),
    ),
    Bug(
        "a header may end its line in an answer that goes out whole",
        "stream_ml/serve/http/whole.py",
        '    if head.count(b"\\n") != len(lines) - 1 or head.count(b"\\r") != len(lines) - 1 or b"\\0" in head:\n',
        "    if False:\n",
        (WHOLE,),
    ),
    Bug(
        "an answer goes out whole to a client that takes nothing",
        "stream_ml/serve/http/whole.py",
        "    if cycle.flow.write_paused or cycle.disconnected or cycle.response_started:\n",
        "    if cycle.response_started:\n",
        (WHOLE,),
    ),
    Bug(
        "a probe takes a process that does not answer for one that is ready",
        "stream_ml/cli/probe.py",
        '        return False, f"port {port} is open, and does not answer: {error or type(error).__name__}"\n',
        '        return True, ""\n',
        ("tests/cli/test_probe.py",),
    ),
)
