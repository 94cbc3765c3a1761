"""Determines the contract of a classifier file from options, facts and a trial, or stops and lists the candidates.

The order is that of Source: options, the graph, metadata, a quantised sibling, the producer. Certain facts must
agree with each other, and a trial must not contradict them. Without a certain fact, a trial has to decide. How sure the
network is of its answers is never used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from trtpoets.adoption.candidates import (
    PLAIN_GEOMETRIES,
    aligned_candidates,
    candidate_contracts,
    channel_variants,
    geometry_candidates,
    pixel_candidates,
    with_channels,
)
from trtpoets.adoption.contract import Contract, Geometry, Pixels
from trtpoets.adoption.contract_options import ContractOptions, fitted, options_for, pixel_options_of
from trtpoets.adoption.facts import Fact, for_channels, nearly_same, nearly_same_geometry, nearly_same_values
from trtpoets.adoption.foreign import ForeignModel
from trtpoets.adoption.trial import MIN_PHOTOS, Trial, TrialRow
from trtpoets.core.errors import BadInput
from trtpoets.core.formatting import joined, many
from trtpoets.core.original import Evidence, Source
from trtpoets.core.shell_commands import command
from trtpoets.core.types import Resize

_ORDER = list(Source)

_LISTED = 16
_TRIED = 6
"""Candidates that an error lists, without and with a trial. With a trial, later ones have hardly any right answers."""


@dataclass(frozen=True)
class Decision:
    """The contract of a file, how it is known, what the user should check, and the contracts that were considered."""

    contract: Contract
    evidence: tuple[Evidence, ...]
    warnings: tuple[str, ...] = ()
    candidates: tuple[Contract, ...] = ()


def decide(
    foreign: ForeignModel,
    facts: Sequence[Fact],
    trial: Trial | None = None,
    options: ContractOptions | None = None,
) -> Decision:
    """Return the contract that options, facts and trial agree on.

    `facts` are those of `known_facts`; `trial` compared the contracts of `candidate_contracts` for the same facts and
    options. Raises BadInput that lists the candidates, each with its options, if they disagree or decide nothing.
    """
    return _Case(foreign, facts, trial, options or ContractOptions()).decision()


class _Listing(NamedTuple):
    """What an error without a decision shows: how to state the right candidate, and lines with all of them."""

    hint: str
    lines: tuple[str, ...]


UNDECIDED = frozenset({"TP9430", "TP9431", "TP9432", "TP9433", "TP9434", "TP9435", "TP9436"})
"""The codes of errors that ask for a contract."""


class _Case:
    def __init__(
        self, foreign: ForeignModel, facts: Sequence[Fact], trial: Trial | None, options: ContractOptions
    ) -> None:
        self._foreign, self._trial = foreign, trial
        self._options = fitted(options, foreign)
        ordered = sorted(facts, key=lambda fact: _ORDER.index(fact.source))
        fitting = [
            fact if fact.pixels is None else replace(fact, pixels=for_channels(fact.pixels, foreign.channels))
            for fact in ordered
        ]
        self._facts = with_channels(fitting, self._options)
        self._evidence: list[Evidence] = []
        self._warnings: list[str] = []
        channels = self._options.channels
        if channels is not None:
            self._evidence.append(Evidence("pixels", Source.OPTION, f"{channels.value}: stated by --channels"))
            self._warnings += [
                f"--channels states {channels.value}, but {fact.evidence.text}"
                for fact in fitting
                if fact.certain and fact.channels_known and fact.pixels and fact.pixels.channels is not channels
            ]

    def decision(self) -> Decision:
        pixels = self._pixels()
        geometry = self._geometry(pixels)
        contract = Contract(pixels, geometry)
        self._add_trial(contract)
        contracts = candidate_contracts(self._foreign, self._facts, self._options)
        return Decision(contract, tuple(self._evidence), tuple(self._warnings), contracts)

    # Pixels

    def _pixels(self) -> Pixels:
        certain = [fact for fact in self._facts if fact.pixels is not None and fact.certain]
        if self._options.pixels is not None:
            return self._pixels_of_options(self._options.pixels, certain)
        if certain:
            return self._pixels_of_facts(certain)
        likely = [fact for fact in self._facts if fact.pixels is not None]
        if self._trial is None:
            listed = self._listing([_pixels_of(fact) for fact in likely])
            if likely:
                raise BadInput(
                    f"the pixel values that {self._foreign.path.name} expects are not certain: {_choices(likely)}",
                    hint=listed.hint,
                    code="TP9431",
                    details=listed.lines,
                )
            raise BadInput(
                f"nothing states which pixel values {self._foreign.path.name} expects",
                hint=listed.hint,
                code="TP9430",
                details=listed.lines,
            )
        return self._pixels_of_trial(self._trial, likely)

    def _pixels_of_options(self, pixels: Pixels, certain: list[Fact]) -> Pixels:
        self._evidence.append(Evidence("pixels", Source.OPTION, f"{pixels.text}: stated by {pixel_options_of(pixels)}"))
        for fact in certain:
            if not _agrees(fact, pixels):
                self._warnings.append(f"the options state {pixels.text}, but {fact.evidence.text}")
        rival = self._better_rival(lambda contract: nearly_same(contract.pixels, pixels))
        if rival is not None:
            ours, best = rival
            self._warnings.append(
                f"with the pixel values of the options ({ours.contract.text}) {ours.count} of {ours.photos} photos are "
                f"classified correctly, significantly fewer than the {best.count} of {best.photos} with "
                f"{best.contract.text} ({options_for(best.contract, self._foreign)})"
            )
        return pixels

    def _pixels_of_facts(self, certain: list[Fact]) -> Pixels:
        first = next((fact for fact in certain if fact.channels_known), certain[0])
        pixels = _pixels_of(first)
        for fact in certain:
            if not _agrees(fact, pixels):
                listed = self._listing([_pixels_of(first), _pixels_of(fact)])
                other = first if certain[0] is fact else certain[0]
                raise BadInput(
                    f"the sources disagree about the pixel values: {other.evidence.text}; {fact.evidence.text}",
                    hint=listed.hint,
                    code="TP9432",
                    details=listed.lines,
                )
        self._evidence += [fact.evidence for fact in certain]
        if not first.channels_known:
            pixels = self._with_channels(pixels)
        geometries = self._certain_geometries()
        rival = self._better_rival(
            lambda contract: (
                nearly_same(contract.pixels, pixels)
                and (not geometries or nearly_same_geometry(contract.geometry, geometries[0]))
            ),
            lambda contract: not nearly_same(contract.pixels, pixels),
        )
        if rival is not None:
            ours, best = rival
            listed = self._listing([pixels, best.contract.pixels], show_trial=True)
            raise BadInput(
                f"the photos contradict what is known about the file: {first.evidence.text}; but with "
                f"{ours.contract.text} {ours.count} of {ours.photos} photos are classified correctly, significantly "
                f"fewer than the {best.count} of {best.photos} with {best.contract.text}",
                hint=listed.hint,
                code="TP9433",
                details=listed.lines,
            )
        return pixels

    def _with_channels(self, pixels: Pixels) -> Pixels:
        """Determine the order of the channels for values whose source does not know it."""
        usual, other = channel_variants(pixels)
        question = "the order of the channels" if usual.channels.number == 3 else "whether grey values are inverted"
        ours, theirs = self._best_row(usual), self._best_row(other)
        if self._trial is not None and ours is not None and theirs is not None:
            counts = f"{usual.channels.text} {ours.count}, {other.channels.text} {theirs.count} of {ours.photos} photos"
            both = [row for row in self._trial.rows if nearly_same_values(row.contract.pixels, pixels)]
            is_other = self._trial.is_better(theirs, ours, rivals=len(both) - 1)
            if is_other or self._trial.is_better(ours, theirs, rivals=len(both) - 1):
                better = other if is_other else usual
                self._evidence.append(
                    Evidence("pixels", Source.TRIAL, f"the channels are {better.channels.text}: {counts}")
                )
                return better
            self._assume(
                "pixels",
                f"the photos do not distinguish {question} ({counts}), and {usual.channels.text} is assumed; "
                f"--channels {other.channels.value} states the other",
            )
            return usual
        self._assume(
            "pixels",
            f"nothing states {question}, and {usual.channels.text} is assumed; --channels {other.channels.value} "
            "states the other",
        )
        return usual

    def _pixels_of_trial(self, trial: Trial, likely: list[Fact]) -> Pixels:
        best = trial.best
        if not trial.is_above_chance(best):
            listed = self._listing([_pixels_of(fact) for fact in likely], show_trial=True)
            raise BadInput(
                f"no contract gives more right answers than chance: {trial.summary(best)}; the photos or the labels "
                "may be those of another classifier",
                hint=listed.hint,
                code="TP9434",
                details=listed.lines,
            )
        rivals = self._not_worse(trial, best)
        confirmed = self._confirmed(trial, likely, best)
        if rivals and confirmed is None:
            reason = (
                f"the pixel values that {self._foreign.path.name} expects are not certain: {_choices(likely)}; "
                if likely
                else ""
            )
            listed = self._listing([_pixels_of(fact) for fact in likely], show_trial=True)
            raise BadInput(
                f"{reason}the photos do not distinguish {best.contract.pixels.text} from "
                f"{joined([_named(row) for row in rivals])} ({trial.summary(best)}{self._needed(trial, best, rivals)})",
                hint=listed.hint,
                code="TP9435",
                details=listed.lines,
            )
        if confirmed is None:
            others = [fact.evidence.text for fact in likely if not _agrees(fact, best.contract.pixels)]
            if others:
                self._warnings.append(
                    f"the photos decided otherwise, but it was likely that {'; or that '.join(dict.fromkeys(others))}"
                )
            return best.contract.pixels
        pixels = _pixels_of(confirmed)
        self._evidence.append(confirmed.evidence)
        return pixels

    def _confirmed(self, trial: Trial, likely: list[Fact], best: TrialRow) -> Fact | None:
        """Return the likely fact that the trial confirms, None if there is none.

        No contract has more right answers, all other likely pixel values have significantly fewer, and there are at
        least MIN_PHOTOS. The correction is for the likely contracts only. If there is one kind of likely values,
        some other values must have significantly fewer: else the photos show nothing.
        """
        if trial.photos < MIN_PHOTOS:
            return None
        kinds = [_pixels_of(fact) for fact in likely]
        rows = [row for row in trial.rows if any(nearly_same(row.contract.pixels, kind) for kind in kinds)]
        for fact in likely:
            pixels = _pixels_of(fact)
            row = self._best_row(pixels)
            if row is None or row.photos < best.photos or row.count < best.count or not fact.channels_known:
                continue
            others = [other for other in rows if not nearly_same(other.contract.pixels, pixels)]
            if others and all(trial.is_better(row, other, rivals=len(rows) - 1) for other in others):
                return fact
            rest = [other for other in trial.rows if not nearly_same(other.contract.pixels, pixels)]
            if not others and any(trial.is_better(row, other) for other in rest):
                return fact
        return None

    def _not_worse(self, trial: Trial, best: TrialRow) -> list[TrialRow]:
        """Return the best row of each other kind of pixel values that is not significantly worse than `best`."""
        rows: dict[Pixels, TrialRow] = {}
        for row in trial.rows:
            other = row.contract.pixels
            if not nearly_same(other, best.contract.pixels) and not trial.is_better(best, row):
                rows.setdefault(other, row)
        return list(rows.values())

    def _needed(self, trial: Trial, best: TrialRow, rivals: list[TrialRow]) -> str:
        numbers = [trial.photos_needed(best, rival) for rival in rivals]
        known = [number for number in numbers if number is not None]
        if len(known) < len(numbers):
            return "; more photos of this kind may not distinguish them"
        return f"; about {many(max([*known, trial.photos + 1]), 'photo')} would"

    # Geometry

    def _certain_geometries(self) -> list[Geometry]:
        if self._options.geometry is not None:
            return [self._options.geometry]
        return [fact.geometry for fact in self._facts if fact.geometry is not None and fact.certain]

    def _geometry(self, pixels: Pixels) -> Geometry:
        stated = self._options.geometry
        if stated is not None:
            self._evidence.append(Evidence("resize", Source.OPTION, f"{stated.text}: stated by the options"))
            return stated
        facts = [fact for fact in self._facts if fact.geometry is not None]
        certain = [fact for fact in facts if fact.certain]
        if certain:
            return self._geometry_of_facts(certain, pixels)
        likely = facts[0] if facts else None
        if self._trial is None:
            if likely is not None and likely.geometry is not None:
                self._assume("resize", f"{likely.evidence.text}; this is likely, not certain, and --resize decides")
                return likely.geometry
            self._assume(
                "resize", "nothing states how photos are resized, and stretch is assumed; --resize crop states a crop"
            )
            return Geometry(Resize.STRETCH)
        return self._geometry_of_trial(self._trial, likely, pixels)

    def _geometry_of_facts(self, certain: list[Fact], pixels: Pixels) -> Geometry:
        first = certain[0]
        geometry = first.geometry
        assert geometry is not None
        for fact in certain[1:]:
            if fact.geometry is not None and not nearly_same_geometry(fact.geometry, geometry):
                self._warnings.append(
                    f"the sources disagree about the resizing, and the first was followed: {first.evidence.text}; "
                    f"{fact.evidence.text}"
                )
        self._evidence.append(replace(first.evidence, about="resize", text=first.evidence.text))
        if first.warning:
            self._warnings.append(first.warning)
        rival = self._better_rival(
            lambda contract: nearly_same(contract.pixels, pixels) and nearly_same_geometry(contract.geometry, geometry),
            lambda contract: nearly_same(contract.pixels, pixels),
        )
        if rival is not None:
            ours, best = rival
            listed = self._listing([pixels], show_trial=True, geometries=[geometry, best.contract.geometry])
            raise BadInput(
                f"the photos contradict what is known about the resizing: {first.evidence.text}; but with "
                f"{ours.contract.text} {ours.count} of {ours.photos} photos are classified correctly, significantly "
                f"fewer than the {best.count} of {best.photos} with {best.contract.text}",
                hint=listed.hint,
                code="TP9436",
                details=listed.lines,
            )
        return geometry

    def _geometry_of_trial(self, trial: Trial, likely: Fact | None, pixels: Pixels) -> Geometry:
        rows = [row for row in trial.rows if nearly_same(row.contract.pixels, pixels)]
        if not rows:
            self._assume("resize", "the resizing was not tried, and stretch is assumed; --resize decides")
            return Geometry(Resize.STRETCH)
        best = rows[0]
        open_rows = [row for row in rows[1:] if not trial.is_better(best, row)]
        # Of those that the photos do not distinguish: the likely one, else stretch or a whole crop, the most usual.
        usual = [row for row in [best, *open_rows] if row.contract.geometry in PLAIN_GEOMETRIES]
        chosen = (usual or [best])[0]
        if likely is not None and likely.geometry is not None:
            geometry = likely.geometry
            same = [row for row in [best, *open_rows] if nearly_same_geometry(row.contract.geometry, geometry)]
            if same:
                chosen = same[0]
                self._evidence.append(replace(likely.evidence, about="resize"))
        others = [row for row in [best, *open_rows] if row is not chosen]
        counts = f"{chosen.contract.geometry.text}: {chosen.count} of {chosen.photos}"
        if not others:
            self._evidence.append(Evidence("resize", Source.TRIAL, f"{counts}, significantly more than the others"))
        else:
            names = joined([f"{row.contract.geometry.text} ({row.count})" for row in others])
            self._assume(
                "resize",
                f"the photos do not distinguish {chosen.contract.geometry.text} ({chosen.count} of {chosen.photos}) "
                f"from {names}; --resize decides",
            )
        return chosen.contract.geometry

    # Trial

    def _best_row(self, pixels: Pixels) -> TrialRow | None:
        rows = self._trial.rows if self._trial is not None else ()
        return next((row for row in rows if nearly_same(row.contract.pixels, pixels)), None)

    def _better_rival(
        self, ours: Callable[[Contract], bool], theirs: Callable[[Contract], bool] = lambda contract: True
    ) -> tuple[TrialRow, TrialRow] | None:
        """Return the first row of a contract `ours`, and a row of `theirs` that is significantly better, or None."""
        if self._trial is None:
            return None
        mine = next((row for row in self._trial.rows if ours(row.contract)), None)
        if mine is None:
            return None
        rivals = (row for row in self._trial.rows if not ours(row.contract) and theirs(row.contract))
        rival = next((row for row in rivals if self._trial.is_better(row, mine)), None)
        return None if rival is None else (mine, rival)

    def _add_trial(self, contract: Contract) -> None:
        """Add the result of the trial as evidence, and a warning if it is not better than chance."""
        trial = self._trial
        row = self._row_of(contract)
        if trial is None or row is None:
            return
        self._evidence.append(Evidence("pixels", Source.TRIAL, trial.summary(row)))
        if not trial.is_above_chance(row):
            self._warnings.append(
                f"with {row.contract.text} only {row.count} of {row.photos} photos are classified correctly, no more "
                "than by chance: check the labels, and that the photos show the classes of this classifier"
            )

    def _row_of(self, contract: Contract) -> TrialRow | None:
        """Return the row of a contract, or that of the same pixel values with the most right answers."""
        rows = self._trial.rows if self._trial is not None else ()
        exact = (
            row
            for row in rows
            if nearly_same(row.contract.pixels, contract.pixels)
            and nearly_same_geometry(row.contract.geometry, contract.geometry)
        )
        return next(exact, None) or self._best_row(contract.pixels)

    def _assume(self, about: str, text: str) -> None:
        self._evidence.append(Evidence(about, Source.ASSUMED, text))
        self._warnings.append(text)

    # Errors

    def _listing(
        self,
        first: Iterable[Pixels],
        *,
        show_trial: bool = False,
        geometries: Sequence[Geometry] = (),
    ) -> _Listing:
        """Return the candidates, `first` before others, for an error that asks for one of them."""
        contracts = self._listed(list(first), list(geometries))
        shown = contracts[: _TRIED if show_trial else _LISTED]
        lines = aligned_candidates([self._entry(contract, with_geometry=bool(geometries)) for contract in shown])
        if len(contracts) > len(shown):
            lines.append(f"and {many(len(contracts) - len(shown), 'other')}")
        again = command("adopt", self._foreign.path, "--name", "NAME")
        others = "" if show_trial else f"; or give labelled photos to try them: {again} --photos FOLDER"
        return _Listing(
            f"state the right one: {again} {self._options_text(contracts[0], bool(geometries))}{others}",
            ("Candidates, each with its options:", *lines),
        )

    def _listed(self, first: list[Pixels], geometries: list[Geometry]) -> list[Contract]:
        """Return a contract for each kind of pixel values: those in `first`, then in the order of the trial."""
        usual = [row.contract for row in self._trial.rows] if self._trial is not None else []
        kinds = [*first, *(contract.pixels for contract in usual)]
        kinds += pixel_candidates(self._foreign, self._facts, self._options)
        contracts: list[Contract] = []
        for pixels in kinds:
            if any(nearly_same(pixels, contract.pixels) for contract in contracts):
                continue
            if geometries:
                contracts += [Contract(pixels, geometry) for geometry in geometries]
                if len(first) == 1:
                    break
                continue
            certain = self._certain_geometries()
            row = self._best_row(pixels)
            likely = [fact.geometry for fact in self._facts if fact.geometry is not None]
            tried = [row.contract.geometry] if row is not None else []
            options = [*certain, *tried, *likely, *geometry_candidates(self._facts, self._options)]
            contracts.append(Contract(pixels, options[0]))
        return contracts

    def _entry(self, contract: Contract, *, with_geometry: bool) -> tuple[str, str, str]:
        """Return what a candidate is, its right answers, and its options: those of the geometry if that is open."""
        rows = self._trial.rows if self._trial is not None else ()
        row = next((row for row in rows if row.contract == contract), None)
        count = "" if row is None else f"{row.count} of {row.photos}"
        text = contract.text if with_geometry else contract.pixels.text
        return text, count, self._options_text(contract, with_geometry)

    def _options_text(self, contract: Contract, with_geometry: bool) -> str:
        words = options_for(contract, self._foreign)
        return words if with_geometry else words.partition(" --resize")[0]


def _choices(likely: Sequence[Fact]) -> str:
    """Return what facts that are not certain say."""
    return "; ".join(dict.fromkeys(fact.choices or fact.evidence.text for fact in likely))


def _pixels_of(fact: Fact) -> Pixels:
    assert fact.pixels is not None
    return fact.pixels


def _agrees(fact: Fact, pixels: Pixels) -> bool:
    """Whether the values are those of the fact, in any order of the channels if it does not know the order."""
    if fact.channels_known:
        return nearly_same(_pixels_of(fact), pixels)
    return nearly_same_values(_pixels_of(fact), pixels)


def _named(row: TrialRow) -> str:
    return f"{row.contract.pixels.text} ({row.count} of {row.photos})"
