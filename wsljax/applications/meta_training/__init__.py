"""Training what acts over many steps, by what comes of them.

::

    task = Task(init, loss, batches)                           # what is to be learned well
    inner = training_run(task, lambda net: learned_optimiser(net))
    estimator = persistent_evolution(inner, particles=16, truncation=20, horizon=200, deviation=0.01)
    trained = meta_train(net, estimator, optax.adam(1e-3), steps=1000, key=key)

An :class:`InnerProblem` is anything that goes on step by step and has a loss at each: its ``theta`` is what is
trained. Two estimators of the gradient of its mean loss: :func:`persistent_evolution`, unbiased however short
the pieces are, and :func:`unrolled_gradients`, exact within a piece and blind beyond it.
"""

from .estimator import Estimate as Estimate
from .estimator import Estimator as Estimator
from .evolution import persistent_evolution as persistent_evolution
from .inner_problem import InnerProblem as InnerProblem
from .inner_problem import advance as advance
from .loop import MetaTraining as MetaTraining
from .loop import meta_train as meta_train
from .tasks import Task as Task
from .tasks import run_task as run_task
from .tasks import training_run as training_run
from .unrolled import unrolled_gradients as unrolled_gradients
