"""Ray nodes on this machine, as many as asked for, that can be lost: `python tests/chaos/nodes.py COUNT`.

Says the cluster's address on stdout. Each line on stdin loses the oldest node but the head, as a machine that is
switched off, and starts another in its place; `ready` comes when that one is there. Ends with stdin.
"""

from __future__ import annotations

import sys

from ray.cluster_utils import Cluster

NODE = {"num_cpus": 2, "object_store_memory": 150 * 2**20}


def main() -> None:
    cluster = Cluster(initialize_head=True, head_node_args=NODE | {"num_cpus": 1})
    nodes = [cluster.add_node(**NODE) for _ in range(int(sys.argv[1]))]
    print(cluster.address, flush=True)
    for _ in sys.stdin:
        cluster.remove_node(nodes.pop(0), allow_graceful=False)
        nodes.append(cluster.add_node(**NODE))
        print("ready", flush=True)
    cluster.shutdown()


if __name__ == "__main__":
    main()
