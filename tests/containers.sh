#!/usr/bin/env bash
# A plan in containers, as `causeway topology render` writes it: requests across datacenters, one of them killed, held for
# lost, and back with its data. Needs Docker and docker-compose; removes all that it made. Takes a minute.
#
#   tests/containers.sh BINARY       a static one
set -euo pipefail

binary=$(realpath "$1")
work=$(mktemp -d)
project=causeway$$
compose() {
  if docker compose version >/dev/null 2>&1; then
    docker compose -p "$project" "$@"
  else
    docker-compose -p "$project" "$@"
  fi
}
finish() {
  status=$?
  if [ -e "$work/federation" ]; then
    cd "$work/federation"
    if [ $status -ne 0 ]; then compose logs --tail 20; fi
    compose down -v --rmi all >"$work/down.log" 2>&1 || cat "$work/down.log"
  fi
  rm -rf "$work"
  exit $status
}
trap finish EXIT

await() { # WHAT COMMAND...
  local what=$1
  shift
  for _ in $(seq 300); do
    if "$@" >/dev/null 2>&1; then return; fi
    sleep 0.2
  done
  echo "$0: not within 60 s: $what" >&2
  exit 1
}
get() { curl -fsS --max-time 5 "http://127.0.0.1:850$1/v1/$2"; }
put() { curl -fsS --max-time 5 -X PUT -d "$3" "http://127.0.0.1:850$1/v1/$2"; }
reads() { [ "$(get "$1" "$2")" = "$3" ]; }
health() { # OF WHAT, as dc1 sees it
  get 1 federation/status | python3 -c '
import json, sys
found = {dc["Name"]: dc["Health"] for dc in json.load(sys.stdin)["Datacenters"]}
sys.exit(found.get(sys.argv[1]) != sys.argv[2])' "$@"
}
all_healthy() {
  [ "$(compose ps -q | xargs docker inspect -f '{{.State.Health.Status}}' | sort -u)" = healthy ]
}

"$binary" topology render -dir="$work/federation" >/dev/null
cd "$work/federation"
compose up -d >"$work/up.log" 2>&1 || { cat "$work/up.log"; exit 1; }
for at in 1 2 3; do
  for dc in dc1 dc2 dc3; do await "dc$at asks $dc" get "$at" "catalog/nodes?dc=$dc"; done
done
await "every container is healthy" all_healthy
put 1 'kv/greeting?dc=dc2' hello >/dev/null
await "dc3 reads it" reads 3 'kv/greeting?raw&dc=dc2' hello
echo "three datacenters in containers, each asks each"

compose kill dc2-server-1 dc2-server-2 dc2-server-3 >/dev/null 2>&1
await "dc2 is lost" health dc2 lost
await "dc3 is well" health dc3 healthy
compose up -d >"$work/up.log" 2>&1 || { cat "$work/up.log"; exit 1; }
await "dc2 is back" health dc2 healthy
await "with its data" reads 3 'kv/greeting?raw&dc=dc2' hello
echo "a datacenter was killed, held for lost, and is back with its data"
