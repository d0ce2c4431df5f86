#!/bin/sh
# Secrets of the composed service, made once: keys that seal the log and checkpoints, a token for metrics, an API key.
set -eu
umask 077
cd /run/stream-ml
random() { head -c 32 /dev/urandom | od -An -v -tx1 | tr -d ' \n'; }
[ -s log.key ] || random > log.key
[ -s checkpoints.key ] || random > checkpoints.key
[ -s models.key ] || random > models.key
[ -s /run/token/token ] || random > /run/token/token
chmod 0644 /run/token/token # Prometheus has another user
if [ ! -s api_keys.json ]; then
  stream-ml keys new "$STREAM_ML_CONFIG" flights --scope predict --scope feedback > api.key
  echo "an API key: docker compose -f deploy/compose/compose.yaml exec api-1 cat /run/stream-ml/api.key"
fi
