"""Ray nodes on this machine, as many as asked for, that can be lost: `python tests/chaos/nodes.py COUNT SPILL_FOLDER`.

Says the cluster's address on stdout. A line on stdin says what happens, `ready` on stdout that it has:
`lose` the oldest node but the head, as a machine that is switched off, and start another in its place; `behead` it;
`hog` the object stores of all nodes, so that what a run makes must spill; `free` them. Ends with stdin.
"""

from __future__ import annotations

import contextlib
import sys

import numpy as np
import ray
from ray.cluster_utils import Cluster

STORE_BYTES = 150 * 2**20
NODE = {"num_cpus": 2, "object_store_memory": STORE_BYTES}


@ray.remote(num_cpus=0, max_restarts=0)
class Hog:
    """Holds nearly all of its node's object store."""

    def hold(self) -> None:
        self.held = []
        with contextlib.suppress(ray.exceptions.RayError):  # no room for more, in memory and on the disk
            while len(self.held) < STORE_BYTES // 2**20 - 5:
                self.held.append(ray.put(np.ones(2**20, np.uint8)))


def main() -> None:
    spill = {"object_spilling_directory": sys.argv[2]}
    cluster = Cluster(initialize_head=True, head_node_args=NODE | spill | {"num_cpus": 1})
    nodes = [cluster.add_node(**NODE, **spill) for _ in range(int(sys.argv[1]))]
    ray.init(cluster.address, log_to_driver=False)
    print(cluster.address, flush=True)
    hogs: list[ray.actor.ActorHandle] = []
    for line in sys.stdin:
        match line.strip():
            case "lose":
                cluster.remove_node(nodes.pop(0), allow_graceful=False)
                nodes.append(cluster.add_node(**NODE, **spill))
            case "behead":
                ray.shutdown()
                cluster.remove_node(cluster.head_node, allow_graceful=False)
            case "hog":
                hogs = [Hog.options(label_selector={"ray.io/node-id": node.node_id}).remote() for node in nodes]
                ray.wait([hog.hold.remote() for hog in hogs], num_returns=len(hogs), timeout=20)
            case "free":
                for hog in hogs:
                    ray.kill(hog)
        print("ready", flush=True)
    ray.shutdown()
    cluster.shutdown()


if __name__ == "__main__":
    main()
