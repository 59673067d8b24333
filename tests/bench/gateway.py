#!/usr/bin/env python3
"""What a gateway costs: requests of one datacenter for another one, directly and through a gateway, in turns.

    BENCH=../shared/bench tests/bench/gateway.py --system tests/bench/gateway.py:Gatewayed --only gateway

dc1 asks; dc2 is reached directly, dc3 is just the same behind a gateway. Takes the options of the harness.
"""

import os
import sys
from pathlib import Path

BENCH = Path(os.environ.get("BENCH", Path(__file__).parents[3] / "shared/bench"))
sys.path.insert(0, str(BENCH))

import peers  # noqa: E402
from clients import get, put  # noqa: E402
from cluster import Cluster, until  # noqa: E402
from load import wrk  # noqa: E402
from machine import spawn  # noqa: E402
from systems import Candidate  # noqa: E402

DIRECT, BEHIND = "dc2", "dc3"
ROUNDS = 3


def front(node):
    """The address of the gateway of a server's datacenter."""
    return node.ip.rpartition(".")[0] + ".201"


class Gatewayed(Candidate):
    """Causeway, dc3 of which shows the others nothing but a gateway."""

    name = "gatewayed"

    def config(self, node, peers, remotes):
        config = super().config(node, peers, [remote for remote in remotes if remote.dc != BEHIND])
        if node.dc == BEHIND and node.server:
            config["federation"] = {"gateways": [front(node)]}
        return config


def gateway(f):
    """Small and large values of another datacenter, directly and through a gateway. Ends the federation."""
    f.cluster.stop()
    cluster = f.cluster = Cluster(f.system, f.root / "gateway", f.net, ("dc1", DIRECT, BEHIND), servers=1)
    behind = cluster.servers(BEHIND)
    words = [f"-server={node.name}={node.ip}" for node in behind]
    argv = [f.system.binary, "gateway", f"-bind={front(behind[0])}:8302", f"-datacenter={BEHIND}", *words]
    relay = spawn(argv, f.root / "gateway.log")
    try:
        for node in cluster.nodes:
            if node.server:
                cluster.start(node)
        for dc in ("dc1", DIRECT, BEHIND):
            cluster.await_converged(dc)
        cluster.await_federated()
        for dc in (DIRECT, BEHIND):
            leader = cluster.leader(dc).http
            for name, size in (("small", 256), ("large", 128 * 1024)):
                until(lambda: put(leader, f"/v1/kv/bench/{name}", b"x" * size).ok, 30, what=f"a value in {dc}")
        asked = cluster.leader("dc1").http
        for turn in range(ROUNDS):
            for dc in (DIRECT, BEHIND):
                for name, clients in (("small", 1), ("small", 64), ("large", 8)):
                    path = f"/v1/kv/bench/{name}?raw&dc={dc}"
                    until(lambda: get(asked, path).ok, 30, what=path)
                    f.load(f"gateway.{name}.c{clients}.{dc}.{turn}", wrk, asked, path, clients)
    finally:
        cluster.stop()
        relay.kill()
        relay.wait()


peers.SCENARIOS[gateway.__name__] = gateway
peers.EXTRA.add(gateway.__name__)

if __name__ == "__main__":
    peers.main()
