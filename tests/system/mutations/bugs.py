"""Bugs that a service like this one can have, as patches; each must be caught by the tests that it names.

A patch replaces a text that stands once in its file. Tests are named as pytest takes them, quickest first: a file, or one test of it.
"""

from tests.system.mutations.bug import Bug
from tests.system.mutations.bugs_access import OUTSIDE
from tests.system.mutations.bugs_bucket import BUCKET
from tests.system.mutations.bugs_past import PAST
from tests.system.mutations.bugs_serving import SERVING

CRASH = "tests/system/kafka/test_crash.py"
KILLS = "tests/system/kafka/test_failpoints.py"
JOIN, TIME, FOLD = "tests/core/join/test_join.py", "tests/core/join/test_watermark.py", "tests/core/fold/test_fold.py"
LINEAR, ALIGNMENT = "tests/equivalence/test_linear_batch.py", "tests/core/inputs/test_alignment.py"
RUNS, SIGNALS = "tests/equivalence/test_batches.py", "tests/system/kafka/test_signals.py"
CHECKPOINTS = "tests/storage/test_checkpoints.py"
WAITING = "tests/clients/test_waiting.py"
RANGES = "tests/core/fold/test_limits.py"
ROUND, BAD, OPERATOR = (
    "tests/system/kafka/test_round_trip.py",
    "tests/system/kafka/test_bad_input.py",
    "tests/system/kafka/test_operator.py",
)

BUGS = (
    Bug(
        "a command in the same chunk goes before a corrupted model",
        "stream_ml/core/fold/lineage_model.py",
        "        return self.halts.corrupted or self.halts.refold_from is not None\n",
        "        return self.halts.corrupted and self.halts.refold_from is None\n",
        ("tests/core/fold/test_fold.py",),
    ),
    # --- the transaction ---
    Bug(
        "commit before produce",
        "stream_ml/kafka/writing/transaction.py",
        """        error = self._error_of(partial(self._produced, self._producer, blocks))
""",
        """        self._begin(self._producer)
        self._offsets(self._producer, offsets, group)
        self._producer.commit_transaction(10)
        error = self._error_of(partial(self._produced, self._producer, blocks))
""",
        (KILLS,),
    ),
    Bug(
        "outputs outside of the transaction",
        "stream_ml/kafka/writing/transaction.py",
        """                            made.produce(topic, value, key, partition)
""",
        """                            self.__dict__.setdefault("loose", Producer({"bootstrap.servers": self._config.kafka.bootstrap_servers})).produce(topic, value, key, partition)
""",
        (KILLS,),
    ),
    Bug(
        "offsets from position()",
        "stream_ml/worker/commit.py",
        "                self._config, number, output.events_position, output.feedback_position, output.metadata\n",
        "                self._config, number, output.events_position, max(output.feedback_position, self._intake._feedback._consumer.position([__import__('confluent_kafka').TopicPartition(self._config.feedback.topic, number)])[0].offset), output.metadata\n",
        (KILLS, CRASH),
    ),
    Bug(
        "a floor between commits holds back a lone event",
        "stream_ml/worker/turns.py",
        "        return max(0.0, self._ended_s + self._least_s - now_s)\n",
        "        return self._least_s\n",
        (WAITING,),
    ),
    Bug(
        "who has more keeps the first place in line",
        "stream_ml/worker/turns.py",
        """        self._order.pop(number, None)
        if more:
            self._order[number] = None
""",
        """        if not more:
            self._order.pop(number, None)
""",
        (WAITING,),
    ),
    Bug(
        "events that came while the member was kept alive are told to nobody",
        "stream_ml/kafka/consumers.py",
        "        self._read_on(len(self._waiting) + 1, 0)\n",
        "        self.read(len(self._waiting) + 1, 0)\n",
        ("tests/system/kafka_mock/test_group_inputs.py",),
    ),
    Bug(
        "a label that time has passed by is reported like one with a wrong id",
        "stream_ml/core/join/join.py",
        '            return Resolved(label, "orphan", None, passed=True)\n',
        '            return Resolved(label, "orphan", None)\n',
        ("tests/system/kafka/test_history.py",),
    ),
    Bug(
        "a partition is at its end while records of it wait for their turn",
        "stream_ml/kafka/waiting.py",
        "        self._ends.pop(partition, None)\n        self._all += len(messages)\n",
        "        self._all += len(messages)\n",
        (WAITING,),
    ),
    Bug(
        "a feedback-only batch leaves the metadata of events stale",
        "stream_ml/kafka/committed.py",
        """    return [
        TopicPartition(config.events.topic, partition, events, metadata.text()),
        TopicPartition(config.feedback.topic, partition, feedback, metadata.feedback_text()),
    ]
""",
        """    found = [
        TopicPartition(config.events.topic, partition, events, metadata.text()),
        TopicPartition(config.feedback.topic, partition, feedback, metadata.feedback_text()),
    ]
    last = offsets_of.__dict__.setdefault("last", {})
    changed = last.get(partition) != events
    last[partition] = events
    return found if changed else found[1:]
""",
        (KILLS, CRASH),
    ),
    Bug(
        "apply before COMMITTED",
        "stream_ml/worker/loop.py",
        """            passes("after-process")
""",
        """            for number, output in outputs.items():
                self.ownership.owned[number].core.join.apply(output.staged)
            passes("after-process")
""",
        ("tests/system/kafka/test_oversized.py", BAD, ROUND),
    ),
    Bug(
        "UNKNOWN taken for ABORTED",
        "stream_ml/worker/commit.py",
        """        return self._resolve(outputs)
""",
        """        self._transactor.open()
        return Committed({}, rest_aborted=True)
""",
        ("tests/system/kafka/test_unknown_outcome.py",),
    ),
    Bug(
        "UNKNOWN taken for COMMITTED",
        "stream_ml/worker/commit.py",
        """        return self._resolve(outputs)
""",
        """        self._transactor.open()
        return Committed(outputs, rest_aborted=True)
""",
        ("tests/system/kafka/test_unknown_outcome.py",),
    ),
    Bug(
        "equal offsets taken as ours after UNKNOWN",
        "stream_ml/worker/commit.py",
        "            if state.metadata is not None and state.metadata.token == output.metadata.token:\n",
        "            if state.events == output.events_position and state.feedback == output.feedback_position:\n",
        ("tests/system/simulation/test_unknown_end.py",),
    ),
    Bug(
        "an error at the commit taken for an abort",
        "stream_ml/kafka/writing/transaction.py",
        """            return Ending.UNKNOWN
        if time""",
        """            return Ending.ABORTED
        if time""",
        ("tests/system/kafka_mock",),
    ),
    Bug(
        "_CONFLICT taken for retriable",
        "stream_ml/kafka/errors.py",
        "    if error.code() == KafkaError._CONFLICT or error.fatal():  # noqa: SLF001 - confluent-kafka's public constants\n",
        "    if error.fatal():\n",
        ("tests/system/kafka_mock",),
    ),
    # --- the group ---
    Bug(
        "no first transaction after an assignment",
        "stream_ml/worker/partitions/assignment.py",
        """        ending = self._transactor.run(blocks, offsets, group)
        if ending is Ending.UNKNOWN:
""",
        """        ending = self._transactor.run(blocks, offsets, group) if blocks else Ending.COMMITTED
        if ending is Ending.UNKNOWN:
""",
        ("tests/system/simulation", KILLS),
    ),
    Bug(
        "work inside on_assign",
        "stream_ml/kafka/consumers.py",
        "        consumer.incremental_assign([])\n",
        """        consumer.incremental_assign([])
        raise RuntimeError("what a rebuild could raise")
""",
        (ROUND,),
    ),
    Bug(
        "what was read across a rebalance is committed",
        "stream_ml/worker/loop.py",
        "        batches = self._still_ours(batches)\n",
        "",
        ("tests/system/simulation/test_simulation.py",),
    ),
    Bug(
        "a lost partition is committed",
        "stream_ml/kafka/consumers.py",
        "on_lost=self._on_lost\n        )\n",
        "on_lost=lambda consumer, partitions: consumer.incremental_unassign([])\n        )\n",
        ("tests/system/simulation/test_simulation.py",),
    ),
    Bug(
        "partitions that stay wait until others are taken up",
        "stream_ml/worker/partitions/moves.py",
        "                if not more or self._group.moved() or time.monotonic() > until_s:\n",
        "                if not more or self._group.moved():\n",
        ("tests/system/kafka/test_moves.py",),
    ),
    Bug(
        "a partition that is owned is claimed again while others are taken up",
        "stream_ml/worker/partitions/assignment.py",
        """        self.owned[partition.number] = partition
        self.wanted.remove(partition.number)
""",
        """        self.owned[partition.number] = partition
""",
        ("tests/system/simulation/test_simulation.py",),
    ),
    Bug(
        "records of a rebuild are swallowed between two of its steps",
        "stream_ml/kafka/reading/ranges.py",
        "        while not self._reads and self._consumer",
        "        while self._consumer",
        ("tests/system/kafka_mock/test_range_reader.py",),
    ),
    Bug(
        "the next sequence is not compared with the log",
        "stream_ml/worker/partitions/assignment.py",
        """        if seen == partition.next_sequence:
            return True
""",
        """        return True
""",
        ("tests/system/simulation",),
    ),
    Bug(
        "a failed claim is worked on",
        "stream_ml/worker/partitions/moves.py",
        """            self._steps = None
            raise
""",
        """            self._steps = None
""",
        ("tests/app/test_moves.py",),
    ),
    Bug(
        "a claimer that stood still while others went on suspends what is sound",
        "stream_ml/worker/partitions/assignment.py",
        "            raise ClaimFailed  # while this process",
        "            pass  # while this process",
        ("tests/system/simulation/test_found.py",),
    ),
    Bug(
        "a client that never returns is waited for",
        "stream_ml/kafka/threads.py",
        "        self.join(timeout_s)\n",
        "        self.join()\n",
        ("tests/system/kafka_mock",),
    ),
    # --- reading ---
    Bug(
        "read_uncommitted",
        "stream_ml/kafka/clients.py",
        '        "isolation.level": "read_committed",\n',
        '        "isolation.level": "read_uncommitted",\n',
        (KILLS,),
    ),
    Bug(
        "a lost offset is skipped in silence",
        "stream_ml/kafka/clients.py",
        '        "auto.offset.reset": "error",\n',
        '        "auto.offset.reset": "latest",\n',
        ("tests/system/kafka/test_refusals.py",),
    ),
    Bug(
        "fold own output",
        "stream_ml/worker/loop.py",
        """            passes("after-process")
""",
        """            own = [record for output in outputs.values() for record in output.records]
            log_of = [r.value for r in own if r.topic == self._config.training_log_topic]
            from stream_ml.records import LogRecord

            at = self.follower.replica.read_position
            self.follower.replica.fold([LogRecord(at + number, value or b"") for number, value in enumerate(log_of)])
            passes("after-process")
""",
        (ROUND, CRASH),
    ),
    # --- the join ---
    Bug(
        "floor at the oldest live event",
        "stream_ml/core/join/join.py",
        """        head = next(self._held(), None)
""",
        """        held = ((rows, row, rows.offsets[row]) for rows, row in self._held())
        head = next(((rows, row) for rows, row, offset in held if not (rows.joined(row) or offset in self.joined)), None)
""",
        (JOIN,),
    ),
    Bug(
        "a joined event is forgotten at once",
        "stream_ml/core/join/join.py",
        """            if time_ms >= remembered_ms and not over:
""",
        """            if time_ms >= remembered_ms and not over and not (rows.joined(row) or rows.offsets[row] in self.joined):
""",
        (JOIN,),
    ),
    Bug(
        "events are forgotten at their own expiry",
        "stream_ml/core/join/join.py",
        "        remembered_ms = self.times.watermark_ms - settings.ttl_ms - settings.early_ttl_ms\n",
        "        remembered_ms = self.times.watermark_ms - settings.ttl_ms\n",
        (JOIN,),
    ),
    Bug(
        "the last label wins",
        "stream_ml/core/join/join.py",
        "        for label in [self._label(offset) for offset in self._waiting_offsets(rows.ids[row])]:\n",
        "        for label in [self._label(offset) for offset in self._waiting_offsets(rows.ids[row])][::-1]:\n",
        (JOIN,),
    ),
    Bug(
        "a duplicate event joins",
        "stream_ml/core/partition/partition.py",
        "[number for number in range(len(rows)) if number not in duplicates]",
        "list(range(len(rows)))",
        (JOIN, BAD),
    ),
    Bug(
        "time moves back",
        "stream_ml/core/join/watermark.py",
        "        w = max(self.watermark_ms, watermark_ms)\n",
        "        w = watermark_ms\n",
        (TIME,),
    ),
    Bug(
        "one record dated 2036 moves time",
        "stream_ml/core/join/watermark.py",
        "        events_ms = max(self.events_ms, min(events_ms, cap))\n",
        "        events_ms = max(self.events_ms, events_ms)\n",
        (TIME,),
    ),
    Bug(
        "a rebuild holds what it has finished beside what it makes of it",
        "stream_ml/core/partition/restore.py",
        "            rows, read = self._chunks.pop(), self._read.pop()\n",
        """            rows, read = self._chunks.pop(), self._read.pop()
            self._finished = [*getattr(self, "_finished", []), rows]
            rows = rows.only(range(len(rows)))
""",
        ("tests/core/partition/test_restore.py",),
    ),
    Bug(
        "a rebuild forgets which labels have ended",
        "stream_ml/core/partition/restore.py",
        "[record for record in records if record.offset not in evidence.ended_labels]",
        "list(records)",
        (JOIN,),
    ),
    Bug(
        "a rebuild forgets which events have joined",
        "stream_ml/core/partition/restore.py",
        "                if offset in joined:\n",
        "                if False:\n",
        (JOIN,),
    ),
    # --- the fold ---
    Bug(
        "trigger not checked",
        "stream_ml/core/log/sequences.py",
        "        later = offset > self.last_trigger(trigger)\n",
        "        later = sequence >= expected\n",
        (FOLD,),
    ),
    Bug(
        "sequence not checked",
        "stream_ml/core/log/sequences.py",
        """        if sequence == expected and later:
            return "learn"
""",
        """        if later:
            return "learn"
""",
        (FOLD,),
    ),
    Bug(
        "a repeat is learned again",
        "stream_ml/core/log/sequences.py",
        """            return "drop"
""",
        """            return "learn"
""",
        (FOLD,),
    ),
    Bug(
        "a corrupted model goes on",
        "stream_ml/core/fold/lineage_model.py",
        """f"learn_one raised {error}", corrupted=True)
""",
        """f"learn_one raised {error}", corrupted=False)
""",
        (FOLD,),
    ),
    Bug(
        "what came while frozen is learned",
        "stream_ml/core/fold/lineage_model.py",
        "        elif not self.frozen and (override is not None or self._judge(offset, features, y, at_ms)):\n",
        "        elif override is not None or self._judge(offset, features, y, at_ms):\n",
        (FOLD,),
    ),
    Bug(
        "an example of a run that is not the next one is learned",
        "stream_ml/core/log/sequences.py",
        "            if state is None or sequence != state.next_sequence or offset <= state.triggers.get(trigger, -1):\n",
        "            if state is None or sequence < state.next_sequence or offset <= state.triggers.get(trigger, -1):\n",
        (RUNS,),
    ),
    Bug(
        "a fold that was interrupted goes on",
        "stream_ml/core/fold/replica.py",
        "        self.interrupted = True\n",
        "",
        (RUNS,),
    ),
    # --- checkpoints ---
    Bug(
        "unpickle before the digest",
        "stream_ml/storage/checkpoints.py",
        """                line = file.readline(HEADER_BYTES_MAX)
""",
        """                import pickle as early

                line = file.readline(HEADER_BYTES_MAX)
                with contextlib.suppress(Exception):
                    early.load(zstandard.ZstdDecompressor().stream_reader(file))
                file.seek(len(line))
""",
        (CHECKPOINTS,),
    ),
    Bug(
        "any type is unpickled",
        "stream_ml/storage/checkpoints.py",
        "        return load(Unpacked(checkpoint.position, checkpoint.payload, passing), checkpoint_types)\n",
        '        return __import__("pickle").load(Unpacked(checkpoint.position, checkpoint.payload, passing))\n',
        (CHECKPOINTS,),
    ),
    Bug(
        "the digest is not compared",
        "stream_ml/storage/checkpoints.py",
        '        if header["sha256"] != digest:\n',
        '        if not header["sha256"]:\n',
        (CHECKPOINTS,),
    ),
    Bug(
        "a checkpoint is written in one go",
        "stream_ml/storage/writer.py",
        "        if self._dropped or time.monotonic() >= self._until_s:\n",
        "        if self._dropped:\n",
        ("tests/storage/test_checkpoint_writer.py",),
    ),
    Bug(
        "generators are pickled as Python does",
        "stream_ml/storage/pickling.py",
        "        if kind is random.Random:\n",
        "        if kind is None:\n",
        ("tests/storage/test_checkpoint_writer.py",),
    ),
    Bug(
        "a method is pickled without being judged",
        "stream_ml/storage/pickling.py",
        "            method_of(owner, value.__name__)\n",
        "            pass\n",
        ("tests/storage/test_checkpoint_writer.py",),
    ),
    Bug(
        "the seal is not compared",
        "stream_ml/storage/checkpoints.py",
        "        if self._key is not None and not hmac",
        "        if self._key is None and not hmac",
        ("tests/storage/test_checkpoint_attacks.py",),
    ),
    # --- who means no good ---
    Bug(
        "what is far from all others is learned like the rest",
        "stream_ml/core/fold/lineage_model.py",
        "        if not why:\n",
        "        if not why or mode == 'divert':\n",
        (RANGES,),
    ),
    Bug(
        "a batch is scored unclipped",
        "stream_ml/core/fold/limits.py",
        "        if not self._clips and not self._full:\n",
        "        if True:\n",
        (RANGES,),
    ),
    Bug(
        "a run is learned unclipped",
        "stream_ml/core/fold/lineage_model.py",
        "            rows, ys = self.model.limits.clip_rows(run.names, run.rows[first:last]), run.ys[first:last]\n",
        "            rows, ys = run.rows[first:last], run.ys[first:last]\n",
        (RANGES,),
    ),
    Bug(
        "bounds are not asked of a column",
        "stream_ml/core/inputs/features.py",
        "                wrong |= outside_of(array, step.bounds.min, step.bounds.max)\n",
        "                pass\n",
        ("tests/equivalence/test_values_at_the_edges.py",),
    ),
    Bug(
        "a page of somebody else's gets an answer",
        "stream_ml/observe/access.py",
        "        if named and not self._is_known(named):\n",
        "        if not named:\n",
        ("tests/observe/test_http.py",),
    ),
    Bug(
        "a checkpoint is not flushed to the disk",
        "stream_ml/storage/checkpoints.py",
        'passes("checkpoint-written")\n                os.fsync(file.fileno())\n',
        'passes("checkpoint-written")\n',
        (CHECKPOINTS,),
    ),
    Bug(
        "a blank model where no checkpoint can be used and the log has lost its beginning",
        "stream_ml/follower/restore.py",
        "    if first > 0:\n",
        "    if first < 0:\n",
        ("tests/system/kafka/test_refusals.py",),
    ),
    # --- runs ---
    Bug(
        "a linear model's run adds up in another order than River",
        "stream_ml/core/model/linear_batch.py",
        "        raw = 0.0\n",
        "        raw, row, weights = 0.0, row[::-1], weights[::-1]\n",
        (LINEAR,),
    ),
    Bug(
        "a run is believed and not proved",
        "stream_ml/core/model/linear_batch.py",
        "        if theirs is not None and theirs.bits() == state.bits():\n",
        "        if theirs is not None:\n",
        (LINEAR,),
    ),
    Bug(
        "a run changes the model before it is through",
        "stream_ml/core/model/linear_batch.py",
        "            if not after.finite():\n                return False\n",
        "            self._give(names, after)\n            if not after.finite():\n                return False\n",
        (LINEAR,),
    ),
    Bug(
        "a run counts the quality of what was not served",
        "stream_ml/core/evaluation/progressive.py",
        "        usable = labelled.said & labelled.usable & (scores >= 0.0) & (scores <= 1.0) & (labelled.positions >= 0)\n",
        "        usable = labelled.said & labelled.usable & (scores >= 0.0) & (scores <= 1.0)\n",
        (RUNS,),
    ),
    Bug(
        "a run goes on behind a signal that nobody has looked at",
        "stream_ml/core/drift/concept.py",
        "        while taken < len(rows) and not found:\n",
        "        while taken < len(rows):\n",
        ("tests/core/drift/test_concept.py",),
    ),
    Bug(
        "events of a backlog run ahead of their labels",
        "stream_ml/core/inputs/alignment.py",
        "        return backlogs\n",
        "        return False\n",
        (ALIGNMENT, ROUND),
    ),
    # --- signals ---
    Bug(
        "a worker's own signals are let go before they are written",
        "stream_ml/worker/report/signals.py",
        "        self._waiting = [signal for signal in self._waiting if signal not in self._offered]\n",
        "        self._waiting = []\n",
        ("tests/app/test_signal_outbox.py",),
    ),
    Bug(
        "every partition's owner tells what the fold has found",
        "stream_ml/core/partition/partition.py",
        "        if self._partition.number == 0:\n",
        "        if self._partition.number >= 0:\n",
        (SIGNALS,),
    ),
    Bug(
        "the position last signalled is not committed",
        "stream_ml/core/partition/partition.py",
        "partition.metadata_of(self._staged, floors, self._next_sequence, token, signalled)",
        "partition.metadata_of(self._staged, floors, self._next_sequence, token, partition.signalled)",
        (SIGNALS,),
    ),
    Bug(
        "a corrupted model reports what it finds",
        "stream_ml/core/fold/lineage_model.py",
        "        if not self.signals or self.signals[-1].position != offset or self.is_healthy:\n",
        "        if True:\n",
        (FOLD,),
    ),
    # --- several models ---
    Bug(
        "a serve that replaces another epoch is obeyed",
        "stream_ml/core/fold/roles.py",
        "        if epoch != self.table.epoch or type(epoch) is not int:\n",
        "        if type(epoch) is not int:\n",
        ("tests/core/fold/test_roles.py",),
    ),
    Bug(
        "a serve is obeyed only where it is folded",
        "stream_ml/core/fold/book.py",
        "            self.facts.read_roles(single.record.offset, entry)\n",
        "",
        ("tests/core/fold/test_roles.py",),
    ),
    Bug(
        "a model joins one entry early",
        "stream_ml/follower/lineup.py",
        "            if chase.replica.book.position == self.head.book.position and not",
        "            if chase.replica.book.position >= self.head.book.position - 1 and not",
        ("tests/follower/test_lineup.py",),
    ),
    Bug(
        "in a second halt the models are those of the first",
        "stream_ml/core/fold/facts.py",
        "            if read is None or self.roles is not read:",
        "            if read is None:",
        ("tests/follower/test_lineup.py",),
    ),
    Bug(
        "the halt of a successor is said only when the log goes on",
        "stream_ml/follower/follower.py",
        "        self._told.look(self.replica)  # a model that joined",
        "        # a model that joined",
        ("tests/follower/test_said.py",),
    ),
    Bug(
        "the second of two commands ends the halt of a model",
        "stream_ml/core/fold/halt.py",
        "        if halt is None or self.refold_from is not None or entry.command not in ENDING_A_HALT:\n",
        "        if halt is None or entry.command not in ENDING_A_HALT:\n",
        ("tests/core/fold/test_models_side_by_side.py",),
    ),
    Bug(
        "source out of the log is run before its seal is looked at",
        "stream_ml/follower/recipes.py",
        "        check_mac(config, said)",
        "        said",
        ("tests/follower/test_recipes.py",),
    ),
    Bug(
        "a model that has served takes over by itself again",
        "stream_ml/core/fold/roles.py",
        "        if known is None or known.retired:\n            by",
        "        if True:\n            by",
        ("tests/core/fold/test_roles.py",),
    ),
    Bug(
        "a model from a checkpoint goes through its sets as the pickle has them",
        "stream_ml/core/fold/lineage_model.py",
        '        self.model.begin(keep_born_sets(state["estimator"], self.settings.build()))\n',
        '        self.model.begin(state["estimator"])\n',
        ("tests/core/model/test_born_sets.py",),
    ),
    # --- what others may write ---
    Bug(
        "a schema entry is taken at its word",
        "stream_ml/core/log/logged_schemas.py",
        "        if said != found:\n",
        "        if False:\n",
        ("tests/core/log/test_output_schemas.py",),
    ),
    Bug(
        "a dead letter is taken at its word",
        "stream_ml/admin/redrive.py",
        'return again if _content(again) == _content(self._there.get(place)) else "foreign"',
        "return again",
        ("tests/system/kafka/test_watch.py",),
    ),
    Bug(
        "an entry without a seal is believed",
        "stream_ml/kafka/reading/log_reader.py",
        "        return NOT_SEALED.encode()\n    return value\n",
        "        pass\n    return value\n",
        ("tests/system/kafka/test_sealed_log.py",),
    ),
    Bug(
        "a sealed command that is written once more is obeyed",
        "stream_ml/core/fold/book.py",
        "            self.facts.check_new(offset, entry)\n",
        "",
        ("tests/core/log/test_seals.py",),
    ),
    Bug(
        "a seal of another log is believed",
        "stream_ml/core/log/seals.py",
        '_DOMAIN + topic_id.encode() + b"\\0", since',
        '_DOMAIN + b"\\0", since',
        ("tests/core/log/test_seals.py",),
    ),
    Bug(
        "a batch that cannot be unpacked is gone past as far as a step goes",
        "stream_ml/kafka/reading/unpacking.py",
        "            elif self._probes[where].step > 1:\n",
        "            elif False:\n",
        ("tests/system/kafka/test_cannot_be_unpacked.py",),
    ),
    Bug(
        "a rebuild finds no row for an event",
        "stream_ml/core/partition/restore.py",
        "        if number < 0:\n            return None\n",
        "        return None\n",
        ("tests/core/partition/test_restore.py",),
    ),
    Bug(
        "single examples are compared with runs",
        "stream_ml/follower/cost.py",
        "{alike or min(",
        "{min(",
        ("tests/follower/test_cost.py",),
    ),
    # --- what is written ---
    Bug(
        "a prediction without the event's key",
        "stream_ml/core/partition/partition.py",
        "            keys = picked(events.records.keys, rows)",
        "            keys = [None] * len(rows)",
        (ROUND,),
    ),
    Bug(
        "the version is read after the batch",
        "stream_ml/core/partition/partition.py",
        "        self._version: Version = serving.model.version\n",
        "        self._version: Version = serving.model.version._replace(position=serving.model.position + 1)\n",
        (CRASH,),
    ),
    # --- durable formats ---
    Bug(
        "a size that no entry can have is taken from the end",
        "stream_ml/core/log/entry_columns.py",
        "            if not length <= begin <= len(value) or value[length:begin] != text\n",
        "            if value[length:begin] != text\n",
        ("tests/core/log/test_formats.py",),
    ),
    Bug(
        "a command that nobody knows is passed over",
        "stream_ml/core/fold/book.py",
        "            entry.check_known()\n            self.facts.check_new(offset, entry)\n",
        "            self.facts.check_new(offset, entry)\n",
        ("tests/core/log/test_formats.py",),
    ),
    Bug(
        "skip passes what a later version wrote",
        "stream_ml/core/fold/halt.py",
        """        if halt.reason in OF_LATER_VERSIONS and said.get("later") is not True:
            return
""",
        "",
        ("tests/core/log/test_formats.py",),
    ),
    Bug(
        "a prediction of a later version is none",
        "stream_ml/core/partition/restore.py",
        "                    found.row = row\n                    raise found\n",
        "                    found.row = row\n",
        ("tests/system/kafka/test_later_versions.py",),
    ),
    Bug(
        "offsets of two transactions are gone on with",
        "stream_ml/kafka/committed.py",
        "    same = state is not None and mark is not None and state.token == mark.token\n",
        "    same = state is not None and mark is not None\n",
        ("tests/clients/test_inputs_ids.py",),
    ),
    Bug(
        "the last identity of a log holds",
        "stream_ml/core/fold/facts.py",
        "                self.genesis_again += bool(self.started)",
        "                self.log_id = found_id\n                self.genesis_again += bool(self.started)",
        ("tests/core/log/test_identity.py",),
    ),
    Bug(
        "a later field of a reserved name is passed over",
        "stream_ml/core/log/entry_columns.py",
        "        found |= batch.column(name).is_valid().to_numpy(zero_copy_only=False)\n",
        "        found |= False\n",
        ("tests/core/log/test_formats.py",),
    ),
    Bug(
        "a refused record stops its batch for ever",
        "stream_ml/worker/commit.py",
        "            self._bisect(batches)\n",
        "",
        ("tests/system/kafka/test_oversized.py", BAD),
    ),
    *SERVING,
    *BUCKET,
    *OUTSIDE,
    *PAST,
)
