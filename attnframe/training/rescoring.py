"""Scoring a finished run again: on other data, with another search, or at another checkpoint."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch

from attnframe.attention import Attention
from attnframe.data.batching import Batch, Example, TokenBatchSampler, collate
from attnframe.data.schema import Corpus, SentencePair
from attnframe.data.sources import corpus_of
from attnframe.data.splitting import source_key
from attnframe.data.text_form import check_word_numbers
from attnframe.errors import UserError
from attnframe.patterns import missing_sentences
from attnframe.runs.decoding import GREEDY, Decoding
from attnframe.runs.folder import RunFolder
from attnframe.runs.loading import Run
from attnframe.training.evaluation import AlignmentChoice, Evaluation
from attnframe.training.scoring import described, recorded_choice, write_test_scores

_log = logging.getLogger(__name__)


def rescore(
    run: Run,
    folder: RunFolder,
    *,
    data: Mapping[str, Any] | None,
    decoding: Decoding,
    max_tokens: int | None = None,
    advance: Callable[[int], None] = lambda pairs: None,
) -> dict[str, Any]:
    """Score `run` on the data that the settings `data` describe (None: its own) and write down the results.

    `folder` gets results.json, with the keys of a run's own, predictions.tsv, and evaluation.json, which says what was
    scored with what. `max_tokens` is the size of a batch where not the data's. `advance` is told how many pairs are
    done. Raises `UserError` for data that cannot be had or that holds nothing to translate.
    """
    settings = run.settings["data"] if data is None else data
    corpus = corpus_of(settings)
    if not corpus.sets["test"]:
        raise UserError(f"data={settings['name']}: there is no test set in it")
    for pairs in corpus.sets.values():
        check_word_numbers(pairs, run.settings["data"]["normalization"])
    seen = _seen_in_training(run, corpus)
    budget = settings["eval_max_tokens"] if max_tokens is None else max_tokens
    evaluations = {
        # As in training, validations are greedy whatever the search: `val/bleu` means one thing.
        name: _evaluate(run, corpus, name, budget, GREEDY if name == "val" else decoding, advance)
        for name in ("val", *corpus.test_sets)
        if corpus.sets[name]
    }
    validation = evaluations.pop("val", None)
    trained = results_of(run)
    choice = _choose(validation, evaluations["test"], recorded_choice(trained), corpus)
    missing: dict[tuple[str, int], str] = {}
    for evaluation in (*evaluations.values(), *([validation] if validation else [])):
        missing |= evaluation.missing_patterns
    for sentence in missing_sentences(missing):
        _log.warning("%s", sentence)
    results: dict[str, Any] = {}
    if validation is not None:
        results |= {f"val/{key}": value for key, value in validation.scores(choice).items()}
    results |= write_test_scores(folder, evaluations, choice)
    results |= {key: value for key, value in trained.items() if key.startswith("train/")}
    results |= {
        "backend": ",".join(sorted(_backends_used(run.model))),
        **described(run.settings, run.model, corpus, run.tgt_tokenizer, decoding),
    }
    results |= {key: count for key, count in seen.items() if count}
    folder.write_json("evaluation.json", _manifest(run, corpus, settings, decoding))
    folder.write_json("results.json", results)
    return results


def _manifest(run: Run, corpus: Corpus, data: Mapping[str, Any], decoding: Decoding) -> dict[str, Any]:
    """What was scored with what, as plain JSON data: the manifest of an evaluation."""
    return {
        "run": str(run.folder.path.absolute()),
        "checkpoint": run.checkpoint,
        "step": run.step,
        "device": str(next(run.model.parameters()).device),
        "precision": "32-true",
        "decoding": decoding.described(),
        "settings": {"data": dict(data)},
        "data": {
            "name": corpus.name,
            "hash": corpus.hash(),
            "sizes": {name: len(pairs) for name, pairs in corpus.sets.items()},
            **corpus.description,
        },
    }


def _seen_in_training(run: Run, corpus: Corpus) -> dict[str, int]:
    """By set how many of its sources the run was trained on; says so where there are any."""
    if corpus.hash() == run.manifest["data"]["hash"]:
        return {}
    try:
        own = corpus_of(run.settings["data"])
    except UserError as error:
        _log.warning("whether the run was trained on these sentences cannot be told: %s", error)
        return {}
    if own.hash() != run.manifest["data"]["hash"]:
        _log.warning("the run's own data has changed since: whether it was trained on these sentences cannot be told")
    trained_on = {source_key(pair.source) for pair in own.sets["train"]}
    seen = {}
    for name in ("val", *corpus.test_sets):
        pairs = corpus.sets[name]
        count = sum(source_key(pair.source) in trained_on for pair in pairs)
        seen[f"{name if name in ('val', 'test') else f'test/{name}'}/seen_in_training"] = count
        if count:
            _log.warning("the run was trained on %d of the %d sources of %s", count, len(pairs), name)
    return seen


def _evaluate(
    run: Run, corpus: Corpus, name: str, max_tokens: int, decoding: Decoding, advance: Callable[[int], None]
) -> Evaluation:
    pairs = corpus.sets[name]
    evaluation = Evaluation(run.model, pairs, run.src_tokenizer, run.tgt_tokenizer, decoding)
    for batch in batches_of(run, pairs, max_tokens):
        evaluation.add(batch)
        advance(len(batch.indices))
    return evaluation


def batches_of(run: Run, pairs: Sequence[SentencePair], max_tokens: int) -> Iterator[Batch]:
    """The pairs in batches of at most so many tokens, on the model's device; `Batch.indices` are their places."""
    src, tgt = run.src_tokenizer, run.tgt_tokenizer
    examples = [Example(i, src.encode(pair.source), tgt.encode(pair.target)) for i, pair in enumerate(pairs)]
    lengths = [(len(example.src_ids), len(example.tgt_ids)) for example in examples]
    device = next(run.model.parameters()).device
    for rows in TokenBatchSampler(lengths, max_tokens=max_tokens, seed=0, shuffle=False, setting="max_tokens"):
        yield collate([examples[row] for row in rows]).to(device)


def _choose(
    validation: Evaluation | None, test: Evaluation, recorded: AlignmentChoice | None, corpus: Corpus
) -> AlignmentChoice | None:
    """The heads to read alignments from: chosen on validation, else as in training, else on the test set itself."""
    if not corpus.has_alignments:
        return None
    if validation is not None:
        return validation.choose()
    if recorded is not None:
        return recorded
    best = test.choose()
    if best is not None:
        _log.warning("without a validation set the AER is that of the head that is best on the test set itself")
    return best


def results_of(run: Run) -> dict[str, Any]:
    """What the run itself has written; nothing where it was stopped before."""
    try:
        results: dict[str, Any] = json.loads((run.folder.path / "results.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError:
        results = {}
    if not isinstance(results, dict) or not results:
        raise UserError(f"{run.folder.path / 'results.json'} cannot be read: it is damaged")
    return results


def _backends_used(model: torch.nn.Module) -> set[str]:
    return {name for module in model.modules() if isinstance(module, Attention) for name in module.backends_used()}
