"""`attnframe describe`: parameters, FLOPs and cache of the model that a config makes."""

from __future__ import annotations

from typing import Any

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from attnframe import registry
from attnframe.cli import composition, messages, settings
from attnframe.cli.output import print_json, print_table, split_json_flag, wants_help
from attnframe.errors import UserError
from attnframe.model.accounting import DEFAULT_LENGTH, count_attention, count_seq2seq
from attnframe.model.counts import FP32_BYTES, ModelCount, SiteCount
from attnframe.runs import building
from attnframe.runs.matched_settings import match_of

USAGE = f"""attnframe describe [OVERRIDE ...] [length=TOKENS] [vocabulary=SOURCE,TARGET] [--json]
        parameters, FLOPs and cache, per head, layer, site and model; nothing is allocated

  attnframe describe                                            the default model
  attnframe describe attention=low_rank_v attention.rank=4      the same with another variant
  attnframe describe attention@cross=uniform                    ... at one site
  attnframe describe model=gpt3                                 the attention of GPT-3
  attnframe describe model=gpt3 model.num_heads=48 model.head_dim=256
  attnframe describe model=base length=512 vocabulary=8000,8000  with the embeddings of so many words
  attnframe describe attention=uniform match=params             with the d_ff that makes it as large as multi_head's
  attnframe describe --json

parameters: in all layers of a site, then per layer, and per head: a layer's over num_heads; a variant that takes no
    num_heads has one head.
FLOPs per token: forward, of a source and a target of `length` tokens each (default {DEFAULT_LENGTH}). A multiply-add is
    two; matrix products only, counted on the eager backend, so a causal mask saves none.
cache per token: elements ({FP32_BYTES} bytes each in fp32) of keys and values that a cached decoder keeps of a token:
    of the target at decoder_self, of the source at cross. The encoder runs once and keeps none. `recomputed`: a
    variant that does not promise to be cacheable; one such site, and decoding recomputes the prefix at all of them.
The vocabulary comes from the data, so without vocabulary= the model is counted without embeddings and logits.
"""

# Not of the config: what is asked about the model, not the model.
_QUESTIONS = ("length", "vocabulary")


def main(arguments: list[str]) -> int:
    """Exit code 0. Raises `UserError`."""
    if wants_help(arguments):
        print(USAGE, end="")
        return 0
    rest, as_json = split_json_flag(arguments)
    questions = dict(item.split("=", 1) for item in rest if item.partition("=")[0] in _QUESTIONS and "=" in item)
    overrides = [item for item in rest if item.partition("=")[0] not in _QUESTIONS]
    length = _whole_number("length", questions.get("length", str(DEFAULT_LENGTH)))
    vocabulary = _vocabulary(questions["vocabulary"]) if "vocabulary" in questions else None
    composition.prepare()
    try:
        plain = settings.plain(composition.compose_config(overrides))
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(messages.sentence(error, overrides)) from error
    count = _count(plain, length, vocabulary)
    if as_json:
        print_json({**_as_json(count), "matched": plain.get("matched")})
    else:
        match = match_of(plain)
        print_table(_columns(length), [*_rows(count), *([_note("matched", str(match))] if match else [])])
    return 0


def _count(plain: dict[str, Any], length: int, vocabulary: tuple[int, int] | None) -> ModelCount:
    model = plain["model"]
    factory = building.attention_factory(plain)
    if model["kind"] != "seq2seq":
        if vocabulary is not None:
            raise UserError(f"vocabulary: of a model.kind={model['kind']} only the attention is counted; leave it out")
        return count_attention(factory, length=length)
    return count_seq2seq(
        factory,
        num_encoder_layers=building.encoder_of(model)["num_layers"],
        num_decoder_layers=model["num_layers"],
        d_ff=model["d_ff"],
        vocabulary=vocabulary,
        length=length,
    )


def _columns(length: int) -> list[str]:
    return [
        "site",
        "variant",
        "layers",
        "parameters",
        "per layer",
        "per head",
        f"FLOPs per token (length {length})",
        "cache per token",
    ]


def _rows(count: ModelCount) -> list[list[Any]]:
    rows: list[list[Any]] = [
        [
            site.site,
            registry.variants()[site.variant].labelled(site.options),
            site.layers,
            site.parameters,
            site.layer_parameters,
            site.head_parameters,
            site.flops_per_token,
            _cache(site.cache_per_token),
        ]
        for site in count.sites
    ]
    cache = _cache(count.attention_cache_per_token)
    rows.append(_total("all attention", count.attention_parameters, count.attention_flops_per_token, cache))
    rows += [_total(part.name, part.parameters, part.flops_per_token) for part in count.parts]
    note = None
    if count.embedding_widths is not None:
        src, tgt = count.embedding_widths
        rows.append(_note("embeddings", f"depend on the data: {src:,} parameters a source word, {tgt:,} a target word"))
        note = "without embeddings"
    if count.parts:
        rows.append(_total("model", count.parameters, count.flops_per_token, cache, note))
    return rows


def _total(
    name: str, parameters: int, flops: float, cache: int | str | None = None, note: str | None = None
) -> list[Any]:
    """A row that is about no single site."""
    return [name, note, None, parameters, None, None, flops, cache]


def _note(name: str, text: str) -> list[Any]:
    """A row without numbers."""
    return [name, text, *[None] * 6]


def _cache(elements: int | None) -> int | str:
    return "recomputed" if elements is None else elements


def _as_json(count: ModelCount) -> dict[str, Any]:
    totals = {
        "attention": {
            "parameters": count.attention_parameters,
            "flops_per_token": count.attention_flops_per_token,
            "cache_per_token": count.attention_cache_per_token,
        },
        **{part.name: {"parameters": part.parameters, "flops_per_token": part.flops_per_token} for part in count.parts},
        "all": {"parameters": count.parameters, "flops_per_token": count.flops_per_token},
    }
    widths = count.embedding_widths
    return {
        "length": count.length,
        "sites": [_site_as_json(site) for site in count.sites],
        "totals": totals,
        "embedding_parameters_per_word": None if widths is None else {"source": widths[0], "target": widths[1]},
    }


def _site_as_json(site: SiteCount) -> dict[str, Any]:
    return {
        "site": site.site,
        "variant": site.variant,
        "options": dict(site.options),
        "layers": site.layers,
        "heads": site.heads,
        "parameters_per_head": site.head_parameters,
        "parameters_per_layer": site.layer_parameters,
        "parameters": site.parameters,
        "flops_per_token": site.flops_per_token,
        "cache_per_token": site.cache_per_token,
        "cache_bytes_per_token": site.cache_bytes_per_token,
    }


def _vocabulary(value: str) -> tuple[int, int]:
    sizes = [_whole_number("vocabulary", part) for part in value.split(",")]
    if len(sizes) != 2:
        raise UserError(f"vocabulary={value}: give two numbers, of source and of target words: vocabulary=300,280")
    return sizes[0], sizes[1]


def _whole_number(name: str, value: str) -> int:
    if not value.isdecimal() or int(value) < 1:
        raise UserError(f"{name}={value}: {value!r} is no whole number from 1 on")
    return int(value)
