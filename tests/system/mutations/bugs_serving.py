"""Bugs that the scoring API can have, as patches: none of them shows in an answer that looks right."""

from tests.system.mutations.bug import Bug

LANES, SEAL = "tests/equivalence/test_lanes_of_a_request.py", "tests/core/partition/test_answered.py"
PREDICT, RECORDED = "tests/serve/test_predict.py", "tests/serve/test_recorded.py"
DOORS, FEEDBACK, DOCUMENT = (
    "tests/serve/test_doors.py",
    "tests/serve/test_feedback.py",
    "tests/serve/test_document_is_kept.py",
)
SUPERVISOR, CHILD = "tests/serve/test_supervisor.py", "tests/serve/test_child.py"
WRITER = "tests/system/kafka_mock/test_writer.py"
CLIENTS = "tests/serve/test_other_clients.py"

SERVING = (
    # --- what is read of a request ---
    Bug(
        "a float of the fast lane keeps more digits than Avro has",
        "stream_ml/core/api/typed.py",
        "        return float, _binary32\n",
        "        return float, None\n",
        (f"{LANES}::test_a_request_is_read_as_the_reference_judges_it",),
    ),
    Bug(
        "features by place stand in the order of their names",
        "stream_ml/core/api/places.py",
        "        for name, value in zip(self._names, values, strict=True):\n",
        "        for name, value in zip(sorted(self._names), values, strict=True):\n",
        (f"{LANES}::test_features_by_place_are_read_as_those_with_names",),
    ),
    Bug(
        "what is wrong in a partial request stands behind the rest",
        "stream_ml/core/api/door.py",
        "        return Asked(found, partial, record)\n",
        "        return Asked(sorted(found, key=lambda item: isinstance(item, list)), partial, record)\n",
        (f"{PREDICT}::test_in_a_partial_request_what_is_wrong_with_one_leaves_the_others_alone",),
    ),
    Bug(
        "the model's failure in a partial request leaves no place",
        "stream_ml/core/api/scoring.py",
        '            found.append({"error": told_fault(list(problem.faults), verbose=verbose)})\n',
        "",
        (f"{PREDICT}::test_a_model_that_raises_for_a_usable_event_is_our_mistake_and_keeps_its_words_to_itself",),
    ),
    Bug(
        "on_error that is no word of it fails nothing",
        "stream_ml/core/api/bodies.py",
        "        raise NotPlain\n    return on_error",
        "        pass\n    return on_error",
        (f"{PREDICT}::test_what_is_not_of_the_schema_is_refused_with_its_place",),
    ),
    Bug(
        "bounds are not asked of one event",
        "stream_ml/core/inputs/features.py",
        "                if bounds is not None and not bounds.admits(usable):\n",
        "                if bounds is None and not isinstance(usable, object):\n",
        (f"{PREDICT}::test_a_feature_out_of_its_bounds_is_refused_as_the_worker_refuses_it",),
    ),
    Bug(
        "one event by place is no object in the document",
        "stream_ml/core/api/document/openapi.py",
        '{"not": {"type": "array"}}',
        '{"not": {"type": ["array", "object"]}}',
        (f"{DOCUMENT}::test_one_event_by_place_that_begins_with_no_list_is_of_the_document_and_answered_in_its_place",),
    ),
    Bug(
        "one event by place is all of it no list in the document",
        "stream_ml/core/api/document/openapi.py",
        '{**loose, "prefixItems": [no_list]}',
        '{**loose, "items": no_list}',
        (f"{DOCUMENT}::test_one_event_by_place_that_begins_with_no_list_is_of_the_document_and_answered_in_its_place",),
    ),
    Bug(
        "what an alias sets keeps what the last request gave",
        "stream_ml/serve/handlers/aliases.py",
        "copy.deepcopy(self._alias.set)",
        "dict(self._alias.set)",
        (f"{DOORS}::test_one_request_of_an_alias_leaves_nothing_to_the_next",),
    ),
    # --- which version answers ---
    Bug(
        "the version is told as it is once Kafka has confirmed",
        "stream_ml/serve/handlers/predict.py",
        '        answered["model"] = self.model(moment)\n',
        '        answered["model"] = self.model(self._live.answering())\n',
        (f"{RECORDED}::test_an_answer_is_of_one_version_whoever_folds_between_two_of_its_steps",),
    ),
    Bug(
        "others go first between the version and the scores",
        "stream_ml/serve/handlers/predict.py",
        "        asked = moment.door.read(request.body, now_ms)\n",
        "        asked = moment.door.read(request.body, now_ms)\n        await __import__('asyncio').sleep(0)\n",
        (f"{RECORDED}::test_an_answer_is_of_one_version_whoever_folds_between_two_of_its_steps",),
    ),
    Bug(
        "others go first between the version of a recorded answer and its scores",
        "stream_ml/serve/handlers/predict.py",
        "        whole = [item for item in judged if isinstance(item, Recorded)]\n",
        "        whole = [item for item in judged if isinstance(item, Recorded)]\n        await __import__('asyncio').sleep(0)\n",
        (f"{RECORDED}::test_an_answer_is_of_one_version_whoever_folds_between_two_of_its_steps",),
    ),
    Bug(
        "who waited for a position is answered by the version of before",
        "stream_ml/serve/handlers/demands.py",
        """            await self._live.wait(is_here, self._wait_s(headers))
            self._judge(least, receipts)
        self._young_enough(headers.get(b"stream-ml-max-age"))
        return self._live.answering()
""",
        """            before = self._live.answering()
            await self._live.wait(is_here, self._wait_s(headers))
            self._judge(least, receipts)
            return before
        self._young_enough(headers.get(b"stream-ml-max-age"))
        return self._live.answering()
""",
        (f"{PREDICT}::test_a_position_that_is_not_here_yet_is_waited_for",),
    ),
    Bug(
        "a position of another lineage will do",
        "stream_ml/serve/handlers/demands.py",
        '        if least[0] not in ("", of.lineage):\n',
        "        if False:\n",
        (f"{PREDICT}::test_a_position_that_does_not_come_is_refused_with_the_one_that_is_here",),
    ),
    Bug(
        "a label counts as learned when the one before it is",
        "stream_ml/serve/live.py",
        "last_trigger(partition, BY_LABEL) >= offset\n",
        "last_trigger(partition, BY_LABEL) >= offset - 1\n",
        (f"{PREDICT}::test_a_label_counts_as_learned_once_its_example_or_a_later_one_is_folded",),
    ),
    # --- how old it is ---
    Bug(
        "age counts from the end of what was read",
        "stream_ml/serve/live.py",
        """        if heard is not None and heard.asked_s > self._fresh_s and follower.is_past(heard.end) and not behind:
            self._fresh_s = heard.asked_s
""",
        """        if not follower.behind and not behind:
            self._fresh_s = time.monotonic()
""",
        (f"{PREDICT}::test_age_counts_from_what_kafka_itself_said_last_and_not_from_the_end_of_what_was_read",),
    ),
    Bug(
        "what Kafka has and the model does not makes it no older",
        "stream_ml/serve/live.py",
        "heard.asked_s > self._fresh_s and follower.is_past(heard.end) and not behind",
        "heard.asked_s > self._fresh_s and not behind",
        (f"{PREDICT}::test_a_replica_that_has_not_folded_all_that_kafka_has_is_not_fresh",),
    ),
    Bug(
        "an old model's predictions are not flagged",
        "stream_ml/serve/handlers/predict.py",
        '        return moment.of._replace(flags=("stale", *moment.of.flags)) if self._live.is_stale else moment.of\n',
        "        return moment.of\n",
        (f"{PREDICT}::test_an_answer_of_a_replica_that_hears_nothing_of_kafka_grows_old_and_is_flagged",),
    ),
    Bug(
        "a caller that wants it younger takes a sound process away",
        "stream_ml/serve/handlers/demands.py",
        '            raise _too_old("older", age_ms, int(text))\n',
        '            raise _too_old("stale", age_ms, int(text))\n',
        (f"{PREDICT}::test_an_answer_of_a_replica_that_hears_nothing_of_kafka_grows_old_and_is_flagged",),
    ),
    # --- what is written ---
    Bug(
        "an answer does not wait for Kafka",
        "stream_ml/serve/handlers/record.py",
        "        await self._writer.write(self._topic, records)\n",
        "        self._last = __import__('asyncio').ensure_future(self._writer.write(self._topic, records))\n",
        (f"{RECORDED}::test_nothing_is_answered_before_kafka_has_confirmed_it",),
    ),
    Bug(
        "answers are sealed in each other's events",
        "stream_ml/serve/handlers/record.py",
        "zip(whole, scores, told, strict=True)",
        "zip(whole, scores[::-1], told, strict=True)",
        (f"{RECORDED}::test_what_is_sealed_in_an_event_is_what_was_answered_about_it",),
    ),
    Bug(
        "what a corrupted model says is sealed",
        "stream_ml/serve/handlers/record.py",
        '            if "unsound" not in one["flags"]:\n',
        "            if True:\n",
        (f"{RECORDED}::test_what_a_corrupted_model_says_is_answered_and_not_sealed",),
    ),
    Bug(
        "events of one request get one id",
        "stream_ml/serve/handlers/predict.py",
        "        judged = [moment.door.whole(row, one, now_ms, own_id(now_ms)) for row, one in enumerate(instances)]\n",
        "        same = own_id(now_ms)\n        judged = [moment.door.whole(row, one, now_ms, same) for row, one in enumerate(instances)]\n",
        (f"{RECORDED}::test_each_event_without_an_id_gets_one_of_its_own",),
    ),
    Bug(
        "what its caller does not want recorded is",
        "stream_ml/serve/handlers/record.py",
        "    if record is False:\n        return None\n    if partial:\n",
        "    if partial:\n",
        (f"{RECORDED}::test_what_its_caller_does_not_want_recorded_is_answered_and_not_written",),
    ),
    Bug(
        "a seal without the value",
        "stream_ml/core/partition/answered.py",
        " + hashlib.sha256(value).digest() + head\n",
        " + head\n",
        (f"{SEAL}::test_a_header_holds_for_one_record_alone",),
    ),
    Bug(
        "a seal without the topic",
        "stream_ml/core/partition/answered.py",
        "_long(topic.encode()) + _long(key)",
        "_long(key)",
        (f"{SEAL}::test_a_header_holds_for_one_record_alone",),
    ),
    Bug(
        "a seal without the key",
        "stream_ml/core/partition/answered.py",
        "_long(topic.encode()) + _long(key)",
        "_long(topic.encode())",
        (f"{SEAL}::test_a_header_holds_for_one_record_alone",),
    ),
    Bug(
        "a seal without the app",
        "stream_ml/core/partition/answered.py",
        "_DOMAIN + self._app_id + ",
        "_DOMAIN + ",
        (f"{SEAL}::test_other_apps_other_keys_and_none_are_not_believed",),
    ),
    Bug(
        "the worker scores what was answered",
        "stream_ml/core/partition/answered.py",
        '            found[row], answer = answer, "honoured"\n',
        '            answer = "honoured"\n',
        (f"{SEAL}::test_an_answered_event_is_published_as_answered_among_others_that_are_scored",),
    ),
    Bug(
        "a confirmation is taken for another record's",
        "stream_ml/serve/producer.py",
        "        for (key, value, headers), future in zip(records, futures, strict=True):\n",
        "        for (key, value, headers), future in zip(records, futures[::-1], strict=True):\n",
        (f"{WRITER}::test_each_record_stands_where_its_confirmation_says",),
    ),
    Bug(
        "what Kafka refuses is taken for written",
        "stream_ml/serve/producer.py",
        "        where = Confirmed(message.partition() or 0, message.offset() or 0) if error is None else None\n",
        "        where = Confirmed(max(0, message.partition() or 0), max(0, message.offset() or 0))\n",
        (f"{WRITER}::test_what_kafka_refuses_is_not_recorded",),
    ),
    Bug(
        "what Kafka does not confirm in time is taken for written",
        "stream_ml/serve/producer.py",
        '            raise self._problem(f"no confirmation in {self._ack_s:g} s") from None\n',
        "            return [Confirmed(0, 0) for _ in records]\n",
        (f"{WRITER}::test_what_is_not_confirmed_in_time_is_not_recorded",),
    ),
    Bug(
        "labels are accepted before Kafka has them",
        "stream_ml/serve/handlers/feedback.py",
        "        confirmed = await self._writer.write(self._config.feedback.topic, records)\n",
        "        self._last = __import__('asyncio').ensure_future(self._writer.write(self._config.feedback.topic, records))\n"
        "        await __import__('asyncio').sleep(0)\n        confirmed = [__import__('stream_ml.serve.producer', fromlist=['Confirmed']).Confirmed(0, n) for n in range(len(records))]\n",
        (f"{FEEDBACK}::test_labels_are_not_accepted_before_kafka_has_confirmed_them",),
    ),
    Bug(
        "a dry run writes",
        "stream_ml/serve/handlers/feedback.py",
        """        if dry_run == [b"true"]:
            return json_answer({"accepted": 0, "would_accept": len(records)})
        confirmed = await self._writer.write(self._config.feedback.topic, records)
""",
        """        confirmed = await self._writer.write(self._config.feedback.topic, records)
        if dry_run == [b"true"]:
            return json_answer({"accepted": 0, "would_accept": len(records)})
""",
        (f"{FEEDBACK}::test_a_dry_run_judges_labels_and_writes_none",),
    ),
    Bug(
        "after names the last label of a partition that came, not the latest",
        "stream_ml/serve/handlers/feedback.py",
        "for where in sorted(confirmed)}",
        "for where in confirmed}",
        (f"{FEEDBACK}::test_receipts_stand_in_the_order_of_the_labels_and_after_names_the_latest_of_each_partition",),
    ),
    Bug(
        "a label brings a key that its caller chose",
        "stream_ml/serve/handlers/feedback.py",
        '        if isinstance(given, dict) and "record" in given and not self._has_record:\n',
        "        if False:\n",
        (f"{FEEDBACK}::test_a_label_that_is_wrong_refuses_all_of_its_request",),
    ),
    Bug(
        "an event brings a key that its caller chose",
        "stream_ml/core/api/door.py",
        '            if "record" in value and all(field["name"] != "record" for field in self._schema.fields):\n',
        "            if False:\n",
        (f"{RECORDED}::test_a_request_that_is_refused_writes_nothing",),
    ),
    # --- who is let in, and how much ---
    Bug(
        "a scope is not asked for",
        "stream_ml/serve/access/guard.py",
        """        if scope not in found.scopes:
""",
        """        if not found.scopes:
""",
        (f"{DOORS}::test_every_route_needs_a_right_credential_of_its_scope",),
    ),
    Bug(
        "a key that has expired is right",
        "stream_ml/serve/access/keys.py",
        "if key is None or not is_right or (key.expires is not None and key.expires <= time.time()):",
        "if key is None or not is_right:",
        (f"{DOORS}::test_every_route_needs_a_right_credential_of_its_scope",),
    ),
    Bug(
        "who knows the id needs no secret",
        "stream_ml/serve/access/keys.py",
        "        if key is None or not is_right or (key",
        "        if key is None or (key",
        (f"{DOORS}::test_a_wrong_secret_with_a_known_id_is_refused",),
    ),
    Bug(
        "a schema that is not public is",
        "stream_ml/serve/access/gate.py",
        'return not scope or (scope == "schema" and self.settings.public_schema)',
        'return not scope or scope == "schema"',
        (f"{DOORS}::test_every_route_needs_a_right_credential_of_its_scope",),
    ),
    Bug(
        "the rate is taken before it is known who asks",
        "stream_ml/serve/access/gate.py",
        "        principal = await self.guard.admit(headers",
        """        if self.settings.rate is not None:
            self._rates.take(address, self.settings.rate)
        principal = await self.guard.admit(headers""",
        (f"{DOORS}::test_who_has_no_right_key_takes_nothing_of_the_rate_of_who_has_one",),
    ),
    Bug(
        "the rate is that of a header",
        "stream_ml/serve/access/gate.py",
        "self._rates.take(principal.id or address, rate)",
        'self._rates.take((headers.get(b"x-api-key") or headers.get(b"authorization") or b"").decode("latin-1") or address, rate)',
        (f"{DOORS}::test_a_key_has_one_rate_whatever_headers_it_comes_with",),
    ),
    Bug(
        "the rate of an address is that of a header",
        "stream_ml/serve/access/gate.py",
        "self._rates.take(principal.id or address, rate)",
        'self._rates.take(principal.id or headers.get(b"x-forwarded-for", b"").decode("latin-1") or address, rate)',
        (f"{DOORS}::test_without_keys_an_address_has_one_rate_whatever_headers_it_sends",),
    ),
    Bug(
        "a page of another site may ask where there are no keys",
        "stream_ml/serve/http/app.py",
        """        self._access = Access(hosts) if gate.guard.is_open else None
""",
        """        self._access = None if gate.guard.is_open else Access(hosts)
""",
        (f"{DOORS}::test_a_page_of_another_site_cannot_ask_under_a_name_of_its_own",),
    ),
    Bug(
        "a page of another site may ask the second time",
        "stream_ml/serve/http/app.py",
        """        if refusal is not None:
            raise Problem("forbidden", refusal[1].strip())
        if len(self._hosts) < HOSTS_MAX:
            self._hosts.add(host)
""",
        """        if len(self._hosts) < HOSTS_MAX:
            self._hosts.add(host)
        if refusal is not None:
            raise Problem("forbidden", refusal[1].strip())
""",
        (f"{DOORS}::test_a_page_of_another_site_cannot_ask_under_a_name_of_its_own",),
    ),
    Bug(
        "a body is measured once all of it is here",
        "stream_ml/serve/http/app.py",
        """            if len(found) > most:
                raise _too_large(most)
            if not event.get("more_body", False):
                return bytes(found)
""",
        """            if not event.get("more_body", False):
                if len(found) > most:
                    raise _too_large(most)
                return bytes(found)
""",
        (f"{DOORS}::test_no_more_of_a_body_is_kept_than_the_limit_before_it_is_refused",),
    ),
    Bug(
        "a length that is too large is read all the same",
        "stream_ml/serve/http/app.py",
        "        if length and int(length) > most:",
        "        if length and int(length) > 2**60:",
        (f"{DOORS}::test_bodies_of_other_kinds_and_sizes_are_not_read",),
    ),
    Bug(
        "a request that failed keeps its place",
        "stream_ml/serve/access/gate.py",
        "    def __exit__(self, *_: object) -> None:\n        self.in_flight -= 1\n",
        "    def __exit__(self, *failed: object) -> None:\n        self.in_flight -= failed[0] is None\n",
        (f"{DOORS}::test_a_request_that_failed_leaves_its_place_to_others",),
    ),
    Bug(
        "requests whose bodies have not come take places",
        "stream_ml/serve/http/app.py",
        """        body = await self._body(headers, receive, route) if route.method == "POST" else b""
        with self._gate.entered(route.scope):  # not before its body is here: it may never come
""",
        """        with self._gate.entered(route.scope):
            body = await self._body(headers, receive, route) if route.method == "POST" else b""
""",
        (f"{DOORS}::test_requests_whose_bodies_have_not_come_take_nobodys_place",),
    ),
    Bug(
        "refusals repeat values that are to stay private",
        "stream_ml/serve/http/app.py",
        "verbose = self._settings.verbose_errors",
        "verbose = True",
        (f"{PREDICT}::test_values_are_not_repeated_where_the_operator_wants_that",),
    ),
    # --- processes ---
    Bug(
        "connections of a process that is about to end are kept",
        "stream_ml/serve/http/app.py",
        "        if self._gate.draining or answer.status in (408, 413):",
        "        if answer.status in (408, 413):",
        (f"{DOORS}::test_a_process_that_is_about_to_end_says_so_and_has_its_connections_closed",),
    ),
    Bug(
        "told to stop it ends at once",
        "stream_ml/serve/child.py",
        "        loop.call_later(self._settings.drain / 1000, self._end)\n",
        "        self._end()\n",
        (f"{CHILD}::test_a_child_that_is_told_to_stop_answers_on_for_its_time_to_drain",),
    ),
    Bug(
        "a child outlives its supervisor",
        "stream_ml/serve/child.py",
        "        loop.add_reader(self._pipes.life, self._told_to_stop)\n",
        "",
        (f"{CHILD}::test_a_child_ends_when_its_supervisor_does",),
    ),
    Bug(
        "a request may come as slowly as it likes",
        "stream_ml/serve/http/protocol.py",
        "            self._deadline = self.loop.call_later(self.limits.read_s, self._refuse, 408)\n",
        "            pass\n",
        (f"{CHILD}::test_a_request_that_does_not_come_to_its_end_is_let_go",),
    ),
    Bug(
        "a child that is silent is waited for",
        "stream_ml/serve/supervisor.py",
        "        return self.silent_s > (SILENT_S if self.status else FIRST_S)\n",
        "        return not self.status and self.silent_s > FIRST_S\n",
        (f"{SUPERVISOR}::test_a_child_that_falls_silent_or_dies_is_replaced",),
    ),
    Bug(
        "a child that dies is not replaced",
        "stream_ml/serve/supervisor.py",
        "        self._due_s.append(time.monotonic() + self._pause_s)\n",
        "",
        (f"{SUPERVISOR}::test_a_child_that_falls_silent_or_dies_is_replaced",),
    ),
    Bug(
        "an old child is told to stop before the new one answers",
        "stream_ml/serve/supervisor.py",
        "            if not self._successor.ready:\n                return\n",
        "",
        (f"{SUPERVISOR}::test_an_old_child_is_told_to_stop_only_once_its_successor_is_ready",),
    ),
    Bug(
        "tokens for somebody else are right",
        "stream_ml/serve/access/tokens.py",
        """                audience=settings.audience,
""",
        """                audience=jwt.decode(token, options={"verify_signature": False}).get("aud"),
""",
        ("tests/serve/test_tokens.py",),
    ),
    Bug(
        "every unknown key asks the issuer",
        "stream_ml/serve/access/tokens.py",
        "AGAIN_S = 10.0",
        "AGAIN_S = 0.0",
        ("tests/serve/test_tokens.py",),
    ),
    Bug(
        "a remembered token never expires",
        "stream_ml/serve/access/tokens.py",
        """            if known[1] > now_s:
""",
        """            if known[1] > 0:
""",
        ("tests/serve/test_tokens.py",),
    ),
    Bug(
        "an outage of the issuer forgets its keys",
        "stream_ml/serve/access/tokens.py",
        """            self.problem = words
        finally""",
        """            self.problem, self._keys = words, {}
        finally""",
        ("tests/serve/test_tokens.py",),
    ),
    Bug(
        "a client's certificate of any name is right",
        "stream_ml/serve/access/guard.py",
        "if not name or (self._mtls.names and name not in self._mtls.names):",
        "if not name:",
        ("tests/serve/test_tls.py",),
    ),
    Bug(
        "who shows a wrong key is let in by a certificate",
        "stream_ml/serve/access/guard.py",
        """        if found is None and certificate and not given:
""",
        """        if found is None and certificate:
""",
        ("tests/serve/test_tls.py",),
    ),
    Bug(
        "narrow floats keep the digits that they do not have",
        "stream_ml/core/api/tensors.py",
        "float(value) if narrow is None else narrow.unpack(narrow.pack(value))[0]",
        "float(value)",
        ("tests/serve/test_inference.py",),
    ),
    Bug(
        "a whole number that a float has rounded is taken",
        "stream_ml/core/api/tensors.py",
        "abs(value) <= WHOLE_MAX and value",
        "value",
        (f"{CLIENTS}::test_a_number_of_json_is_taken_where_it_is_one_of_the_type",),
    ),
    Bug(
        "a page elsewhere may send a body of no kind",
        "stream_ml/serve/http/app.py",
        ' and b"origin" not in headers and b"sec-fetch-site" not in headers',
        "",
        (f"{CLIENTS}::test_a_body_of_no_kind_is_not_taken_from_a_page",),
    ),
    Bug(
        "the name of the model in a body is refused",
        "stream_ml/serve/handlers/inference.py",
        "    model_name: str | None = None  # KServe's client repeats that of the path, which counts\n",
        "",
        (f"{CLIENTS}::test_requests_of_other_clients_are_answered",),
    ),
    Bug(
        "contents that are empty are contents",
        "stream_ml/serve/rpc/tensors.py",
        "any(one.contents.ByteSize() for one in inputs)",
        'any(one.HasField("contents") for one in inputs)',
        (f"{CLIENTS}::test_calls_of_other_clients_are_answered",),
    ),
    Bug(
        "answers in part repeat values whatever the operator wants",
        "stream_ml/core/api/scoring.py",
        '{"detail": first.detail[:300]} if verbose else {}',
        '{"detail": first.detail[:300]}',
        ("tests/serve/test_inference.py::test_a_refusal_repeats_no_value_where_the_operator_wants_that",),
    ),
    Bug(
        "raw contents are read in the other order of bytes",
        "stream_ml/core/api/tensors.py",
        'np.dtype(f"<f{bits // 8}")',
        'np.dtype(f">f{bits // 8}")',
        ("tests/serve/test_inference.py",),
    ),
    Bug(
        "a row without an answer is told as zero",
        "stream_ml/core/api/inference.py",
        """        if None in found:
""",
        """        if None in found and not (found := [one or 0.0 for one in found]):
""",
        ("tests/serve/test_inference.py",),
    ),
    Bug(
        "a method of gRPC asks nobody who it is",
        "stream_ml/serve/rpc/server.py",
        """            "ModelInfer": Rule("predict", self._infer),
""",
        """            "ModelInfer": Rule("", self._infer),
""",
        ("tests/serve/test_inference.py",),
    ),
    Bug(
        "a stream is open to everybody until its first request",
        "stream_ml/serve/rpc/server.py",
        """                await self._gate.admitted(rule.scope, *who, counts=False)
""",
        "",
        ("tests/serve/test_inference.py",),
    ),
    Bug(
        "a repeated request is written again",
        "stream_ml/serve/handlers/repeats.py",
        """        if known is not None and known.until_s > time.monotonic():
""",
        """        if known is not None and known.until_s > time.monotonic() and known.answer is None:
""",
        ("tests/serve/test_labels.py",),
    ),
    Bug(
        "a key may come with another body",
        "stream_ml/serve/handlers/repeats.py",
        """            if known.digest != digest:
""",
        """            if known.digest != digest and known.answer is None:
""",
        ("tests/serve/test_labels.py",),
    ),
    Bug(
        "a key of one caller is another's, too",
        "stream_ml/serve/handlers/repeats.py",
        "(request.principal, request.path, key)",
        '("", request.path, key)',
        ("tests/serve/test_labels.py",),
    ),
    Bug(
        "columns are scored with the weights of others",
        "stream_ml/core/model/linear_batch.py",
        """                raw = raw + weight * scaled
""",
        """                raw = raw + weight * scaled if number else raw + (weight + 1e-9) * scaled
""",
        ("tests/equivalence/test_linear_batch.py",),
    ),
    Bug(
        "values beyond their bounds pass in columns",
        "stream_ml/core/api/rows.py",
        """    if not (feature.low <= found.min() and found.max() <= feature.high):
""",
        """    if not feature.low <= found.min():
""",
        ("tests/serve/test_predict.py::test_a_feature_out_of_its_bounds_is_refused_as_the_worker_refuses_it",),
    ),
)
