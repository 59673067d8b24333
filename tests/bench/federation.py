#!/usr/bin/env python3
"""What crosses the WAN, and what does not: reads of another datacenter at a distance, what mirrors cost, how soon
the loss of a datacenter is known, and what others notice of one that is frozen.

    BENCH=../shared/bench tests/bench/federation.py --system tests/bench/federation.py:Relayed \\
        --only remote_reads --only mirror_traffic --only crowd
    REPETITIONS=20 ... --only losses

Takes the options of the harness. `Relayed` is Causeway with a relay between the datacenters, which delays, drops
and counts their packets; scenarios that need it say so.
"""

import asyncio
import json
import os
import signal
import socket
import sys
import threading
import time
from collections import Counter
from pathlib import Path

BENCH = Path(os.environ.get("BENCH", Path(__file__).parents[3] / "shared/bench"))
sys.path.insert(0, str(BENCH))

import peers  # noqa: E402
from clients import Conn, dns, get, put  # noqa: E402
from cluster import Cluster, until  # noqa: E402
from federation import registration  # noqa: E402
from load import dnsperf, percentile, pump, wrk  # noqa: E402
from machine import Window, memory  # noqa: E402
from systems import Candidate  # noqa: E402

REPETITIONS = int(os.environ.get("REPETITIONS", "5"))
WAN_PORT = 8302


class Relay:
    """Carries WAN packets between servers, which only know each other's address at the relay."""

    def __init__(self):
        self.delay = 0.0
        self.dark = None  # a datacenter that nothing gets into or out of
        self.bytes = Counter()  # by (datacenter, datacenter)
        self.packets = Counter()
        self.fronts = {}  # address of a server: its socket at the relay, its datacenter
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, daemon=True).start()

    def front(self, node):
        """The address of a server at the relay."""
        head, _, last = node.ip.rpartition(".")
        address = f"{head}.{int(last) + 100}"
        if node.ip not in self.fronts:
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
            sock.bind((address, WAN_PORT))
            sock.setblocking(False)
            self.fronts[node.ip] = sock, node.dc
            self.loop.call_soon_threadsafe(self.loop.add_reader, sock, self.carry, sock, node.ip)
        return address

    def carry(self, sock, behind):
        while True:
            try:
                data, (sender, _) = sock.recvfrom(65535)
            except BlockingIOError:
                return
            except OSError:
                continue  # a server is gone, and its port said so
            if sender not in self.fronts:
                continue
            source, dc = self.fronts[sender]
            ways = dc, self.fronts[behind][1]
            if self.dark in ways and ways[0] != ways[1]:
                continue
            self.bytes[ways] += len(data) + 28
            self.packets[ways] += 1
            if self.delay:
                self.loop.call_later(self.delay, self.send, source, data, behind)
            else:
                self.send(source, data, behind)

    def send(self, source, data, behind):
        try:
            source.sendto(data, (behind, WAN_PORT))
        except OSError:
            pass


class Relayed(Candidate):
    """Causeway, every WAN packet of which goes through a relay."""

    name = "relayed"
    relay = None

    def config(self, node, peers, remotes):
        config = super().config(node, peers, remotes)
        if node.server:
            relay = Relayed.relay = Relayed.relay or Relay()
            config["advertise_addr_wan"] = relay.front(node)
            config["retry_join_wan"] = [relay.front(remote) for remote in remotes]
        return config


def the_relay():
    if Relayed.relay is None:
        raise RuntimeError("needs --system tests/bench/federation.py:Relayed")
    return Relayed.relay


def remote_reads(f):
    """Stale reads and names of the other datacenter beside those of the own, at several distances."""
    relay = the_relay()
    for dc in ("dc1", "dc2"):
        f.need_instances(dc, "web", 10)
    path = "/v1/health/service/web?passing&stale"
    client, follower = f.addr("client"), f.addr("follower")
    until(lambda: b"web-9" in get(client, path + "&dc=dc2").body, 30, 0.1, "the mirror to be there")
    for rtt in (0, 50, 150):
        relay.delay = rtt / 2e3
        time.sleep(5)
        for role, addr in (("follower", follower), ("client", client)):
            f.load(f"rtt{rtt}.stale.{role}.own", wrk, addr, path, 64)
            f.load(f"rtt{rtt}.stale.{role}.dc2", wrk, addr, path + "&dc=dc2", 64)
        f.load(f"rtt{rtt}.fresh.follower.dc2.c1", wrk, follower, "/v1/health/service/web?passing&dc=dc2", 1)
        name = f.cluster.client("dc1").dns
        f.load(f"rtt{rtt}.dns.own", dnsperf, name, "web.service.consul", "A")
        f.load(f"rtt{rtt}.dns.dc2", dnsperf, name, "web.service.dc2.consul", "A")
        ages = [int(get(follower, path + "&dc=dc2").headers["x-consul-lastcontact"]) for _ in range(200)]
        f.results.add(f"rtt{rtt}.mirror_age.p50", percentile(ages, 50), "ms")
        f.results.add(f"rtt{rtt}.mirror_age.worst", max(ages), "ms")
    relay.delay = 0.0


def mirror_traffic(f):
    """WAN bytes while nothing changes, and with 10,000 instances and 100 changes a second."""
    relay, servers = the_relay(), len(f.cluster.servers("dc1"))
    seconds = 20

    def measure(name, work=lambda: time.sleep(seconds)):
        relay.bytes.clear(), relay.packets.clear()
        began = time.monotonic()
        with Window(f.cluster.pids) as w:
            work()
        took = time.monotonic() - began
        for (source, to), total in sorted(relay.bytes.items()):
            f.results.add(f"{name}.{source}_to_{to}", total / took / 1e3, "kB/s", w.foreign)
        total, packets = sum(relay.bytes.values()), sum(relay.packets.values())
        f.results.add(f"{name}.sent_by_a_server", total / took / 1e3 / (2 * servers), "kB/s", w.foreign)
        f.results.add(f"{name}.packets_of_a_server", packets / took / (2 * servers), "packets/s", w.foreign)

    time.sleep(35)  # what joining took is over
    measure("traffic.idle")
    leader, far = f.cluster.leader("dc2").http, f.addr("follower")
    relay.bytes.clear()
    f.need_instances("dc2", "big", 10_000)
    path = "/v1/health/service/big?dc=dc2&stale"
    until(lambda: get(far, path, 30).body.count(b"big-node-9999\"") > 0, 60, 0.5, "the mirror to have all")
    f.results.add("traffic.loading_10000.dc2_to_dc1", relay.bytes[("dc2", "dc1")] / 1e6, "MB")
    lags, stop = [], time.monotonic() + seconds

    def change():
        conn, number = Conn(leader, 30), 0
        while time.monotonic() < stop:
            due = time.monotonic() + 0.01
            method, url, body = registration("big", number % 10_000)
            body = body.replace(b'"passing"', b'"warning"' if number // 10_000 % 2 == 0 else b'"passing"')
            assert conn.request(method, url, body).ok
            number += 1
            time.sleep(max(0.0, due - time.monotonic()))
        f.results.add("traffic.changes", number / seconds, "changes/s")

    measure("traffic.changing", change)
    for number in range(20):
        key = f"lag-{number}"
        index = get(far, "/v1/catalog/services?dc=dc2&stale").headers["x-consul-index"]
        conn = Conn(far, 30)
        conn.send("GET", f"/v1/catalog/services?dc=dc2&stale&index={index}&wait=20s")
        assert put(leader, "/v1/catalog/register", registration(key, 0)[2]).ok
        acknowledged = time.monotonic()
        assert key.encode() in conn.receive().body
        lags.append((time.monotonic() - acknowledged) * 1e3)
        conn.close()
    f.results.add("traffic.change_until_seen.p50", percentile(lags, 50), "ms")
    f.results.add("traffic.change_until_seen.worst", max(lags), "ms")
    for role in ("leader", "follower"):
        node = getattr(f.cluster, role)("dc1")
        f.results.add(f"traffic.rss_of_mirroring_{role}", memory(node.pid)[0] / 2**20, "MiB")


class Prober(threading.Thread):
    """Asks for a key of dc2 again and again, one request after the other."""

    def __init__(self, addr):
        super().__init__(daemon=True)
        self.addr, self.stopping = addr, False
        self.seen = []  # began, took, answered

    def run(self):
        while not self.stopping:
            began = time.monotonic()
            ok = get(self.addr, "/v1/kv/bench/read?dc=dc2", 60).ok
            self.seen.append((began, time.monotonic() - began, ok))
            time.sleep(0.01)

    def after(self, lost):
        """When the first request failed, and how long the slowest took, in seconds."""
        ended = [(began + took - lost, took, ok) for began, took, ok in self.seen if began + took > lost]
        return min(at for at, _, ok in ended if not ok), max(took for _, took, _ in ended)


def losses(f):
    """Kills, freezes and cuts off dc2 again and again, with 2, 3 and 5 datacenters. Ends the federation."""
    f.cluster.stop()
    for count in (2, 3, 5):
        dcs = tuple(f"dc{n + 1}" for n in range(count))
        cluster = f.cluster = Cluster(f.system, f.root / f"losses-{count}", f.net, dcs)
        for dc in dcs:
            cluster.start(*cluster.servers(dc))
        for dc in dcs:
            cluster.await_converged(dc)
        cluster.await_federated()
        assert put(cluster.leader("dc2").http, "/v1/kv/bench/read", b"x").ok
        for how in ("kill", "freeze", "cut"):
            lose_again_and_again(f, cluster, count, how)
        cluster.stop()


def lose(cluster, how):
    """Loses dc2: by a `kill` or a `freeze` of its servers, or a `cut` of its paths to others."""
    servers = cluster.servers("dc2")
    if how == "kill":
        cluster.kill(*servers)
    elif how == "freeze":
        [node.process.send_signal(signal.SIGSTOP) for node in servers]
    else:
        the_relay().dark = "dc2"


def give_back(cluster, how):
    """Undoes that."""
    servers = cluster.servers("dc2")
    if how == "kill":
        cluster.start(*servers)
    elif how == "freeze":
        [node.process.send_signal(signal.SIGCONT) for node in servers]
    else:
        the_relay().dark = None


def lose_again_and_again(f, cluster, count, how):
    follower = cluster.follower("dc1")
    known, first, slowest, back = [], [], [], []
    health = lambda: next(
        dc["Health"] for dc in get(follower.http, "/v1/federation/status").json()["Datacenters"] if dc["Name"] == "dc2"
    )
    with Window(cluster.pids) as w:
        for _ in range(REPETITIONS):
            until(lambda: health() == "healthy", 60, 0.05, "dc2 to be well")
            time.sleep(2)
            prober = Prober(follower.http)
            prober.start()
            time.sleep(1)
            lost = time.monotonic()
            lose(cluster, how)
            until(lambda: health() == "lost", 60, 0.01, "dc2 to be lost")
            known.append(time.monotonic() - lost)
            time.sleep(1.5)
            prober.stopping = True
            prober.join(60)
            for times, seen in zip((first, slowest), prober.after(lost)):
                times.append(seen)
            began = time.monotonic()
            give_back(cluster, how)
            until(lambda: get(follower.http, "/v1/kv/bench/read?dc=dc2", 60).ok, 60, 0.02, "dc2 to answer")
            back.append(time.monotonic() - began)
    name = f"losses.{count}_dcs.{how}"
    for what, times in (
        ("known", known),
        ("first_error", first),
        ("slowest_request", slowest),
        ("back", back),
    ):
        f.results.add(f"{name}.{what}.p50", percentile(times, 50), "s", w.foreign)
        f.results.add(f"{name}.{what}.worst", max(times), "s", w.foreign)


def crowd(f):
    """Local reads at an agent of dc1 while 1,000 clients ask it for keys of dc2, which is frozen."""
    f.need_key("dc1"), f.need_key("dc2")
    addr, path = f.addr("follower"), "/v1/kv/bench/read?stale"
    f.load("crowd.before.c16", wrk, addr, path, 16)
    servers, stopping = f.cluster.servers("dc2"), threading.Event()
    [node.process.send_signal(signal.SIGSTOP) for node in servers]
    source = threading.Thread(target=ask_as_crowd, args=(addr, stopping), daemon=True)
    source.start()
    f.load("crowd.frozen.c16", wrk, addr, path, 16)
    time.sleep(3)
    f.load("crowd.known.c16", wrk, addr, path, 16)
    stopping.set()
    source.join(30)
    [node.process.send_signal(signal.SIGCONT) for node in servers]


def ask_as_crowd(addr, stopping):
    """Keeps 1,000 requests for dc2 under way, from addresses of which each is one client's."""

    async def one(number):
        source = (f"127.1.{number // 100}.{number % 100 + 1}", 0)
        while not stopping.is_set():
            try:
                reader, writer = await asyncio.open_connection(*addr, local_addr=source)
                writer.write(b"GET /v1/kv/bench/read?dc=dc2 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                await reader.read()
                writer.close()
            except OSError:
                pass
            await asyncio.sleep(0.5)

    async def all_of_them():
        await asyncio.gather(*(one(number) for number in range(1000)))

    asyncio.run(all_of_them())


for scenario in (remote_reads, mirror_traffic, crowd, losses):
    peers.SCENARIOS[scenario.__name__] = scenario
    peers.EXTRA.add(scenario.__name__)

if __name__ == "__main__":
    peers.main()
