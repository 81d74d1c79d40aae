"""Zoos that others have published, read as populations; and written, so that others read ours."""

from wsljax.zoo.foreign import layered, plain_transformer, recurrent
from wsljax.zoo.foreign.cnn_wild_park import read_cnn_wild_park
from wsljax.zoo.foreign.dws_inr import read_dws_inr
from wsljax.zoo.foreign.fmnist_inr import read_fmnist_inr
from wsljax.zoo.foreign.functa_npz import read_functa_npz
from wsljax.zoo.foreign.images import LabelledImages, read_cifar, read_idx
from wsljax.zoo.foreign.implicit_zoo import read_implicit_zoo
from wsljax.zoo.foreign.inr2vec_h5 import read_inr2vec_h5
from wsljax.zoo.foreign.lora import read_lora
from wsljax.zoo.foreign.model_j import read_model_j
from wsljax.zoo.foreign.modelzoo_pt import read_modelzoo_pt
from wsljax.zoo.foreign.nfn_siren import read_nfn_siren
from wsljax.zoo.foreign.nws_bin import read_nws_bin
from wsljax.zoo.foreign.raytune_zoo import read_raytune_zoo
from wsljax.zoo.foreign.registry import (
    FOREIGN,
    ForeignZooError,
    Format,
    foreign_format,
    read_foreign,
)
from wsljax.zoo.foreign.rnn_npy import read_rnn_npy
from wsljax.zoo.foreign.sane_tokens import read_sane_tokens
from wsljax.zoo.foreign.smallcnnzoo import nfn_split, read_smallcnnzoo
from wsljax.zoo.foreign.transformer_zoo import read_transformer_zoo
from wsljax.zoo.foreign.weights2weights import Components, read_components, read_weights2weights
from wsljax.zoo.foreign.writers import write_dws, write_nfn

__all__ = [
    "Components",
    "FOREIGN",
    "ForeignZooError",
    "Format",
    "LabelledImages",
    "foreign_format",
    "nfn_split",
    "read_cifar",
    "read_cnn_wild_park",
    "read_components",
    "read_dws_inr",
    "read_fmnist_inr",
    "read_foreign",
    "read_functa_npz",
    "read_idx",
    "read_implicit_zoo",
    "read_inr2vec_h5",
    "read_lora",
    "read_model_j",
    "read_modelzoo_pt",
    "read_nfn_siren",
    "read_nws_bin",
    "read_raytune_zoo",
    "read_rnn_npy",
    "read_sane_tokens",
    "read_smallcnnzoo",
    "read_transformer_zoo",
    "read_weights2weights",
    "write_dws",
    "write_nfn",
]
