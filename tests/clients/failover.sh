#!/usr/bin/env bash
# Failover as clients that others wrote see it, py-consul and dig: a service dies in its datacenter, then the whole
# datacenter that stood in for it, then the primary one, which returns. Resolvers and prepared queries decide where
# lookups go. Three datacenters of one server and one client agent; then everything again behind gateways, one of two of
# which dies. Takes two minutes.
#
#   tests/clients/failover.sh [BINARY]       default: target/debug/causeway
set -euo pipefail
cd "$(dirname "$0")/../.."

binary=$(realpath "${1:-target/debug/causeway}")
here=$PWD/tests/clients
programs="dig curl python3"
# shellcheck source=tests/clients/common.sh
source "$here/common.sh"
environment py-consul

# Everything of datacenter N is at addresses that end in N: its server at N, its client agent at 10+N, its gateways at 20+N
# and 30+N, its instance of web at 100+N.
flags() { # N
  local federation='{}' doors="$net.1 $net.2 $net.3"
  if [ "$behind" = gateways ]; then
    federation="{ \"gateways\": [\"$net.2$1\", \"$net.3$1\"] }"
    doors="$net.21 $net.31 $net.22 $net.32 $net.23 $net.33"
  fi
  echo "{ \"primary_datacenter\": \"dc1\", \"federation\": $federation }" >"$work/dc$1.json"
  echo "-server -bootstrap-expect 1 -config-file $work/dc$1.json"
  for door in $doors; do [[ "$door" == *"$1" ]] || echo "-retry-join-wan $door"; done
}
gateway() { # N ADDRESS
  "$binary" gateway -bind "$2:8302" -datacenter "dc$1" -server "dc$1-s=$net.$1" >>"$work/gateway-$2.log" 2>&1 &
  pids+=($!)
  pid_of[$2]=$!
}
datacenter() { # N
  # shellcheck disable=SC2046
  start "dc$1-s" "$net.$1" "dc$1" $(flags "$1")
  start "dc$1-c" "$net.1$1" "dc$1" -retry-join "$net.$1"
}
end() { # NODE...
  local node pid left=()
  for node in "$@"; do kill -9 "${pid_of[$node]}"; done
  for node in "$@"; do
    wait "${pid_of[$node]}" 2>/dev/null || true
    left=()
    for pid in "${pids[@]}"; do [ "$pid" = "${pid_of[$node]}" ] || left+=("$pid"); done
    pids=("${left[@]}")
  done
}
register() { # N
  curl -fsS -X PUT "http://$net.1$1:8500/v1/agent/service/register" -d \
    "{\"ID\": \"web\", \"Name\": \"web\", \"Address\": \"$net.10$1\", \"Check\": { \"CheckID\": \"up\", \"TTL\": \"1h\" }}"
  curl -fsS -X PUT "http://$net.1$1:8500/v1/agent/check/pass/up"
}

# How py-consul and dig see it at the client agent of datacenter N.
python() { # N WORDS...
  local at=$1
  shift
  AGENT=$net.1$at:8500 "$environments/py-consul/bin/python" "$here/failover.py" "$@"
}
looks() { # N M: lookups in datacenter N go to M
  [ "$(python "$1" look web)" = "dc$2 $net.10$2" ] && expect "$net.10$2 " "@$net.1$1" web.service.consul
}
runs() { # N QUERY M
  [ "$(python "$1" run "$2")" = "dc$3 of $2"$'\n'"dc$3 $net.10$3" ] && expect "$net.10$3 " "@$net.1$1" "$2.query.consul"
}
runs_into_nothing() { # N QUERY
  [ "$(python "$1" run "$2" | wc -l)" = 1 ] && [ -z "$(ask "@$net.1$1" "$2.query.consul")" ]
}

story() {
  for number in 1 2 3; do datacenter "$number"; done
  for at in 1 2 3; do
    for dc in dc1 dc2 dc3; do
      await "dc$at asks $dc" curl -fsS "http://$net.1$at:8500/v1/catalog/nodes?dc=$dc"
    done
    register "$at"
  done

  # A mistake is refused with a sentence that says where.
  if printf '{ "Kind": "service-resolver", "Name": "web", "Failover": { "*": { "Datacenter": ["dc2"] } } }' |
    "$binary" config write -http-addr "$net.1:8500" - 2>"$work/refused"; then
    echo "$0: a resolver with a mistake was taken" >&2
    exit 1
  fi
  grep -q 'Datacenter' "$work/refused"
  resolver='{ "Kind": "service-resolver", "Name": "web",
    "Failover": { "*": { "Datacenters": ["dc2", "dc3"], "HoldDown": "1s" } } }'
  echo "$resolver" | "$binary" config write -http-addr "$net.1:8500" -
  python 1 create near-q nearest
  python 1 create list-q dc3,dc2
  curl -fsS "http://$net.11:8500/v1/query" -o /dev/null -d \
    '{ "Name": "target-q", "Service": { "Service": "web", "OnlyPassing": true, "Failover": { "Targets": [{ "Datacenter": "dc2" }] } } }'
  await "dc1 answers for itself" looks 1 1
  for query in near-q list-q target-q; do await "$query finds the own one" runs 1 "$query" 1; done
  for at in 2 3; do await "dc$at has the resolver" "$binary" config read -http-addr "$net.1$at:8500" -kind service-resolver -name web; done

  curl -fsS -X PUT "http://$net.11:8500/v1/agent/check/fail/up"
  await "dc2 stands in for dc1's service" looks 1 2
  await "a query goes in its order" runs 1 list-q 3
  await "a query has its targets" runs 1 target-q 2
  [[ "$(python 1 run near-q)" =~ ^dc[23]\ of\ near-q ]]
  echo "py-consul, dig: a service is failed over by its resolver and by queries of every form"

  end dc2-s dc2-c
  await "dc3 stands in when dc2 is lost as well" looks 1 3
  for query in near-q list-q; do await "$query skips the lost one" runs 1 "$query" 3; done
  await "there is nothing left for a query" runs_into_nothing 1 target-q
  curl -fsS -X PUT "http://$net.11:8500/v1/agent/check/pass/up"
  await "lookups come home" looks 1 1
  echo "py-consul, dig: a lost datacenter is skipped, and lookups come home after the hold-down"

  datacenter 2
  await "dc3 asks dc2 again" curl -fsS "http://$net.13:8500/v1/catalog/nodes?dc=dc2"
  register 2
  if [ "$behind" = gateways ]; then end "$net.22"; fi
  await "dc3 has dc2's service" curl -fsS "http://$net.13:8500/v1/health/service/web?dc=dc2&passing"
  end dc1-s dc1-c
  curl -fsS -X PUT "http://$net.13:8500/v1/agent/check/fail/up"
  await "the policy goes on without the primary datacenter" looks 3 2
  if echo "$resolver" | timeout 30 "$binary" config write -http-addr "$net.13:8500" - 2>"$work/refused"; then
    echo "$0: an entry was written without the primary datacenter" >&2
    exit 1
  fi
  grep -q 'dc1' "$work/refused"
  datacenter 1
  await "the primary datacenter writes again" bash -c "echo '$resolver' | '$binary' config write -http-addr '$net.13:8500' -"
  await "and is asked again" curl -fsS "http://$net.13:8500/v1/catalog/nodes?dc=dc1"
  curl -fsS -X PUT "http://$net.13:8500/v1/agent/check/pass/up"
  await "dc3 answers for itself again" looks 3 3
  echo "py-consul, dig: the primary datacenter is lost and returns"
}

behind=nothing
story
end dc1-s dc1-c dc2-s dc2-c dc3-s dc3-c
rm -rf "$work"/dc*
behind=gateways
for number in 1 2 3; do
  gateway "$number" "$net.2$number"
  gateway "$number" "$net.3$number"
done
story
echo "all of it again behind gateways, one of which was killed"
