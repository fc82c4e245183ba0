"""Taking attention away from a finished run, part by part, to see what each part is good for."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from attnframe.data.batching import Batch
from attnframe.data.schema import Corpus, SentencePair
from attnframe.data.sources import corpus_of
from attnframe.data.text_form import check_word_numbers
from attnframe.errors import UserError, did_you_mean
from attnframe.model.parts import MODES, Part, Place, find_places, parts_of, without
from attnframe.patterns import missing_sentences
from attnframe.runs.loading import Run
from attnframe.training.evaluation import AlignmentChoice, Evaluation
from attnframe.training.rescoring import batches_of, results_of
from attnframe.training.scoring import recorded_choice

_log = logging.getLogger(__name__)

MEASURES = ("loss", "bleu", "exact_match", "aer")
"""Of `Evaluation.scores`; the last only where there are gold links."""


@dataclass(frozen=True)
class Ablation:
    """The scores (`MEASURES`) without a part, and what they differ by from those of the untouched model."""

    part: Part
    mode: str
    scores: Mapping[str, float]
    changes: Mapping[str, float]


@dataclass(frozen=True)
class AblationStudy:
    """All ablations of a run, the one that the loss rises by most first.

    `untouched` holds the scores of the model as it is; `description` says what was scored, as plain JSON data.
    """

    untouched: Mapping[str, float]
    ablations: Sequence[Ablation]
    description: Mapping[str, Any]


def ablate(
    run: Run,
    *,
    data: Mapping[str, Any] | None = None,
    set_name: str | None = None,
    sentences: int = 500,
    modes: Sequence[str] = tuple(MODES),
    max_tokens: int | None = None,
    advance: Callable[[int, int], None] = lambda done, total: None,
) -> AblationStudy:
    """Score `run` without each head, without each layer of a site, and without each whole site, in each of `modes`.

    "zero" leaves nothing of what heads say (Michel et al. 2019, section 3, https://arxiv.org/abs/1905.10650), "uniform"
    their values but not their choice of keys; `model.parts.without` says what stays. Translations are greedy. The AER
    is always read from the weights of one head, that which aligns best on validation in the untouched model. These are
    the weights that it has, whatever becomes of what it says: its AER changes where something before it is taken away.
    There is none where that head has no pattern.

    `data` (None: the run's own) and `max_tokens` are as in `rescoring.rescore`. `set_name` is "val" (the default for
    the run's own data) or a test set ("test" for other data), of which the first `sentences` are scored. `advance` is
    told how many models of how many have been scored. Raises `UserError` for data that cannot be had, for a set that it
    does not have, and for a model that has diverged.
    """
    settings = run.settings["data"] if data is None else data
    corpus = corpus_of(settings)
    set_name = set_name or ("val" if data is None else "test")
    pairs = _pairs(corpus, set_name, settings["name"])[:sentences]
    check_word_numbers(pairs, run.settings["data"]["normalization"])
    batches = list(batches_of(run, pairs, settings["eval_max_tokens"] if max_tokens is None else max_tokens))
    first = batches[0]
    places = find_places(run.model, first.src[:1], first.src_keep[:1], first.tgt_in[:1])
    _say_what_has_no_heads(places, modes)
    plan = [(part, mode) for mode in modes for part in parts_of(places, mode)]
    if not plan:
        raise UserError(
            f"{run.folder.path}: no attention in this model ever calls attend: only mode=zero can act on it"
        )
    base = _evaluated(run, pairs, batches)
    for sentence in missing_sentences(base.missing_patterns):
        _log.warning("%s", sentence)
    choice = _choose(run, base, set_name)
    untouched = _measures(base, choice)
    if not math.isfinite(untouched["loss"]):
        raise UserError(
            f"{run.folder.path}: checkpoint={run.checkpoint} (step {run.step}) has a loss of {untouched['loss']} on "
            f"set={set_name}: a model that has diverged has nothing left to take away"
        )
    advance(1, 1 + len(plan))
    ablations = []
    for done, (part, mode) in enumerate(plan, start=2):
        with without(places, part, mode):
            scores = _measures(_evaluated(run, pairs, batches), choice)
        changes = {name: value - untouched[name] for name, value in scores.items()}
        ablations.append(Ablation(part, mode, scores, changes))
        advance(done, 1 + len(plan))
    ablations.sort(key=lambda ablation: -_rise(ablation))
    description = {
        "run": str(run.folder.path.absolute()),
        "checkpoint": run.checkpoint,
        "step": run.step,
        "device": str(next(run.model.parameters()).device),
        "set": set_name,
        "sentences": len(pairs),
        "modes": list(modes),
        "decoding": "greedy",
        "settings": {"data": dict(settings)},
        "data": {"name": corpus.name, "hash": corpus.hash()},
        "aer": _read_from(choice) if "aer" in untouched else None,
    }
    return AblationStudy(untouched, ablations, description)


def _pairs(corpus: Corpus, set_name: str, source: str) -> tuple[SentencePair, ...]:
    known = [name for name in ("val", *corpus.test_sets) if corpus.sets[name]]
    if set_name not in known:
        raise UserError(f"set={set_name}: data={source} has no such set to score: {did_you_mean(set_name, known)}")
    return corpus.sets[set_name]


def _say_what_has_no_heads(places: Mapping[tuple[str, int], Place], modes: Sequence[str]) -> None:
    for (site, layer), place in places.items():
        name = f"{site}, layer {layer + 1}: {type(place.module).__name__}"
        if not place.attends:
            never = " and is never made uniform" if "uniform" in modes else ""
            _log.warning(
                "%s never calls attend: its heads cannot be told apart; it is zeroed as a whole%s", name, never
            )
        elif not place.heads:
            _log.warning("%s has another number of heads in each call of attend: they are taken away together", name)


def _evaluated(run: Run, pairs: Sequence[SentencePair], batches: Sequence[Batch]) -> Evaluation:
    evaluation = Evaluation(run.model, pairs, run.src_tokenizer, run.tgt_tokenizer)
    for batch in batches:
        evaluation.add(batch)
    return evaluation


def _choose(run: Run, base: Evaluation, set_name: str) -> AlignmentChoice | None:
    """The head to read alignments from: validation's where it is known, else the best on these very sentences."""
    best = base.choose()
    if best is None or set_name == "val":
        return best
    recorded = recorded_choice(results_of(run))
    if recorded is None:
        _log.warning("the run has chosen no head on validation: the AER is that of the best head on set=%s", set_name)
        return best
    return recorded


def _measures(evaluation: Evaluation, choice: AlignmentChoice | None) -> dict[str, float]:
    scores = evaluation.scores(choice)
    return {name: scores[name] for name in MEASURES if name in scores}


def _rise(ablation: Ablation) -> float:
    """What to rank by; a loss that is no number any more ranks above every other."""
    rise = ablation.changes["loss"]
    return rise if math.isfinite(rise) else math.inf


def _read_from(choice: AlignmentChoice | None) -> dict[str, Any] | None:
    """Which head the AER is that of."""
    if choice is None:
        return None
    return {"layer": choice.head.layer, "head": choice.head.head, "reading": str(choice.head.reading)}
