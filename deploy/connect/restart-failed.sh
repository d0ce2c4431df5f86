#!/bin/sh
# restart-failed.sh http://127.0.0.1:8083 CONNECTOR...: every 30 s what has failed is started again; what runs is left
# alone. A sink that starts while its database or registry is away has failed for good otherwise.
connect=$1
shift
while sleep "${EVERY_S:-30}"; do
  for name in "$@"; do
    curl -fsS -m 10 -o /dev/null -X POST "$connect/connectors/$name/restart?includeTasks=true&onlyFailed=true" || true
  done
done
