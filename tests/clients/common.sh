# What the stories of clients have in common; sourced with `binary` and the programs in `programs`.
# shellcheck shell=bash

# shellcheck disable=SC2154
for program in $programs; do
  command -v "$program" >/dev/null || {
    echo "$0: $program is not installed; Debian has it in dnsutils, haproxy, curl and python3-venv" >&2
    exit 2
  }
done

environments=$PWD/target/clients
environment() { # CLIENT
  [ -x "$environments/$1/bin/python" ] || python3 -m venv "$environments/$1"
  "$environments/$1/bin/python" -m pip install --quiet --disable-pip-version-check "$1"
}

work=$(mktemp -d)
pids=()
finish() {
  status=$?
  kill "${pids[@]}" 2>/dev/null || true
  wait 2>/dev/null || true
  if [ $status -ne 0 ]; then tail -n 20 "$work"/*.log; fi
  rm -rf "$work"
  exit $status
}
trap finish EXIT

# Addresses of loopback that nobody else on this machine is likely to have.
net=127.$((RANDOM % 100 + 100)).$((RANDOM % 200))
declare -A pid_of
start() { # NODE ADDRESS DC FLAGS...
  local node=$1 address=$2 dc=$3
  shift 3
  "$binary" agent -node "$node" -bind "$address" -client "$address" -datacenter "$dc" \
    -data-dir "$work/$node" "$@" >>"$work/$node.log" 2>&1 &
  pids+=($!)
  pid_of[$node]=$!
}
await() { # WHAT COMMAND...
  local what=$1
  shift
  for _ in $(seq 200); do
    if "$@" >/dev/null 2>&1; then return; fi
    sleep 0.1
  done
  echo "$0: not within 20 s: $what" >&2
  exit 1
}
ask() { dig +short +time=2 +tries=1 -p 8600 "$@"; }
expect() { # EXPECTED QUESTION...
  local expected=$1 found
  shift
  found=$(ask "$@" | sort | tr '\n' ' ')
  [ "$found" = "$expected" ] || {
    echo "$0: dig $*: expected '$expected', found '$found'" >&2
    return 1
  }
}
