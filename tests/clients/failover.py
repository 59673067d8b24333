"""Looks services up and runs prepared queries with py-consul, for failover.sh.

    failover.py look SERVICE            prints where its passing instances are: DATACENTER ADDRESS
    failover.py run QUERY               the same of a prepared query, after the datacenter that answered
    failover.py create NAME FORM        creates a prepared query for web: nearest, or datacenters as dc3,dc2

The agent is named by the environment: AGENT, as ADDRESS:PORT of HTTP.
"""

import os
import sys

import consul


def main():
    verb, name, *rest = sys.argv[1:]
    host, port = os.environ["AGENT"].rsplit(":", 1)
    agent = consul.Consul(host=host, port=int(port))
    if verb == "create":
        form = {"nearestn": 2} if rest == ["nearest"] else {"datacenters": rest[0].split(",")}
        created = agent.query.create("web", name=name, onlypassing=True, ttl="5s", **form)
        assert agent.query.get(created["ID"])[0]["Name"] == name, created
        return
    if verb == "run":
        found = agent.query.execute(name)
        print(found["Datacenter"], "of", name)
        rows = found["Nodes"]
    else:
        _, rows = agent.health.service(name, passing=True)
    for row in rows:
        print(row["Node"]["Datacenter"], row["Service"]["Address"])


main()
