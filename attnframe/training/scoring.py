"""From evaluated sets to what is written down of them: flat results and the table of predictions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from attnframe.data.schema import Corpus
from attnframe.data.tokenizer import Tokenizer
from attnframe.patterns.alignment import Reading
from attnframe.patterns.head_alignment import HeadScore
from attnframe.runs.decoding import Decoding
from attnframe.runs.folder import RunFolder
from attnframe.runs.sentence_statistics import write_sentence_statistics
from attnframe.training.evaluation import AlignmentChoice, Evaluation
from attnframe.training.predictions import prediction_table
from attnframe.training.text_scores import signatures


def write_test_scores(
    folder: RunFolder, evaluations: Mapping[str, Evaluation], choice: AlignmentChoice | None
) -> dict[str, Any]:
    """Results of the test sets, by name, with `choice` speaking for the heads; writes predictions.tsv and
    sentence_statistics.npz into `folder`.

    The set `test` has keys such as `test/bleu`, another one `test/<set>/bleu`.
    """
    results: dict[str, Any] = {}
    translations = []
    for name, evaluation in evaluations.items():
        prefix = "test/" if name == "test" else f"test/{name}/"
        results |= {prefix + key: value for key, value in evaluation.scores(choice, split=True).items()}
        scored = evaluation.translations()
        results[f"{prefix}sentences"] = len(scored)
        translations += [(name, translation) for translation in scored]
    folder.write_table("predictions.tsv", *prediction_table(translations))
    statistics = {name: evaluation.sentence_statistics(choice) for name, evaluation in evaluations.items()}
    write_sentence_statistics(folder.path, statistics)
    return results | _chosen_heads(choice)


def described(
    settings: Mapping[str, Any], model: nn.Module, corpus: Corpus, tokenizer: Tokenizer, decoding: Decoding
) -> dict[str, Any]:
    """What scores are of and how they were made: the run, its size and what that was matched to, the search, and
    sacreBLEU's signatures.

    `settings` are those of the run, `tokenizer` is that of the target.
    """
    scored_as = signatures(corpus, lowercase=tokenizer.lowercase)
    return {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "seed": settings["seed"],
        "variant": settings["attention"]["name"],
        **{f"matched/{name}": value for name, value in (settings.get("matched") or {}).items()},
        **decoding.described(),
        **{f"signature/{name}": text for name, text in scored_as.items()},
    }


def _chosen_heads(choice: AlignmentChoice | None) -> dict[str, Any]:
    """Which heads the AERs are those of."""
    results: dict[str, Any] = {}
    if choice is not None:
        for key, head in (("aer", choice.head), ("aer_mean_heads", choice.mean_heads), ("aer_norms", choice.norms)):
            if head is None:
                continue
            results |= {f"test/{key}/layer": head.layer, f"test/{key}/reading": str(head.reading)}
            if head.head is not None:
                results[f"test/{key}/head"] = head.head
    return results


def recorded_choice(results: Mapping[str, Any]) -> AlignmentChoice | None:
    """The heads that a run's results were read from; None where it had no gold alignments or patterns to choose by.

    Results that tell of no contributions, as those of runs that measured none, leave `norms` open.
    """
    head, mean_heads, norms = (_recorded_head(results, f"test/{key}") for key in ("aer", "aer_mean_heads", "aer_norms"))
    if head is None or mean_heads is None:
        return None
    return AlignmentChoice(head, mean_heads, norms)


def _recorded_head(results: Mapping[str, Any], key: str) -> HeadScore | None:
    # A head that is chosen may have no patterns of the test set, and so no AER there.
    if not {key, f"{key}/layer"} <= results.keys():
        return None
    reading = Reading(results[f"{key}/reading"])
    return HeadScore(results[f"{key}/layer"], results.get(f"{key}/head"), reading, results[key])
