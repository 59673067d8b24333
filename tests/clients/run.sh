#!/usr/bin/env bash
# The life of a service with clients that others wrote: py-consul and python-consul from PyPI, dig
# and HAProxy, against two datacenters of one server and one client agent. Takes half a minute.
#
#   tests/clients/run.sh [BINARY]       default: target/debug/causeway
set -euo pipefail
cd "$(dirname "$0")/../.."

binary=$(realpath "${1:-target/debug/causeway}")
here=$PWD/tests/clients
programs="dig haproxy curl python3"
# shellcheck source=tests/clients/common.sh
source "$here/common.sh"
environment py-consul
environment python-consul

start dc1-s "$net.1" dc1 -server -bootstrap-expect 1
start dc2-s "$net.2" dc2 -server -bootstrap-expect 1 -retry-join-wan "$net.1"
start dc1-c "$net.3" dc1 -retry-join "$net.1"
start dc2-c "$net.4" dc2 -retry-join "$net.2"

for pair in 3:dc2 4:dc1; do
  await "an agent asks ${pair#*:}" curl -fsS "http://$net.${pair%:*}:8500/v1/catalog/nodes?dc=${pair#*:}"
done

for client in py-consul python-consul; do
  FIRST=$net.3:8500 SECOND=$net.4:8500 "$environments/$client/bin/python" "$here/lifecycle.py" "$client"
done

# DNS: dig asks for what curl registers, in both datacenters, over UDP and TCP.
register() { # ADDRESS-OF-SERVICE PORT
  curl -fsS -X PUT "http://$net.3:8500/v1/agent/service/register" -d \
    "{\"ID\": \"web-$1\", \"Name\": \"web\", \"Address\": \"$1\", \"Port\": $2, \"Tags\": [\"v1\"]}"
}
python3 -m http.server --bind "$net.10" 8080 --directory "$here" >"$work/web-10.log" 2>&1 &
pids+=($!)
register "$net.10" 8080
await "DNS has the service" expect "$net.10 " "@$net.3" web.service.consul
for place in "@$net.4 web.service.dc1.consul" "@$net.4 +tcp v1.web.service.dc1.consul" "@$net.1 WEB.Service.Consul"; do
  # shellcheck disable=SC2086
  expect "$net.10 " $place
done
expect "1 1 8080 $(printf '%02x' 127 "${net:4:3}" "${net##*.}" 10).addr.dc1.consul. " "@$net.3" SRV web.service.consul
expect "dc1-c.node.dc1.consul. " "@$net.3" -x "$net.3"
ask "@$net.3" nobody.service.consul | grep . && { echo "run.sh: nobody is there" >&2; exit 1; }
dig +time=2 +tries=1 -p 8600 "@$net.3" nobody.service.consul | grep -q 'status: NXDOMAIN'
echo "dig: A, SRV, PTR, tags, both datacenters, UDP and TCP"

# HAProxy: its resolvers follow SRV records, so that a service registered later is balanced to.
cat >"$work/haproxy.cfg" <<END
global
  stats socket $work/haproxy.sock
defaults
  mode http
  timeout connect 1s
  timeout client 5s
  timeout server 5s
resolvers causeway
  nameserver agent $net.3:8600
  accepted_payload_size 1232
  hold valid 200ms
  timeout resolve 200ms
frontend in
  bind $net.9:8081
  default_backend web
backend web
  balance roundrobin
  server-template web 3 _web._tcp.service.consul resolvers causeway resolve-prefer ipv4 check inter 200ms
END
haproxy -db -f "$work/haproxy.cfg" >"$work/haproxy.log" 2>&1 &
pids+=($!)
await "HAProxy serves by the names" curl -fsS "http://$net.9:8081/run.sh"
up() { # COUNT
  local found
  found=$(curl -fsS "http://$net.3:8500/v1/health/service/web?passing" | python3 -c 'import json,sys; print(len(json.load(sys.stdin)))')
  [ "$found" = "$1" ] && [ "$(python3 - "$work/haproxy.sock" <<'END'
import socket, sys
stats = socket.socket(socket.AF_UNIX)
stats.connect(sys.argv[1])
stats.sendall(b"show stat\n")
text = b"".join(iter(lambda: stats.recv(65536), b"")).decode()
print(sum(line.startswith("web,web") and line.split(",")[17].startswith("UP") for line in text.splitlines()))
END
)" = "$1" ]
}
await "HAProxy has one server" up 1
python3 -m http.server --bind "$net.11" 8080 --directory "$here" >"$work/web-11.log" 2>&1 &
pids+=($!)
register "$net.11" 8080
await "HAProxy has a second server" up 2
curl -fsS -X PUT "http://$net.3:8500/v1/agent/service/deregister/web-$net.10"
await "HAProxy lets the first one go" up 1
curl -fsS "http://$net.9:8081/run.sh" >/dev/null
echo "haproxy: servers come and go by SRV records"
