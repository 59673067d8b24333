#!/usr/bin/env python3
"""What the harness of `make bench` has no scenario for: watchers of a service, agents with checks and with a
large cache, catalogs of 100,000 instances, DNS by the cache, and clients whose servers are gone.

    BENCH=../shared/bench tests/bench/services.py --system consul --system candidate \\
        --only service_watch --only idle_checks --only cut_off --only cached_services --only catalog

Takes the options of the harness. The systems `tests/bench/services.py:ConsulCached` and
`...:CandidateCached` are the usual ones with `dns_config.use_cache`, for its `name_service`.
"""

import json
import os
import signal
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

BENCH = Path(os.environ.get("BENCH", Path(__file__).parents[3] / "shared/bench"))
sys.path.insert(0, str(BENCH))

import peers  # noqa: E402
from clients import Conn, Watchers, dns, get, put  # noqa: E402
from cluster import Cluster, until  # noqa: E402
from federation import registration  # noqa: E402
from load import percentile, pump  # noqa: E402
from machine import Window, memory  # noqa: E402
from systems import Candidate, Consul  # noqa: E402

MIB = 2**20


class ConsulCached(Consul):
    """Consul whose DNS is answered by the agent's cache."""

    name = "consul-cached"

    def config(self, node, peers, remotes):
        return super().config(node, peers, remotes) | {"dns_config": {"use_cache": True}}


class CandidateCached(ConsulCached):
    """Causeway whose DNS is answered by the agent's cache, also while servers answer."""

    name = "candidate-cached"
    binary = Candidate.binary


class ServiceWatchers(Watchers):
    """Watchers of a service instead of a key: the harness writes keys, and is led elsewhere."""

    def wake(self, writer, port, settle):
        path = "/v1/health/service/watched?passing"
        index = get(self.addr, path).index
        for conn in self.conns:
            conn.send("GET", f"{path}&index={index}&wait=60s")
        time.sleep(settle)
        body = json.loads(registration("watched", 0)[2])
        body["Service"]["Port"] = port
        conn = Conn(writer)
        sent = time.monotonic()
        reply = conn.request("PUT", "/v1/catalog/register", json.dumps(body).encode())
        acknowledged = time.monotonic()
        conn.close()
        assert reply.ok, reply.text
        arrivals = []
        for conn in self.conns:
            assert conn.receive().ok
            arrivals.append((time.monotonic() - sent) * 1e3)
        return (acknowledged - sent) * 1e3, arrivals


def service_watch(f):
    """1,000 blocking queries for one service, until the last one has its answer."""
    f.need_instances("dc1", "watched", 10)
    leader = f.cluster.leader("dc1").http
    for role in ("leader", "client"):
        watchers = ServiceWatchers(f.addr(role), "", 1000)
        f.meter.wait_quiet(f.cluster.pids)
        medians, lasts = [], []
        with Window(f.cluster.pids) as w:
            for round_ in range(6):
                _, arrivals = watchers.wake(leader, 9000 + round_ + (role == "client") * 100, 1.0)
                if round_:
                    medians.append(percentile(arrivals, 50))
                    lasts.append(max(arrivals))
        watchers.close()
        name = f"service_watch.{role}.1000_watchers"
        f.results.add(f"{name}.median_watcher", percentile(medians, 50), "ms", w.foreign)
        f.results.add(f"{name}.last_watcher", percentile(lasts, 50), "ms", w.foreign)
        f.results.add(f"{name}.cpu_of_a_wake", w.own * 1e3 / 6, "ms", w.foreign)


class Well(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_):
        pass


def idle_checks(f):
    """A client agent that does nothing but run 100 HTTP checks, each every ten seconds."""
    client = f.cluster.client("dc1")
    server = ThreadingHTTPServer(("127.0.98.1", 0), Well)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.98.1:{server.server_address[1]}/"
    for number in range(100):
        check = {"Name": f"check-{number}", "HTTP": url, "Interval": "10s", "Timeout": "1s"}
        reply = put(client.http, "/v1/agent/check/register", json.dumps(check).encode())
        assert reply.ok, reply.text
    passing = lambda: sum(it["Status"] == "passing" for it in get(client.http, "/v1/agent/checks").json().values())
    until(lambda: passing() >= 100, 40, 0.5, "all checks pass")
    time.sleep(5)
    f.meter.wait_quiet(f.cluster.pids)
    with Window([client.pid]) as w:
        time.sleep(20)
    f.results.add("idle_checks.client.cpu", 100 * w.own / w.seconds, "% of a core")
    f.results.add("idle_checks.client.rss", memory(client.pid)[0] / MIB, "MiB")
    server.shutdown()


def cached_services(f):
    """A client agent that keeps 10,000 services fresh in its cache."""
    client, leader, count = f.cluster.client("dc1"), f.cluster.leader("dc1"), 10_000
    one = lambda number: json.dumps({
        "Node": f"node-{number % 100}", "Address": f"10.1.0.{number % 100}",
        "Service": {"ID": f"kept-{number}", "Service": f"kept-{number}", "Port": 8080, "Tags": ["v1"]},
    }).encode()
    pump(leader.http, (("PUT", "/v1/catalog/register", one(number)) for number in range(count)))
    before = memory(client.pid)[1]
    with Window(f.cluster.pids) as w:
        began = time.monotonic()
        asks = (("GET", f"/v1/health/service/kept-{number}?cached", b"") for number in range(count))
        pump(client.http, asks, 8)
    f.results.add("cached_services.10000_cold.seconds", time.monotonic() - began, "s", w.foreign)
    time.sleep(5)
    f.results.add("cached_services.10000.memory", (memory(client.pid)[1] - before) / MIB, "MiB")
    with Window([client.pid]) as w:
        time.sleep(10)
    f.results.add("cached_services.10000.idle_cpu", 100 * w.own / w.seconds, "% of a core")
    leaders = Window([leader.pid])
    with leaders:
        time.sleep(10)
    f.results.add("cached_services.10000.idle_cpu_of_leader", 100 * leaders.own / leaders.seconds, "% of a core")


class Asker(threading.Thread):
    """Asks one thing again and again, each time on a connection of its own."""

    def __init__(self, ask):
        super().__init__(daemon=True)
        self.ask, self.stopping, self.seen = ask, False, []

    def run(self):
        while not self.stopping:
            began = time.monotonic()
            self.seen.append((began, *self.ask(), time.monotonic() - began))
            time.sleep(0.02)


def cut_off(f):
    """All servers of a client agent hang, for ten seconds: what its clients see meanwhile."""
    f.need_instances("dc1", "web", 10)
    client, servers = f.cluster.client("dc1"), f.cluster.servers("dc1")
    path = "/v1/health/service/web?passing"

    def http(query):
        def ask():
            reply = get(client.http, path + query, timeout=30)
            held = reply.headers.get("x-cache") == "HIT" and reply.headers.get("age", "0") != "0"
            return (reply.ok, held or int(reply.headers.get("x-consul-lastcontact", 0)) > 0)
        return ask

    def name():
        code, answers, _ = dns(client.dns, "web.service.consul", timeout=30)
        return (answers > 0, None)

    asks = {"stale": http("&stale"), "cached": http("&cached"), "dns": name, "default": http("")}
    for ask in asks.values():
        assert ask()[0]
    askers = {what: Asker(ask) for what, ask in asks.items()}
    for asker in askers.values():
        asker.start()
    time.sleep(2)
    cut = time.monotonic()
    for server in servers:
        server.process.send_signal(signal.SIGSTOP)
    time.sleep(10)
    back = time.monotonic()
    for server in servers:
        server.process.send_signal(signal.SIGCONT)
    time.sleep(10)
    for asker in askers.values():
        asker.stopping = True
    for what, asker in askers.items():
        asker.join(40)
        during = [seen for seen in asker.seen if cut <= seen[0] < back]
        f.results.add(f"cut_off.{what}.failed", sum(not ok for _, ok, _, _ in during), "requests")
        f.results.add(f"cut_off.{what}.answered", sum(ok for _, ok, _, _ in during), "requests")
        f.results.add(f"cut_off.{what}.longest", max(took for *_, took in during), "s")
    default = askers["default"].seen
    quick = [at for at, ok, _, took in default if cut <= at < back and not ok and took < 0.05]
    f.results.add("cut_off.until_known", min(quick, default=back) - cut, "s")
    again = [at + took for at, ok, _, took in default if at >= back and ok]
    f.results.add("cut_off.until_return_known", min(again, default=back + 10) - back, "s")


def catalog(f):
    """100,000 instances in one fresh datacenter, a hundred services on a thousand nodes."""
    f.cluster.stop()
    cluster = f.cluster = Cluster(f.system, f.root / "catalog", f.net, ("dc1",))
    cluster.start(*cluster.nodes)
    cluster.leader("dc1")
    cluster.await_converged("dc1")
    roles = {"leader": cluster.leader("dc1"), "follower": cluster.follower("dc1")}

    def one(number):
        node, service = f"node-{number % 1000}", f"service-{number % 100}"
        return "PUT", "/v1/catalog/register", json.dumps({
            "Node": node, "Address": f"10.2.{number % 1000 // 250}.{number % 250}", "SkipNodeUpdate": True,
            "Service": {"ID": f"{service}-{number}", "Service": service, "Port": 8080, "Tags": ["primary", "v1"]},
            "Check": {"CheckID": f"check-{number}", "Name": "alive", "ServiceID": f"{service}-{number}", "Status": "passing"},
        }).encode()

    done = 0
    for count in (10_000, 100_000):
        began = time.monotonic()
        pump(roles["leader"].http, map(one, range(done, count)))
        f.results.add(f"catalog.{count}.load_rate", (count - done) / (time.monotonic() - began), "instances/s")
        done = count
        time.sleep(5)
        for role, node in roles.items():
            f.results.add(f"catalog.{count}.{role}.rss", memory(node.pid)[0] / MIB, "MiB")


peers.SCENARIOS |= {it.__name__: it for it in (service_watch, idle_checks, cached_services, cut_off)}
peers.SCENARIOS["catalog"] = catalog  # the last: it ends the federation

if __name__ == "__main__":
    peers.main()
