"""Images of others that this machine cannot pull, made from Debian's packages: they prove wiring, not those images.

Where the real image can be had it is taken; what stood in is said in the result.
"""

import subprocess

_FILES = {
    "haproxy:3.2": """\
FROM debian:bookworm-slim
RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends haproxy
USER haproxy
ENTRYPOINT ["haproxy", "-W", "-db", "-f", "/usr/local/etc/haproxy/haproxy.cfg"]
""",
    "prom/prometheus:v3.5.0": """\
FROM debian:bookworm-slim
RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends prometheus && install -d -o 65534 /prometheus
USER 65534
ENTRYPOINT ["prometheus", "--config.file=/etc/prometheus/prometheus.yml", "--storage.tsdb.path=/prometheus"]
""",
    "prom/alertmanager:v0.28.1": """\
FROM debian:bookworm-slim
RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends prometheus-alertmanager \\
  && install -d -o 65534 /alertmanager
USER 65534
ENTRYPOINT ["prometheus-alertmanager", "--config.file=/etc/alertmanager/alertmanager.yml", \\
  "--storage.path=/alertmanager", "--cluster.listen-address="]
""",
}


def is_here(image: str) -> bool:
    """Whether an image needs no pulling."""
    return subprocess.run(["docker", "image", "inspect", image], capture_output=True, check=False).returncode == 0


def had(images: list[str]) -> tuple[list[str], list[str]]:
    """Get images: pulled, else made. Those that were made here, and those that could not be had."""
    made, missing = [], []
    for image in images:
        if is_here(image):
            labels = subprocess.run(
                ["docker", "image", "inspect", "--format", '{{index .Config.Labels "stand-in"}}', image],
                capture_output=True,
                text=True,
                check=False,
            ).stdout.strip()
            made += [image] if labels == "yes" else []
        elif subprocess.run(["docker", "pull", "-q", image], capture_output=True, check=False).returncode == 0:
            continue
        elif image in _FILES:
            subprocess.run(
                ["docker", "build", "-q", "--label", "stand-in=yes", "-t", image, "-"],
                input=_FILES[image].encode(),
                check=True,
                capture_output=True,
            )
            made.append(image)
        else:
            missing.append(image)
    return made, missing
