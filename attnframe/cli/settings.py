"""From a composed config to plain named values; what Hydra's types cannot check is checked here."""

from __future__ import annotations

import dataclasses
import typing
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from attnframe import discovery
from attnframe.attention.functional import divide_into_heads
from attnframe.cli.schema import TrainSchema
from attnframe.errors import UserError, did_you_mean
from attnframe.model import SITES, AttentionFactory, VariantChoice

DEFAULT_MAX_STEPS = 1000

MODEL_KINDS = ("seq2seq", "decoder_only")


def plain(config: DictConfig) -> dict[str, Any]:
    """The config with every reference resolved, as nested dicts, lists and scalars. Raises `UserError`."""
    try:
        container = OmegaConf.to_container(config, resolve=True, throw_on_missing=True, enum_to_str=True)
    except OmegaConfBaseException as error:
        raise UserError(str(error).partition("\n")[0]) from error
    assert isinstance(container, dict)
    plain = {str(key): value for key, value in container.items()}
    _refuse_unknown(plain, TrainSchema)
    check_name(plain["name"])
    plain["trainer"] = trainer_arguments(plain["trainer"])
    return plain


def _refuse_unknown(node: dict[str, Any], schema: type, place: str = "") -> None:
    """Refuse keys that a `+` on the command line has brought in past Hydra's own check."""
    types = typing.get_type_hints(schema)
    for key, value in node.items():
        if key not in types:
            owner = place.rstrip(".") or "the config"
            raise UserError(f"{place}{key}: {owner} has no {key!r}: {did_you_mean(key, types)}")
        if dataclasses.is_dataclass(types[key]) and isinstance(types[key], type) and isinstance(value, dict):
            _refuse_unknown(value, types[key], f"{place}{key}.")


def check_name(name: str) -> None:
    """Refuse a run name that is no name of a folder."""
    if not name or name in (".", "..") or any(mark in name for mark in "/\\\0"):
        raise UserError(f"name={name}: a run's name becomes a folder below outputs/, so it needs letters and no slash")


def trainer_arguments(trainer: dict[str, Any]) -> dict[str, Any]:
    """The settings under `trainer` with `max_steps` decided. Refuses what a run cannot be made of."""
    for key in ("max_steps", "max_epochs", "limit_train_batches", "limit_val_batches", "limit_test_batches"):
        if trainer[key] == 0:
            raise UserError(f"trainer.{key}=0: a run trains, validates and tests, so it must be more than 0")
    several = trainer["num_nodes"] > 1 or str(trainer["strategy"]) != "auto" or trainer["devices"] not in (1, "1")
    if several:
        raise UserError(
            f"trainer.devices={trainer['devices']} trainer.num_nodes={trainer['num_nodes']} "
            f"trainer.strategy={trainer['strategy']}: a run takes one device so far (devices=1, strategy=auto)"
        )
    if trainer["max_steps"] is None:
        unlimited = trainer["max_epochs"] is not None or trainer["max_time"] is not None
        return {**trainer, "max_steps": -1 if unlimited else DEFAULT_MAX_STEPS}
    return trainer


def attention_factory(settings: dict[str, Any]) -> AttentionFactory:
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


def sites_of(model: dict[str, Any]) -> tuple[str, ...]:
    """The attention sites that a kind of model has."""
    return SITES if model["kind"] == "seq2seq" else ("decoder_self",)


def encoder_of(model: dict[str, Any]) -> dict[str, int]:
    """Width and depth of the encoder, the model's own where nothing else is set."""
    return {key: model[key] if value is None else value for key, value in model["encoder"].items()}


def site_choices(settings: dict[str, Any], site: str, num_layers: int) -> tuple[VariantChoice, ...]:
    """The variant of each layer of a site: from `layers.<site>`, else `attention@<site>`, else `attention`."""
    per_layer = settings["layers"][site]
    if per_layer is None:
        return (_choice(settings[site] or settings["attention"], site),) * num_layers
    if len(per_layer) != num_layers:
        raise UserError(f"layers.{site} names {len(per_layer)} variants, but the site has {num_layers} layers")
    return tuple(_choice(entry, f"layers.{site}") for entry in per_layer)


def check_model(model: dict[str, Any]) -> None:
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


def try_attention(attention: AttentionFactory) -> None:
    """Build each different attention module once, so that what cannot be built is refused before anything is read."""
    for site, choices in attention.choices.items():
        for layer, choice in enumerate(choices):
            if choice not in choices[:layer]:
                attention.build(site, layer)
