#!/usr/bin/env python3
"""What failover costs, and how soon it is there: lookups with and without a policy, prepared queries, the time from the
loss of a datacenter to the first answer of another one.

    BENCH=../shared/bench tests/bench/failover.py --system tests/bench/failover.py:Relayed --only policy_cost
    REPETITIONS=20 ... --only failovers                     HOWS="kill cut" for some of them
    ... --system candidate --system consul --only prepared_queries

Takes the options of the harness.
"""

import importlib.util
import json
import os
import sys
import threading
import time
from pathlib import Path

BENCH = Path(os.environ.get("BENCH", Path(__file__).parents[3] / "shared/bench"))
sys.path.insert(0, str(BENCH))

import peers  # noqa: E402
from clients import Conn, dns, get, put  # noqa: E402
from cluster import Cluster, until  # noqa: E402
from load import percentile, pump, wrk  # noqa: E402
from machine import Window  # noqa: E402

# The harness has a module of that name as well.
spec = importlib.util.spec_from_file_location("wan", Path(__file__).with_name("federation.py"))
wan = importlib.util.module_from_spec(spec)
spec.loader.exec_module(wan)
Relayed, REPETITIONS = wan.Relayed, wan.REPETITIONS

ROUNDS = int(os.environ.get("ROUNDS", "3"))
HOWS = os.environ.get("HOWS", "kill freeze cut").split()
WEB = "/v1/health/service/web?passing"


def instance(service, number):
    body = {
        "Node": f"{service}-node-{number}",
        "Address": f"10.1.0.{number + 1}",
        "Service": {"ID": f"{service}-{number}", "Service": service, "Port": 8080},
        "Check": {"Name": "alive", "CheckID": f"alive-{service}-{number}", "ServiceID": f"{service}-{number}", "Status": "passing"},
    }
    return "PUT", "/v1/catalog/register", json.dumps(body).encode()


def resolver(service, dcs):
    body = {"Kind": "service-resolver", "Name": service, "Failover": {"*": {"Datacenters": dcs, "HoldDown": "1s"}}}
    return json.dumps(body).encode()


def policy_cost(f):
    """Lookups of a service with a policy beside those of one without, in turns; the own instances answer both."""
    leader = f.addr("leader")
    for service in ("plain", "ruled"):
        pump(leader, (instance(service, number) for number in range(10)))
    assert put(leader, "/v1/config", resolver("ruled", ["dc2"])).ok
    until(lambda: get(leader, "/v1/health/service/ruled?passing").headers.get("x-causeway-served-dc"), 30, 0.1, "the policy")
    for mode in ("", "&stale"):
        for turn in range(ROUNDS):
            for service in ("plain", "ruled"):
                path = f"/v1/health/service/{service}?passing{mode}"
                f.load(f"policy_cost{'.stale' if mode else ''}.{service}.c64.{turn}", wrk, leader, path, 64)


def prepared_queries(f):
    """Runs of a prepared query that finds 10 instances, at the leader and, stale, at a follower."""
    leader, follower = f.addr("leader"), f.addr("follower")
    pump(leader, (instance("web", number) for number in range(10)))
    query = json.dumps({"Name": "web-query", "Service": {"Service": "web", "OnlyPassing": True}}).encode()
    assert Conn(leader, 30).request("POST", "/v1/query", query).ok
    path = "/v1/query/web-query/execute"
    until(lambda: get(follower, path + "?stale").ok, 30, 0.1, "the query to be everywhere")
    for clients in (1, 64):
        f.load(f"prepared.leader.c{clients}", wrk, leader, path, clients)
        f.load(f"prepared.stale.follower.c{clients}", wrk, follower, path + "?stale", clients)


class Looker(threading.Thread):
    """Looks web up again and again; notes who answered, or that nobody did."""

    def __init__(self, look):
        super().__init__(daemon=True)
        self.look, self.stopping = look, False
        self.seen = []  # when it was answered, by how many instances: 0 is nobody

    def run(self):
        while not self.stopping:
            found = self.look()
            self.seen.append((time.monotonic(), found))
            time.sleep(0.005)


def failovers(f):
    """Loses dc2, which answers for dc1's lookups of web, again and again: dc3 has to. Ends the federation."""
    f.cluster.stop()
    dcs = ("dc1", "dc2", "dc3")
    cluster = f.cluster = Cluster(f.system, f.root / "failovers", f.net, dcs)
    for dc in dcs:
        cluster.start(*cluster.servers(dc))
    for dc in dcs:
        cluster.await_converged(dc)
    cluster.await_federated()
    # As many instances as tell who answers.
    for dc, count in (("dc2", 2), ("dc3", 1)):
        pump(cluster.leader(dc).http, (instance("web", number) for number in range(count)))
    assert put(cluster.leader("dc1").http, "/v1/config", resolver("web", ["dc2", "dc3"])).ok
    for how in HOWS:
        fail_over_again_and_again(f, cluster, how)
    cluster.stop()


def fail_over_again_and_again(f, cluster, how):
    asked = cluster.follower("dc1")

    def over_http():
        reply = get(asked.http, WEB, 60)
        return reply.body.count(b'"Service":{') if reply.ok else 0

    ways = {"http": over_http, "dns": lambda: dns(asked.dns, "web.service.consul")[1]}
    first, failed = {way: [] for way in ways}, {way: 0 for way in ways}
    with Window(cluster.pids) as w:
        for _ in range(REPETITIONS):
            until(lambda: all(look() == 2 for look in ways.values()), 60, 0.05, "dc2 to answer")
            time.sleep(2)
            lookers = {way: Looker(look) for way, look in ways.items()}
            [looker.start() for looker in lookers.values()]
            time.sleep(0.5)
            lost = time.monotonic()
            wan.lose(cluster, how)
            moved = lambda looker: next((at for at, found in looker.seen if at > lost and found == 1), None)
            until(lambda: all(moved(looker) for looker in lookers.values()), 60, 0.02, "dc3 to answer")
            for way, looker in lookers.items():
                looker.stopping = True
                looker.join(60)
                first[way].append(moved(looker) - lost)
                failed[way] += sum(found == 0 for _, found in looker.seen)
            wan.give_back(cluster, how)
    for way in ways:
        f.results.add(f"failovers.{how}.{way}.first_answer.p50", percentile(first[way], 50), "s", w.foreign)
        f.results.add(f"failovers.{how}.{way}.first_answer.worst", max(first[way]), "s", w.foreign)
        f.results.add(f"failovers.{how}.{way}.failed", failed[way], "lookups", w.foreign)


for scenario in (policy_cost, prepared_queries, failovers):
    peers.SCENARIOS[scenario.__name__] = scenario
    peers.EXTRA.add(scenario.__name__)

if __name__ == "__main__":
    peers.main()
