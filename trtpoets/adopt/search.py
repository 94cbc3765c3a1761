"""Finds the contract of a classifier file: collects what is known, tries the candidates on photos, and decides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from trtpoets.adopt.candidates import candidate_contracts
from trtpoets.adopt.contract_options import ContractOptions
from trtpoets.adopt.decide import Decision, decide
from trtpoets.adopt.facts import Fact
from trtpoets.adopt.known import known_facts
from trtpoets.adopt.loaded import LoadedModel
from trtpoets.adopt.tflite import sibling_pixels
from trtpoets.adopt.trial import Trial, try_contracts
from trtpoets.core.labels import label_indices
from trtpoets.core.progress import Progress, silent
from trtpoets.core.types import Photo


@dataclass(frozen=True)
class Search:
    """The contract that was decided on, and the trial that took part in it; None without photos."""

    decision: Decision
    trial: Trial | None


def facts_about(loaded: LoadedModel) -> tuple[Fact, ...]:
    """Return everything that is known about how a file expects its photos, without trying it."""
    return known_facts(loaded.model, sibling_pixels(loaded.model))


def find_contract(
    loaded: LoadedModel,
    facts: Sequence[Fact],
    size: tuple[int, int],
    photos: Sequence[Photo],
    labels: Sequence[str],
    options: ContractOptions,
    progress: Progress = silent,
) -> Search:
    """Return the contract of a file whose input has `size` (height, width).

    `photos` are labelled with `labels`; with none of them only `facts` and `options` decide. Raises BadInput that lists
    the candidates if nothing is certain.
    """
    trial = None
    if photos:
        contracts = candidate_contracts(loaded.model, facts, options)
        truth = label_indices((photo.label for photo in photos), labels)
        with loaded.network() as network:
            trial = try_contracts(network, loaded.model, photos, truth, contracts, progress, size)
    return Search(decide(loaded.model, facts, trial, options), trial)
