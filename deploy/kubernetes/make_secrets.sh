#!/bin/sh
# Makes the Secret stream-ml in a namespace, once: random keys, a token for metrics, and an API key, which is shown.
#   deploy/kubernetes/make_secrets.sh NAMESPACE CONFIG        needs kubectl and stream-ml; CONFIG: any with serve in it
set -eu
umask 077
namespace=${1:?which namespace}
config=${2:?which stream_ml.yaml}
if kubectl -n "$namespace" get secret stream-ml >/dev/null 2>&1; then
  echo "the Secret stream-ml is there already: keys that are replaced make a log and checkpoints unreadable" >&2
  exit 1
fi
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
random() { head -c 32 /dev/urandom | od -An -v -tx1 | tr -d ' \n'; }
for name in token log.key checkpoints.key models.key; do random > "$folder/$name"; done
echo "an API key, shown this once:"
stream-ml keys new "$config" first --scope predict --scope feedback --set "serve.auth.keys_file=$folder/api_keys.json"
kubectl -n "$namespace" create secret generic stream-ml --from-file="$folder"
