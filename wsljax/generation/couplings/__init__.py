"""How the sources and the networks of a batch are paired before a flow leads from one to the other."""

from .cost import transport_cost as transport_cost
from .independent import Independent as Independent
from .minibatch import MinibatchTransport as MinibatchTransport
from .quotient import Aligned as Aligned
from .quotient import QuotientTransport as QuotientTransport
