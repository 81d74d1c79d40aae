"""Published networks by name."""

from pathlib import Path
from typing import Any

from _peers.from_dws import DWS
from _peers.from_neural_graphs import NeuralGraphs
from _peers.from_nfn import NFN
from _peers.from_scalegmn import ScaleGMN

PEERS = {
    "nfn np": NFN,
    "nfn hnp": NFN,
    "nfn nft": NFN,
    "nfn stat": NFN,
    "dws dws": DWS,
    "neural-graphs graph": NeuralGraphs,
    "neural-graphs transformer": NeuralGraphs,
    "scalegmn forward": ScaleGMN,
    "scalegmn both": ScaleGMN,
}


def peer(peers: str, name: str) -> Any:
    """What can be built of a published network, from the folder of the checkouts."""
    return PEERS[name](Path(peers), name.split()[1])
