"""Puts together what the window shows of all models, from what is known of them. Pure functions."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from app.inference.downloads import DownloadState
from app.model_entry import Fit as FitWord
from app.model_entry import MemoryUse, ModelEntry, ModelShelf, WayKey, WayToGet
from mlx_model import CatalogueModel, Fit, FoundModel, MemoryNeeds, check_fit

COMPUTER = "Mac" if sys.platform == "darwin" else "computer"
DEMO_KEY = "demo"

_GIB = 1 << 30
# For which lengths of a chat the cards say what it takes.
_SHOWN_TOKENS = (4_096, 32_768, 262_144)
# The model that is recommended leaves room for at least this long a chat.
_COMFORTABLE_TOKENS = 32_768
_FIT_WORDS: dict[str, FitWord] = {"fits": "fits", "tight": "tight", "too large": "too_big"}
_INSIST = "What it says may be wrong, or it may be very slow."
_SOURCES = {"hub": "Hugging Face cache", "lm_studio": "LM Studio"}


@dataclass(frozen=True, slots=True)
class MachineRoom:
    """What this machine has: its chip ("" if unknown), its memory and what models may use of it."""

    chip: str
    memory_bytes: int
    working_set_bytes: int


@dataclass(frozen=True, slots=True)
class Opening:
    """A model on its way to answer: `waits` for the end of an answer, then it is loaded, checked.

    `done` is the share that is checked, None before that.
    """

    folder: Path
    waits: bool = False
    done: float | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a model was not opened, and whether a person may insist."""

    sentence: str
    can_override: bool


@dataclass(frozen=True, slots=True)
class ShelfFacts:
    """All that is known. `found` is empty until this machine was looked through.

    `ways` and `downloads` are by key, `refusals` by folder. `demo_bytes` is what the demo model
    takes on the disk, 0 until that is known.
    """

    catalogue: tuple[CatalogueModel, ...]
    demo_folder: Path
    demo_bytes: int = 0
    found: tuple[FoundModel, ...] = ()
    downloads: Mapping[str, DownloadState] = field(default_factory=dict)
    ways: Mapping[str, str] = field(default_factory=dict)
    machine: MachineRoom | None = None
    answering: Path | None = None
    opening: Opening | None = None
    refusals: Mapping[Path, Refusal] = field(default_factory=dict)
    token_note: str = ""


def found_by_key(facts: ShelfFacts) -> dict[str, FoundModel]:
    """What is on this machine, under the keys of its cards.

    A model of the catalogue goes under its name, any other under its folder.

    What somebody pointed at, or has downloaded to its end, is shown whatever it is, so that its
    card can say what is wrong.
    """
    by_key: dict[str, FoundModel] = {}
    # Those that work come first.
    for found in sorted(facts.found, key=lambda found: found.problem is not None):
        key = _catalogue_name(found, facts.catalogue)
        if key is not None and found.is_whole and key not in by_key:
            by_key[key] = found
        elif found.source == "folder" or (found.is_ours and found.problem is None):
            by_key[str(found.folder)] = found
    by_key.pop(str(facts.demo_folder), None)
    return by_key


def make_shelf(facts: ShelfFacts) -> ModelShelf:
    """Catalogue first, then what was found, the demo model last."""
    found = found_by_key(facts)
    best = _best(facts)
    entries = []
    for model in facts.catalogue:
        here = found.pop(model.name, None)
        if here is None:
            entry = _with_download(_offered(model, facts), facts)
        else:
            entry = _with_state(
                _at_hand(here, model.name, model.good_at, facts), here.folder, facts
            )
        entries.append(replace(entry, name=model.name, recommended=model.name == best))
    converted = {m.raw_repository for m in facts.catalogue if _is_converted(m, facts)}
    for key, other in found.items():
        raw = not other.quantised and other.problem is None
        purpose = "the original, as published" if raw else ""
        if raw and other.name in converted:
            purpose = "the original, not needed any more"
        entries.append(_with_state(_at_hand(other, key, purpose, facts), other.folder, facts))
    entries.append(_with_state(_demo(facts.demo_bytes), facts.demo_folder, facts))
    machine, budget = _machine_words(facts.machine)
    return ModelShelf(tuple(entries), machine, budget, _found_note(facts))


def _is_converted(model: CatalogueModel, facts: ShelfFacts) -> bool:
    """Whether our own conversion of it is here."""
    return any(
        found.source == "own" and found.name == model.converted_name and found.problem is None
        for found in facts.found
    )


def _catalogue_name(found: FoundModel, catalogue: tuple[CatalogueModel, ...]) -> str | None:
    """The name of the model of the catalogue that this is at 4 bits; None if it is another."""
    for model in catalogue:
        if (found.source == "own" and found.name == model.converted_name) or (
            found.source == "hub" and found.name in model.ready_repositories
        ):
            return model.name
    return None


def _offered(model: CatalogueModel, facts: ShelfFacts) -> ModelEntry:
    """A model of the catalogue that is not here yet."""
    original_is_here = any(
        found.source == "hub" and found.name == model.raw_repository and found.problem is None
        for found in facts.found
    )
    convert = WayToGet(
        "convert",
        0 if original_is_here else model.raw.size_bytes,
        model.converted.size_bytes,
        model.converted.bits_a_weight,
    )
    ready = WayToGet(
        "ready", model.ready.size_bytes, model.ready.size_bytes, model.ready.bits_a_weight
    )
    chosen: WayKey = "ready" if facts.ways.get(model.name) == "ready" else "convert"
    entry = ModelEntry(
        model.name,
        model.name,
        model.good_at,
        ways=(convert, ready),
        chosen_way=chosen,
        token_note=facts.token_note,
    )
    return _with_needs(entry, model.memory, facts, "Download")


def _at_hand(found: FoundModel, key: str, purpose: str, facts: ShelfFacts) -> ModelEntry:
    """A model that is on this machine."""
    place = _SOURCES.get(found.source, str(found.folder) if found.source == "folder" else "")
    entry = ModelEntry(
        key,
        found.name,
        purpose,
        state="here",
        bits_per_weight=found.bits,
        kept_bytes=found.size_bytes,
        place=place,
        can_delete=found.may_be_deleted,
        can_forget=found.source == "folder",
    )
    if found.problem is not None:
        return replace(entry, state="broken", problem=found.problem)
    return _with_needs(entry, found.needs, facts, "Open")


def _demo(size_bytes: int) -> ModelEntry:
    return ModelEntry(
        DEMO_KEY,
        "Demo model",
        "coloured shapes only, for trying the app",
        state="here",
        kept_bytes=size_bytes,
        place="built in",
        is_demo=True,
    )


def _with_needs(
    entry: ModelEntry, needs: MemoryNeeds | None, facts: ShelfFacts, verb: str
) -> ModelEntry:
    """What it takes in memory, and how that fits this machine."""
    if needs is None:
        return entry
    memory = tuple(MemoryUse(tokens, needs.total_bytes(tokens)) for tokens in _SHOWN_TOKENS)
    entry = replace(entry, memory=memory)
    fit = _fit(needs, facts.machine)
    if fit is None:
        return entry
    tight = fit.verdict != "fits"
    question = f"This {COMPUTER} may become very slow with it. {verb} it all the same?"
    return replace(
        entry,
        fit=_FIT_WORDS[fit.verdict],
        chat_tokens=fit.tokens // 1000 * 1000,
        fit_note=fit.sentence if tight else "",
        fit_question=question if fit.verdict == "too large" else "",
    )


def _fit(needs: MemoryNeeds, machine: MachineRoom | None) -> Fit | None:
    """How it fits the machine as such; what other programs hold now is seen when it is opened."""
    return (
        None
        if machine is None
        else check_fit(needs, machine.working_set_bytes, max_context=_SHOWN_TOKENS[-1])
    )


def _with_download(entry: ModelEntry, facts: ShelfFacts) -> ModelEntry:
    state = facts.downloads.get(entry.key)
    if state is None:
        return entry
    return replace(
        entry,
        state=state.phase,
        chosen_way="ready" if state.way == "ready" else "convert",
        transfer=state.transfer,
        done=state.done,
        problem=state.problem,
        needs_token=state.needs_token,
    )


def _with_state(entry: ModelEntry, folder: Path, facts: ShelfFacts) -> ModelEntry:
    """Whether it answers, is about to, or was refused."""
    opening = facts.opening
    if opening is not None and opening.folder == folder:
        return replace(entry, state="next" if opening.waits else "opening", done=opening.done)
    if facts.answering == folder:
        return replace(entry, state="in_use")
    refusal = facts.refusals.get(folder)
    if refusal is None:
        return entry
    question = f"{_INSIST} Use it all the same?" if refusal.can_override else ""
    return replace(entry, problem=refusal.sentence, fit_question=question or entry.fit_question)


def _best(facts: ShelfFacts) -> str | None:
    """The strongest model that leaves room for a comfortable chat; else the strongest that fits."""
    if facts.machine is None:
        return None
    fits = [(model, _fit(model.memory, facts.machine)) for model in facts.catalogue]
    by_strength = sorted(fits, key=lambda pair: -pair[0].raw.size_bytes)
    for least in (_COMFORTABLE_TOKENS, 1):
        for model, fit in by_strength:
            if fit is not None and fit.verdict == "fits" and fit.tokens >= least:
                return model.name
    return None


def _machine_words(machine: MachineRoom | None) -> tuple[str, str]:
    if machine is None:
        return "", ""
    memory = f"{machine.memory_bytes / _GIB:.0f} GB"
    parts = ", ".join(part for part in (machine.chip, memory) if part)
    return f"This {COMPUTER}: {parts}", f"{machine.working_set_bytes / _GIB:.1f} GB"


def _found_note(facts: ShelfFacts) -> str:
    """Such as "found 2 in the Hugging Face cache"."""
    shown = found_by_key(facts).values()
    notes = []
    for source, place in _SOURCES.items():
        count = sum(found.source == source for found in shown)
        if count:
            notes.append(f"{count} in {'the ' if source == 'hub' else ''}{place}")
    return f"found {' and '.join(notes)}" if notes else ""
