"""Which fields of a config.json a reader honours; what it does not know must not change the function."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: Fields of every model that say nothing about its function: names, tokens, training, generation.
HARMLESS = frozenset(
    """
    _attn_implementation _attn_implementation_autoset _commit_hash _name_or_path architectures
    attn_implementation begin_suppress_tokens bad_words_ids bos_token_id chunk_size_feed_forward
    decoder_start_token_id diversity_penalty do_sample dtype early_stopping
    encoder_no_repeat_ngram_size eos_token_id exponential_decay_length_penalty finetuning_task
    forced_bos_token_id forced_eos_token_id id2label initializer_range label2id length_penalty
    max_length min_length model_type no_repeat_ngram_size num_beam_groups num_beams num_labels
    num_return_sequences output_attentions output_hidden_states output_scores pad_token_id prefix
    problem_type remove_invalid_values repetition_penalty return_dict return_dict_in_generate
    sep_token_id suppress_tokens task_specific_params temperature tf_legacy_loss tokenizer_class
    top_k top_p torch_dtype torchscript transformers_version typical_p unk_token_id use_bfloat16
    use_cache
    """.split()
)
#: Values that switch a field off, whatever it is.
OFF: tuple[Any, ...] = (None, False, {}, [])


def read_fields(
    config: Mapping[str, Any],
    honoured: Mapping[str, Any],
    *,
    harmless: str = "",
    only: Mapping[str, tuple] = {},
    ignore: tuple[str, ...] = (),
) -> dict[str, Any]:
    """The honoured fields of a config, with their defaults; an error for what may change the function.

    Args:
        config: all fields.
        honoured: name -> default of what the reader understands; ``...`` for what must be given.
        harmless: names, separated by spaces, that change nothing here.
        only: name -> the values under which the function is what the reader computes.
        ignore: names the caller vouches for.

    Raises:
        ValueError: a field is missing, has a value that is not supported, or is not known and not off.

    Example:
        >>> read_fields({"width": 4, "bos_token_id": 0}, {"width": ..., "bias": True})
        {'width': 4, 'bias': True}
        >>> read_fields({"width": 4, "flash": 2}, {"width": ...})
        Traceback (most recent call last):
            ...
        ValueError: config field 'flash' = 2 is not known here and may change the function; \
pass ignore=('flash',) if it does not
    """
    kind = config.get("model_type", "this model")
    for name, value in config.items():
        if name in honoured or name in HARMLESS or name in ignore or name in harmless.split():
            continue
        if name in only:
            if value not in only[name]:
                allowed = " or ".join(map(repr, only[name]))
                raise ValueError(
                    f"config field {name!r} = {value!r} is not supported for {kind}: only {allowed}"
                )
        elif not any(value is off or (off is not None and value == off) for off in OFF):
            raise ValueError(
                f"config field {name!r} = {value!r} is not known here and may change the function; "
                f"pass ignore=({name!r},) if it does not"
            )
    missing = [name for name, value in honoured.items() if value is ... and name not in config]
    if missing:
        raise ValueError(f"config lacks {', '.join(missing)}, without which {kind} is not defined")
    return {name: config.get(name, default) for name, default in honoured.items()}


def head_of(config: Mapping[str, Any], heads: tuple[str, ...]) -> str:
    """Which of the classes in ``heads`` a config is for; the first where it does not say.

    Raises:
        ValueError: it is for another class.
    """
    named = config.get("architectures") or [heads[0]]
    if len(named) != 1 or named[0] not in heads:
        raise ValueError(
            f"config field 'architectures' = {named!r} is not supported: only {' or '.join(heads)}"
        )
    return named[0]
