"""What the cards say: the right model for a machine, what is too big, what was found."""

from dataclasses import replace
from pathlib import Path

import pytest

from app.inference.downloads import DownloadState
from app.inference.shelf import (
    COMPUTER,
    MachineRoom,
    Opening,
    Refusal,
    ShelfFacts,
    make_shelf,
)
from app.model_entry import ModelEntry, ModelShelf, Transfer
from mlx_model import CATALOGUE, FoundModel

GIB = 1 << 30
DEMO = Path("/program/demo_model")
FACTS = ShelfFacts(CATALOGUE, DEMO)
# What Metal recommends to use of 8 GB and more.
SMALL_MAC = MachineRoom("M1", 8 * GIB, round(5.3 * GIB))


def entries(shelf: ModelShelf) -> dict[str, ModelEntry]:
    return {entry.key: entry for entry in shelf.entries}


def found(name: str, source: str, folder: str, **more: object) -> FoundModel:
    plain = FoundModel(name, Path(folder), source, 3 * 10**9, True, None, 4.5, True)  # type: ignore[arg-type]
    return replace(plain, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("memory_gib", "room_gib", "best"),
    [
        (8, 5.3, "Qwen3.5-4B"),
        (8, 4.0, "Qwen3.5-2B"),
        (4, 2.0, "Qwen3.5-0.8B"),
        (16, 10.7, "Qwen3.5-9B"),
        (2, 1.0, None),
    ],
)
def test_the_right_model_for_a_machine(memory_gib: int, room_gib: float, best: str | None) -> None:
    machine = MachineRoom("M1", memory_gib * GIB, round(room_gib * GIB))
    shelf = make_shelf(replace(FACTS, machine=machine))
    assert [entry.key for entry in shelf.entries if entry.recommended] == ([best] if best else [])


def test_what_cannot_fit_is_said_with_figures_and_can_be_overridden() -> None:
    shelf = make_shelf(replace(FACTS, machine=SMALL_MAC))
    assert (shelf.machine, shelf.budget) == (f"This {COMPUTER}: M1, 8 GB", "5.3 GB")
    large = entries(shelf)["Qwen3.5-9B"]
    assert large.fit == "too_big"
    assert "5.3 GB" in large.fit_note
    assert "Download it all the same?" in large.fit_question
    right = entries(shelf)["Qwen3.5-4B"]
    assert (right.fit, right.fit_note, right.fit_question) == ("fits", "", "")
    assert right.chat_tokens >= 32_000


def test_nothing_is_claimed_of_a_machine_that_is_not_known() -> None:
    shelf = make_shelf(FACTS)
    assert shelf.machine == shelf.budget == ""
    assert not any(entry.recommended or entry.fit_note for entry in shelf.entries)
    assert [entry.key for entry in shelf.entries][-1] == "demo"


def test_a_model_of_the_catalogue_that_is_here_takes_its_place() -> None:
    here = (
        found("Qwen3.5-4B-4bit", "own", "/own/Qwen3.5-4B-4bit"),
        found("mlx-community/Qwen3.5-2B-4bit", "hub", "/cache/2B"),
        found("Qwen/Qwen3.5-4B", "hub", "/cache/4B", quantised=False),
        found("somebody/Qwen3.5-2B-6bit", "lm_studio", "/studio/2B"),
    )
    shelf = make_shelf(replace(FACTS, found=here, answering=Path("/cache/2B")))
    by_key = entries(shelf)
    assert len(by_key) == len(shelf.entries) == 7
    assert by_key["Qwen3.5-4B"].state == "here"
    assert by_key["Qwen3.5-4B"].can_delete
    assert by_key["Qwen3.5-2B"].state == "in_use"
    assert by_key["/cache/4B"].purpose == "the original, not needed any more"
    assert not by_key["/studio/2B"].can_delete
    assert shelf.found_note == "found 2 in the Hugging Face cache and 1 in LM Studio"


def test_an_original_that_is_here_is_not_downloaded_again() -> None:
    original = found("Qwen/Qwen3.5-4B", "hub", "/cache/4B", quantised=False)
    entry = entries(make_shelf(replace(FACTS, found=(original,))))["Qwen3.5-4B"]
    assert entry.way is not None
    assert (entry.way.key, entry.way.download_bytes) == ("convert", 0)


def test_models_of_other_families_are_not_offered_unless_pointed_at() -> None:
    other = found("other/model", "hub", "/cache/other", is_ours=False, problem="It is another.")
    assert "/cache/other" not in entries(make_shelf(replace(FACTS, found=(other,))))
    pointed = replace(other, source="folder")
    entry = entries(make_shelf(replace(FACTS, found=(pointed,))))["/cache/other"]
    assert (entry.state, entry.problem, entry.can_forget) == ("broken", "It is another.", True)


def test_downloads_openings_and_refusals_show_on_their_cards() -> None:
    here = found("mine", "folder", "/mine")
    transfer = Transfer(5, 10)
    facts = replace(
        FACTS,
        found=(here,),
        downloads={"Qwen3.5-2B": DownloadState("paused", "ready", transfer)},
        refusals={Path("/mine"): Refusal("It failed its check.", True)},
    )
    by_key = entries(make_shelf(facts))
    assert (by_key["Qwen3.5-2B"].state, by_key["Qwen3.5-2B"].transfer) == ("paused", transfer)
    assert by_key["Qwen3.5-2B"].chosen_way == "ready"
    assert by_key["/mine"].problem == "It failed its check."
    assert by_key["/mine"].fit_question.endswith("Use it all the same?")
    for opening, state in (
        (Opening(Path("/mine"), waits=True), "next"),
        (Opening(Path("/mine")), "opening"),
        (Opening(Path("/mine"), done=0.5), "opening"),
    ):
        assert entries(make_shelf(replace(facts, opening=opening)))["/mine"].state == state
