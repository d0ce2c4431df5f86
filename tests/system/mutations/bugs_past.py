"""Bugs that rollback, replay, explain and batch scoring can have, as patches."""

from tests.system.mutations.bug import Bug

SELECTION, BLOCKS = "tests/core/fold/test_selection.py", "tests/core/evaluation/test_blocks.py"
FILES, RIVER, BATCH = (
    "tests/offline/replay/test_files.py",
    "tests/offline/replay/test_river.py",
    "tests/offline/test_batch.py",
)
FORMATS = "tests/offline/formats/test_formats.py"

PAST = (
    Bug(
        "a range that is left out is one entry too long",
        "stream_ml/core/model/selection.py",
        "return number >= 0 and offset < self.exclude[number][1]",
        "return number >= 0 and offset <= self.exclude[number][1]",
        (SELECTION,),
    ),
    Bug(
        "a single example is learned although it is left out",
        "stream_ml/core/fold/lineage_model.py",
        "            if not self.settings.selection.excludes(offset):\n                self._example(offset, single, entry)\n",
        "            self._example(offset, single, entry)\n",
        (SELECTION,),
    ),
    Bug(
        "a checkpoint seeds a lineage whatever was left out below it",
        "stream_ml/core/model/selection.py",
        "    if (differs is not None and differs < position) or by_name:\n",
        "    if by_name:\n",
        (SELECTION,),
    ),
    Bug(
        "a checkpoint seeds a lineage that a command has named",
        "stream_ml/core/model/selection.py",
        "by_name = commanded.own is not None or commanded.others is not None",
        "by_name = commanded.own is not None",
        (SELECTION,),
    ),
    Bug(
        "a model that is held is let go by a resume for all",
        "stream_ml/core/model/freezing.py",
        "if offset < self._selection.commands_from or (self._held and not own):",
        "if offset < self._selection.commands_from:",
        (SELECTION,),
    ),
    Bug(
        "a child tells its parent's findings as the parent",
        "stream_ml/core/fold/lineage_model.py",
        'Signal(**{**signal, "origin": self.settings.lineage})',
        "Signal(**signal)",
        (SELECTION,),
    ),
    Bug(
        "an example is scored by a model that has learned one more",
        "stream_ml/offline/replay/run.py",
        "        asking.all_before(offsets[done])\n        upto = asking.next_position\n",
        "        upto = None if asking.next_position is None else asking.next_position + 1\n"
        "        asking.all_before(offsets[done] - 1)\n",
        (FILES,),
    ),
    Bug(
        "of labels that are due at once the one whose row is later comes first",
        "stream_ml/core/evaluation/timeline.py",
        "        add((due, number))\n",
        "        add((due, -number) if not in_line else (due, number))\n",
        (RIVER,),
    ),
    Bug(
        "a block is closed at its end, before its late labels have come",
        "stream_ml/core/evaluation/blocks.py",
        "before = (watermark_ms - self.mature_ms) // self.block_ms",
        "before = watermark_ms // self.block_ms",
        (BLOCKS,),
    ),
    Bug(
        "labels that are late count",
        "stream_ml/core/evaluation/blocks.py",
        "counts = delay_ms <= self.mature_ms",
        "counts = delay_ms >= 0",
        (BLOCKS,),
    ),
    Bug(
        "the interval is that of one look",
        "stream_ml/core/evaluation/blocks.py",
        "return deviation * math.sqrt(2 * weight / (blocks**2 * MIXTURE) * math.log(math.sqrt(weight) / alpha))",
        "return deviation * 1.96 / math.sqrt(blocks) + 0 * weight * alpha",
        (BLOCKS,),
    ),
    Bug(
        "blocks that are alike decide",
        "stream_ml/core/evaluation/blocks.py",
        "    if correlated > AUTOCORRELATED:\n",
        "    if correlated > 9:\n",
        (BLOCKS,),
    ),
    Bug(
        "a run that goes on begins anew and writes its first rows twice",
        "stream_ml/offline/batch/scoring.py",
        "            if first > skipped:\n",
        "            if first > 0 * skipped:\n",
        (BATCH,),
    ),
    Bug(
        "a result is there before it is whole",
        "stream_ml/offline/batch/sinks.py",
        '        draft = self._folder / "whole.draft"\n',
        '        draft = self._folder / "whole.draft"\n        self._out.touch()\n',
        (BATCH,),
    ),
    Bug(
        "what is scaled by nothing is divided by it in ONNX",
        "stream_ml/offline/formats/formula.py",
        "step.vars[name]) ** 0.5 if",
        "step.vars[name]) if",
        (FORMATS,),
    ),
    Bug(
        "the sum of a tree's path is called exact whatever it is",
        "stream_ml/core/model/contributions.py",
        "    is_exact = abs(added - total) <= EXACT * max(1.0, abs(total))\n",
        "    is_exact = abs(added - total) <= 2.0 * max(1.0, abs(total))\n    parts = parts[1:]\n",
        ("tests/core/model/test_contributions.py",),
    ),
    Bug(
        "what is scored in the first backlog raises an alarm, by many",
        "stream_ml/core/evaluation/labelled.py",
        "            found &= (partitions != partition) | (offsets >= end)\n",
        "            found &= (partitions != partition) | (offsets >= 0 * end)\n",
        ("tests/core/fold/test_first_backlog.py",),
    ),
    Bug(
        "what is scored in the first backlog raises an alarm, one by one",
        "stream_ml/core/fold/watch.py",
        "            drifts = drifts and entry.event_offset >= backlog_ends.get(entry.source_partition, 0)\n",
        "",
        ("tests/core/fold/test_first_backlog.py",),
    ),
    Bug(
        "labels that stay away in the first backlog are told",
        "stream_ml/worker/report/monitor.py",
        "        if backlog or (behind_ms",
        "        if (behind_ms",
        ("tests/system/kafka/test_first_backlog.py",),
    ),
    Bug(
        "a start does not say what lies there",
        "stream_ml/worker/partitions/assignment.py",
        "        backlog_end = first.events[1]\n",
        "        backlog_end = first.events[1] * 0\n",
        ("tests/system/kafka/test_first_backlog.py",),
    ),
)
