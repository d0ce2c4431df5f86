"""Bugs that traces, certificates, and a model away from Kafka can have, as patches."""

from tests.system.mutations.bug import Bug

TRACES, ACCESS = "tests/observe/test_traces.py", "tests/clients/test_access.py"
JOURNAL, EDGE = "tests/offline/test_journal.py", "tests/system/kafka/test_edge.py"

OUTSIDE = (
    Bug(
        "a file of an export that nobody sealed is run",
        "stream_ml/offline/exported.py",
        "    check_files(directory, files, folders[0])\n",
        "",
        (EDGE,),
    ),
    Bug(
        "an export carries the secret of its log",
        "stream_ml/admin/models/export.py",
        'head["log"] = {"id": log.log_id, "hash_seed": log.hash_seed}',
        'head["log"] = {"id": log.log_id, "hash_key": log.hash_key, "hash_seed": log.hash_seed}',
        (EDGE,),
    ),
    Bug(
        "a journal is taken on a newer export, which has learned it",
        "stream_ml/offline/journal.py",
        "        if begun != base:\n",
        "        if False:\n",
        (JOURNAL, EDGE),
    ),
    Bug(
        "a line that a crash cut off stays in the journal",
        "stream_ml/offline/journal.py",
        "        if at != end:\n            self._file.truncate(at)\n",
        "",
        (JOURNAL,),
    ),
    Bug(
        "labels are learned again at each start",
        "stream_ml/cli/models/export.py",
        "        self._at = int(at) if at.isdecimal() else 0\n",
        "        self._at = 0\n",
        (EDGE,),
    ),
    Bug(
        "a file of labels is read on where another one ended",
        "stream_ml/cli/models/export.py",
        "            if first != self._first or file.seek(0, os.SEEK_END) < self._at:  # another file, or written anew\n",
        "            if not self._first:\n",
        (EDGE,),
    ),
    Bug(
        "certificates are taken up while their key is on its way",
        "stream_ml/kafka/access/certificates.py",
        "            if now_s - self._since_s < STILL_S:\n                return\n",
        "",
        (ACCESS,),
    ),
    Bug(
        "a certificate that does not fit its key is taken up",
        "stream_ml/kafka/access/certificates.py",
        "                ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(certificate, key, self._password)\n",
        "                pass\n",
        (ACCESS,),
    ),
    Bug(
        "certificates beyond 2049 end a century before",
        "stream_ml/kafka/access/certificates.py",
        "    if tag == 0x17:",
        "    if True:",
        (ACCESS,),
    ),
    Bug(
        "an issuer that is away is a wrong configuration",
        "stream_ml/kafka/errors.py",
        "            kind = TransientError if refusal.passes or let_in.is_set() else ConfigError\n",
        "            kind = TransientError if let_in.is_set() else ConfigError\n",
        ("tests/system/kafka/test_oauth.py",),
    ),
    Bug(
        "what is forbidden to a worker that ran says that nothing was consumed",
        "stream_ml/kafka/errors.py",
        "            forbidden = FatalError if let_in.is_set() else ConfigError\n",
        "            forbidden = ConfigError\n",
        ("tests/system/kafka/test_oauth.py",),
    ),
    Bug(
        "credentials in an issuer's address are told",
        "stream_ml/kafka/access/refusals.py",
        """    return f"{scheme}{slashes}{host.rpartition('@')[2]}{slash}{path.partition('?')[0]}"\n""",
        "    return url\n",
        (ACCESS,),
    ),
    Bug(
        "chance traces what its caller did not want",
        "stream_ml/observe/traces.py",
        "(self.drawn() if parent is None else parent.sampled)",
        "self.drawn()",
        (TRACES,),
    ),
    Bug(
        "a request has the trace of the one before it",
        "stream_ml/observe/traces.py",
        "            CURRENT.set(None)  # a request that waited behind another one has its context\n",
        "",
        (TRACES,),
    ),
    Bug(
        "who traces everything is traced without a limit",
        "stream_ml/observe/traces.py",
        "        if not wanted or not self._limit.take():\n",
        "        if not wanted:\n",
        (TRACES,),
    ),
    Bug(
        "the stages of a turn begin before it",
        "stream_ml/observe/turn_spans.py",
        "max(began_ns, self._began_ns)",
        "began_ns",
        (TRACES,),
    ),
)
