"""The life of a service, told and followed by Consul's Python clients.

    lifecycle.py py-consul|python-consul

Both packages import as `consul`: each runs in an environment of its own (run.sh). Agents that run
already are named by the environment: FIRST, of dc1, and SECOND, of dc2, as ADDRESS:PORT of HTTP.
"""

import os
import socket
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import consul

META = {"rack": "7"}
SHOWN_MAX = 20  # seconds until a change has to show everywhere


def client(variable):
    host, port = os.environ[variable].rsplit(":", 1)
    return consul.Consul(host=host, port=int(port))


def until(what, condition):
    end = time.monotonic() + SHOWN_MAX
    while not (found := condition()):
        if time.monotonic() > end:
            sys.exit(f"not within {SHOWN_MAX} s: {what}")
        time.sleep(0.1)
    return found


class Health(BaseHTTPRequestHandler):
    """The service: it is well, or it is not."""

    status = 200

    def do_GET(self):
        self.send_response(Health.status)
        self.end_headers()

    def log_message(self, *_):
        pass


def passing(agent, name, **options):
    index, found = agent.health.service(name, passing=True, **options)
    assert int(index) > 0
    return found


def check_catalog(first, second, name):
    _, services = second.catalog.services(dc="dc1")
    assert sorted(services[name]) == ["blue", "v1"], services
    _, there = second.catalog.service(name, tag="v1", dc="dc1")
    assert there[0]["ServiceMeta"] == (META if name == "py-consul" else {}), there
    _, nodes = first.catalog.nodes()
    assert there[0]["Node"] in [node["Node"] for node in nodes]
    assert sorted(first.catalog.datacenters()) == ["dc1", "dc2"]
    own = first.agent.services()[name]
    assert own["Port"] == there[0]["ServicePort"], own


def check_wait(first, name):
    """A blocking query hears of the change, and a session of the client outlives it."""
    index, found = first.health.service(name, passing=True)
    assert len(found) == 1
    heard = []

    def wait():
        heard.append(client("FIRST").health.service(name, passing=True, index=index, wait="30s"))

    waiting = threading.Thread(target=wait)
    waiting.start()
    Health.status = 503
    waiting.join(SHOWN_MAX)
    assert heard and heard[0][1] == [], heard
    assert int(heard[0][0]) > int(index)
    _, checks = first.health.checks(name)
    assert checks[0]["Status"] == "critical" and "503" in checks[0]["Output"], checks
    Health.status = 200
    until("the service is well again", lambda: passing(first, name))


def check_ttl(first):
    first.agent.check.register("beat", consul.Check.ttl("30s"), check_id="beat")
    assert first.agent.checks()["beat"]["Status"] == "critical"
    first.agent.check.ttl_pass("beat", "well")
    checks = first.agent.checks()
    assert (checks["beat"]["Status"], checks["beat"]["Output"]) == ("passing", "well"), checks
    first.agent.check.ttl_fail("beat")
    until("the check is critical for all", lambda: [
        check for check in first.health.state("critical")[1] if check["CheckID"] == "beat"
    ])
    first.agent.check.deregister("beat")
    assert "beat" not in first.agent.checks()


def check_maintenance(first, name):
    first.agent.service.maintenance(name, "true", reason="repairs")
    until("it is taken out", lambda: not passing(first, name))
    first.agent.service.maintenance(name, "false")
    until("it is back", lambda: passing(first, name))


def check_kv(first, second):
    assert first.kv.put("clients/a", "ä & <b>")
    _, entry = second.kv.get("clients/a", dc="dc1")
    assert entry["Value"].decode() == "ä & <b>", entry
    assert first.kv.put("clients/a", "no", cas=1) is False
    assert first.kv.put("clients/a", "yes", cas=entry["ModifyIndex"])
    _, keys = first.kv.get("clients/", keys=True)
    assert keys == ["clients/a"], keys
    assert first.kv.delete("clients/", recurse=True)
    assert first.kv.get("clients/a")[1] is None
    written = first.txn.put([{"KV": {"Verb": "set", "Key": "clients/b", "Value": "eA=="}}])
    assert written["Results"][0]["KV"]["Key"] == "clients/b", written
    first.kv.delete("clients/b")


def check_external(first):
    """What has no agent is registered with the catalog itself."""
    service = {"service": "mail", "id": "mail1", "port": 25}
    assert first.catalog.register("outside", "192.0.2.25", service=service)
    _, found = first.catalog.service("mail")
    assert (found[0]["Address"], found[0]["ServicePort"]) == ("192.0.2.25", 25), found
    assert first.catalog.deregister("outside")
    assert first.catalog.service("mail")[1] == []


def main():
    name = sys.argv[1]
    first, second = client("FIRST"), client("SECOND")
    server = HTTPServer((os.environ["FIRST"].rsplit(":", 1)[0], 0), Health)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    host, port = server.server_address
    # python-consul has no word for it.
    meta = {"meta": META} if name == "py-consul" else {}
    first.agent.service.register(
        name, port=port, address=host, tags=["v1", "blue"], **meta,
        check=consul.Check.http(f"http://{host}:{port}/", interval="300ms", timeout="1s"),
    )
    until("the service passes in its datacenter", lambda: passing(first, name))
    found = until("and in the other", lambda: passing(second, name, dc="dc1"))
    with socket.create_connection((found[0]["Service"]["Address"], found[0]["Service"]["Port"])):
        pass
    assert passing(second, name) == [], "dc2 has none"
    check_catalog(first, second, name)
    check_wait(first, name)
    check_ttl(first)
    check_maintenance(first, name)
    check_kv(first, second)
    check_external(first)
    assert first.status.leader() and len(first.status.peers()) == 1
    assert len(first.agent.members()) == 2
    first.agent.service.deregister(name)
    until("it is gone for all", lambda: second.catalog.service(name, dc="dc1")[1] == [])
    print(f"{name}: registered, found, watched, maintained, removed")


main()
