"""From the settings of a run, as plain values, to its model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from attnframe import discovery
from attnframe.attention import Mask, settle_backend, trace_attend
from attnframe.attention.functional import divide_into_heads
from attnframe.attention.raising import told_at
from attnframe.backends import dtype_of
from attnframe.errors import UserError, did_you_mean
from attnframe.model import SITES, AttentionFactory, Seq2Seq, VariantChoice

MODEL_KINDS = ("seq2seq", "decoder_only")


def build_model(
    settings: Mapping[str, Any], attention: AttentionFactory, *, src_vocab_size: int, tgt_vocab_size: int
) -> Seq2Seq:
    """The model of a run, with new weights."""
    model = settings["model"]
    return Seq2Seq(
        src_vocab_size=src_vocab_size,
        tgt_vocab_size=tgt_vocab_size,
        attention=attention,
        num_encoder_layers=encoder_of(model)["num_layers"],
        num_decoder_layers=model["num_layers"],
        d_ff=model["d_ff"],
        dropout=model["dropout"],
    )


def attention_factory(settings: Mapping[str, Any]) -> AttentionFactory:
    """What builds the attention of every site, from the settings `attention`, the sites', `layers` and `model`."""
    model = settings["model"]
    check_model(model)
    encoder = encoder_of(model)
    layer_counts = {"encoder_self": encoder["num_layers"]}
    return AttentionFactory(
        choices={
            site: site_choices(settings, site, layer_counts.get(site, model["num_layers"])) for site in sites_of(model)
        },
        d_model=model["d_model"],
        encoder_d_model=encoder["d_model"],
        num_heads=model["num_heads"],
        dropout=model["attention_dropout"],
        bias=model["bias"],
        backend=settings["backend"]["name"],
    )


def sites_of(model: Mapping[str, Any]) -> tuple[str, ...]:
    """The attention sites that a kind of model has."""
    return SITES if model["kind"] == "seq2seq" else ("decoder_self",)


def encoder_of(model: Mapping[str, Any]) -> dict[str, int]:
    """Width and depth of the encoder, the model's own where nothing else is set."""
    return {key: model[key] if value is None else value for key, value in model["encoder"].items()}


def site_choices(settings: Mapping[str, Any], site: str, num_layers: int) -> tuple[VariantChoice, ...]:
    """The variant of each layer of a site: from `layers.<site>`, else `attention@<site>`, else `attention`."""
    per_layer = settings["layers"][site]
    if per_layer is None:
        return (_choice(settings[site] or settings["attention"], site),) * num_layers
    if len(per_layer) != num_layers:
        raise UserError(f"layers.{site} names {len(per_layer)} variants, but the site has {num_layers} layers")
    return tuple(_choice(entry, f"layers.{site}") for entry in per_layer)


def check_model(model: Mapping[str, Any]) -> None:
    """Refuse sizes that make no model."""
    if model["kind"] not in MODEL_KINDS:
        raise UserError(f"model.kind={model['kind']}: {did_you_mean(model['kind'], MODEL_KINDS)}")
    for key in ("d_model", "num_heads", "d_ff", "num_layers"):
        _require_positive(f"model.{key}", model[key])
    for key, value in encoder_of(model).items():
        _require_positive(f"model.encoder.{key}", value)
    for key in ("dropout", "attention_dropout"):
        if not 0 <= model[key] < 1:
            raise UserError(f"model.{key}={model[key]} must be at least 0 and below 1")
    try:
        head_dim = divide_into_heads(model["d_model"], model["num_heads"])
    except UserError as error:
        raise UserError(f"model.{error}") from error
    if model["head_dim"] not in (None, head_dim):
        raise UserError(
            f"model.head_dim={model['head_dim']} contradicts d_model={model['d_model']} / "
            f"num_heads={model['num_heads']} = {head_dim}; leave it out or change one of the three"
        )


def _require_positive(place: str, value: int) -> None:
    if value < 1:
        raise UserError(f"{place}={value} must be at least 1")


def _choice(entry: Any, place: str) -> VariantChoice:
    if isinstance(entry, str):
        entry = {"name": entry}
    if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
        raise UserError(f"{place}: {entry!r} is neither a variant's name nor {{name: ..., option: ...}}")
    options = {key: value for key, value in entry.items() if key != "name"}
    try:
        discovery.find_variant(entry["name"]).check(options)
    except UserError as error:
        raise UserError(f"{place}: {error}") from error
    return VariantChoice(entry["name"], options)


def try_attention(attention: AttentionFactory, trainer: Mapping[str, Any]) -> None:
    """Build each different attention module and run it once under its site's mask, so that what cannot be, or cannot be
    trained as the settings `trainer` say, is refused before anything is read. Raises `UserError`, and `VariantFailed`
    where the code of a variant with its defaults is wrong."""
    device, dtype = device_type(trainer["accelerator"]), dtype_of(trainer["precision"])
    for site, choices in attention.choices.items():
        for layer, choice in enumerate(choices):
            if choice not in choices[:layer]:
                d_model, d_context = attention.widths(site)
                with told_at(site, choice.name, choice.options):
                    module = attention.build(site, layer)
                    trace_attend(module, d_model=d_model, d_context=d_context, mask=Mask(causal=site == "decoder_self"))
                    settle_backend(
                        module, d_model=d_model, d_context=d_context, device=device, dtype=dtype, trains=True
                    )


def check_accelerator(accelerator: str) -> None:
    """Raise `UserError` for the name of a GPU where this machine has none of the kind."""
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not there.get(accelerator, accelerator != "gpu" or any(there.values())):
        kinds = " or ".join(there) if accelerator == "gpu" else accelerator
        raise UserError(
            f"trainer.accelerator={accelerator}: torch finds no {kinds} device on this machine; take auto or cpu"
        )


def device_type(accelerator: str) -> str:
    """Type of the device that Lightning takes for this name."""
    if accelerator in ("auto", "gpu"):
        found = torch.accelerator.current_accelerator(check_available=True)
        return "cpu" if found is None else found.type
    return accelerator
