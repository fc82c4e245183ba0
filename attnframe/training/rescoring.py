"""Scoring a finished run again: on other data, with another search, or at another checkpoint."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from typing import Any

import torch

from attnframe.attention import Attention
from attnframe.data.batching import Example, TokenBatchSampler, collate
from attnframe.data.schema import Corpus
from attnframe.data.sources import corpus_of
from attnframe.data.text_form import check_word_numbers
from attnframe.errors import UserError
from attnframe.runs.decoding import Decoding
from attnframe.runs.folder import RunFolder
from attnframe.runs.loading import Run
from attnframe.training.evaluation import AlignmentChoice, Evaluation
from attnframe.training.scoring import recorded_choice, write_test_scores
from attnframe.training.text_scores import signatures

_log = logging.getLogger(__name__)


def rescore(
    run: Run,
    folder: RunFolder,
    *,
    data: Mapping[str, Any] | None,
    decoding: Decoding,
    advance: Callable[[int], None] = lambda pairs: None,
) -> dict[str, Any]:
    """Score `run` on the data that the settings `data` describe (None: its own) and write down the results.

    `folder` gets results.json, with the keys of a run's own, and predictions.tsv. `advance` is told how many pairs are
    done. Raises `UserError` for data that cannot be had or that holds nothing to translate.
    """
    settings = run.settings["data"] if data is None else data
    corpus = corpus_of(settings)
    if not corpus.sets["test"]:
        raise UserError(f"data={settings['name']}: there is no test set in it")
    if data is None and corpus.hash() != run.manifest["data"]["hash"]:
        _log.warning("the run's data has changed since: it may now be tested on what it was trained on")
    for pairs in corpus.sets.values():
        check_word_numbers(pairs, run.settings["data"]["normalization"])
    evaluations = {
        name: _evaluate(run, corpus, name, settings["eval_max_tokens"], decoding, advance)
        for name in ("val", *corpus.test_sets)
        if corpus.sets[name]
    }
    validation = evaluations.pop("val", None)
    trained = _results_of(run)
    choice = _choose(validation, evaluations["test"], recorded_choice(trained), corpus)
    results: dict[str, Any] = {}
    if validation is not None:
        results |= {f"val/{key}": value for key, value in validation.scores(choice).items()}
    results |= write_test_scores(folder, evaluations, choice)
    results |= {key: value for key, value in trained.items() if key.startswith("train/")}
    results |= {
        "parameters": sum(parameter.numel() for parameter in run.model.parameters()),
        "seed": run.settings["seed"],
        "variant": run.settings["attention"]["name"],
        "backend": ",".join(sorted(_backends_used(run.model))),
        "checkpoint": run.checkpoint,
        "checkpoint/step": run.step,
        **decoding.described(),
        "data": corpus.name,
        "data/hash": corpus.hash(),
    }
    scored_as = signatures(corpus, lowercase=run.tgt_tokenizer.lowercase)
    results |= {f"signature/{name}": text for name, text in scored_as.items()}
    folder.write_json("results.json", results)
    return results


def _evaluate(
    run: Run, corpus: Corpus, name: str, max_tokens: int, decoding: Decoding, advance: Callable[[int], None]
) -> Evaluation:
    src, tgt = run.src_tokenizer, run.tgt_tokenizer
    pairs = corpus.sets[name]
    examples = [Example(i, src.encode(pair.source), tgt.encode(pair.target)) for i, pair in enumerate(pairs)]
    lengths = [(len(example.src_ids), len(example.tgt_ids)) for example in examples]
    device = next(run.model.parameters()).device
    evaluation = Evaluation(run.model, pairs, src, tgt, decoding)
    for rows in TokenBatchSampler(lengths, max_tokens=max_tokens, seed=0, shuffle=False):
        evaluation.add(collate([examples[row] for row in rows]).to(device))
        advance(len(rows))
    return evaluation


def _choose(
    validation: Evaluation | None, test: Evaluation, recorded: AlignmentChoice | None, corpus: Corpus
) -> AlignmentChoice | None:
    """The heads to read alignments from: chosen on validation, else as in training, else on the test set itself."""
    if not corpus.has_alignments:
        return None
    if validation is not None:
        return validation.choose()
    if recorded is None:
        _log.warning("without a validation set the AER is that of the head that is best on the test set itself")
        return test.choose()
    return recorded


def _results_of(run: Run) -> dict[str, Any]:
    """What the run itself has written; nothing where it was stopped before."""
    try:
        results: dict[str, Any] = json.loads((run.folder.path / "results.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    return results


def _backends_used(model: torch.nn.Module) -> set[str]:
    return {name for module in model.modules() if isinstance(module, Attention) for name in module.backends_used()}
