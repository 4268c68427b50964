"""Whole replies of the demo model with a draft head: the same words, and figures about drafts."""

import logging
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from mlx_model.cache import SequenceCache
from mlx_model.draft_head import DraftHead
from mlx_model.engine import Engine
from mlx_model.events import Finished, ReplyStats, TextDelta, ThinkingDelta
from mlx_model.messages import Message, ReplyRequest, ReplySettings
from tests.mlx_model.oracle_head import OracleHead
from tests.mlx_model.random_head import add_draft_head
from tests.mlx_model.test_engine import DEMO, LIMITS, NEVER, PICTURE, ask, finish, texts


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo model with a draft head that has learnt nothing."""
    folder = tmp_path_factory.mktemp("demo") / "model"
    shutil.copytree(DEMO, folder)
    add_draft_head(folder)
    return folder


@pytest.fixture(scope="module")
def engine(folder: Path) -> Engine:
    return Engine.load(folder, LIMITS)


@pytest.fixture(autouse=True)
def nothing_known(engine: Engine) -> Iterator[None]:
    head = engine.model.mtp
    engine.forget()
    yield
    engine.model.mtp = head


def said(engine: Engine, request: ReplyRequest) -> tuple[str, str, ReplyStats]:
    events = list(engine.reply(request, NEVER))
    return texts(events, ThinkingDelta), texts(events, TextDelta), finish(events).stats


def foresee(
    engine: Engine,
    request: ReplyRequest,
    wrong: Any = lambda row: False,
    after: Sequence[int] = (),
) -> str:
    """Give the engine a draft head that knows the answer, and `after` it; returns the answer."""
    engine.model.mtp = None
    _, answer, stats = said(engine, request)
    ids = engine.processor.tokenizer.encode(answer, add_special_tokens=False).ids
    assert len(ids) == stats.generated_tokens
    known = [*ids[:1] * stats.prompt_tokens, *ids, *after]
    engine.model.mtp = OracleHead(engine.model, known, wrong)
    engine.forget()
    return answer


QUESTION = "List the shapes from left to right."


def test_a_checkpoint_with_a_head_is_loaded_with_it(engine: Engine) -> None:
    assert isinstance(engine.model.mtp, DraftHead)


def test_drafts_are_counted_and_change_no_word(engine: Engine) -> None:
    plain = said(engine, ask(PICTURE, QUESTION, drafts=0))
    engine.forget()
    drafted = said(engine, ask(PICTURE, QUESTION, drafts=2))
    assert drafted[:2] == plain[:2]
    assert (plain[2].drafted_tokens, plain[2].drafting) == (0, False)
    stats = drafted[2]
    assert stats.drafting
    assert 0 <= stats.accepted_drafts < stats.drafted_tokens
    assert stats.generated_tokens == plain[2].generated_tokens


def test_right_drafts_are_taken(engine: Engine) -> None:
    answer = foresee(engine, ask(PICTURE, QUESTION))
    _, text, stats = said(engine, ask(PICTURE, QUESTION, drafts=3))
    assert text == answer
    assert stats.accepted_drafts == stats.drafted_tokens > 5


@pytest.mark.parametrize("drafts", [1, 2, 3])
def test_a_right_guess_of_the_end_counts_and_what_lies_behind_it_does_not(
    engine: Engine, drafts: int
) -> None:
    question = ask(PICTURE, "What colour is the circle?", drafts=drafts)
    end = engine.processor.tokenizer.token_to_id("<|im_end|>")
    answer = foresee(engine, question, after=[end])
    _, text, stats = said(engine, question)
    assert text == answer
    assert stats.generated_tokens % (drafts + 1), "the end is one of the drafts"
    # The first token is drawn alone, and of each window behind it one more.
    alone = 1 + stats.generated_tokens // (drafts + 1)
    assert stats.accepted_drafts == stats.drafted_tokens == stats.generated_tokens + 1 - alone


def test_no_more_drafts_are_made_than_the_machine_allows(engine: Engine) -> None:
    own = engine.limits
    engine.limits = replace(own, max_drafts=0)
    try:
        assert said(engine, ask(PICTURE, QUESTION, drafts=3))[2].drafted_tokens == 0
    finally:
        engine.limits = own


def test_a_window_that_fails_costs_the_next_prompt_nothing(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as planted:
        planted.setattr(SequenceCache, "trail_marks", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            said(engine, ask(PICTURE, QUESTION, drafts=2))
    assert not engine.memory.histories.paths[-1].sequence.leaves_trail


def test_a_stop_text_inside_a_window_ends_it_as_without_drafts(engine: Engine) -> None:
    answer = foresee(engine, ask(PICTURE, QUESTION))
    words = answer.split()
    for word in words[2:6]:
        engine.forget()
        _, text, _ = said(engine, ask(PICTURE, QUESTION, drafts=3, stop=(word,)))
        assert text.rstrip() == answer[: answer.index(word)].rstrip()


def test_the_limit_of_thinking_holds_with_drafts(engine: Engine) -> None:
    request: dict[str, Any] = {"thinking": True, "thinking_budget": 3, "max_tokens": 40}
    plain = said(engine, ask(PICTURE, QUESTION, drafts=0, **request))
    engine.forget()
    assert said(engine, ask(PICTURE, QUESTION, drafts=3, **request))[:2] == plain[:2]


@pytest.mark.parametrize("wrong", [lambda row: False, lambda row: row % 3 == 0])
def test_what_follows_a_drafted_answer_is_what_follows_it_cold(engine: Engine, wrong: Any) -> None:
    answer = foresee(engine, ask(PICTURE, QUESTION), wrong)
    said(engine, ask(PICTURE, QUESTION, drafts=3))
    first = ask(PICTURE, QUESTION).messages
    more = (*first, Message.text("assistant", answer), Message.text("user", "How many are there?"))
    settings = ReplySettings(drafts=3, max_tokens=30)
    _, warm, stats = said(engine, ReplyRequest(more, settings))
    assert stats.reused_tokens > 0
    engine.forget()
    _, cold, _ = said(engine, ReplyRequest(more, settings))
    assert warm == cold


def test_rows_of_the_head_go_with_the_history(engine: Engine) -> None:
    """Two conversations in turn: what the head has read of each comes back with it."""
    requests = [ask(PICTURE, QUESTION, drafts=2), ask("Who are you?", drafts=2)]
    cold = []
    for request in requests:
        engine.forget()
        cold.append(said(engine, request))
    engine.forget()
    for number in (0, 1, 0, 1):
        text = said(engine, requests[number])
        assert text[:2] == cold[number][:2]
        assert text[2].accepted_drafts == cold[number][2].accepted_drafts
    sequence = engine.memory.histories.paths[-1].sequence
    keys, values = sequence.draft.held()
    assert keys is not None
    assert values is not None
    rows = [np.array(keys[:, :, : sequence.length]), np.array(values[:, :, : sequence.length])]
    engine.forget()
    said(engine, requests[1])
    again = engine.memory.histories.paths[-1].sequence
    for found, wanted in zip(rows, again.draft.held(), strict=True):
        np.testing.assert_allclose(found, wanted[:, :, : again.length], rtol=0, atol=1e-4)


@pytest.mark.parametrize("damage", ["shape", "missing", "nan"])
def test_a_damaged_head_is_left_out_and_logged(
    folder: Path, tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(folder, broken)
    tensors = load_file(broken / "model.safetensors")
    if damage == "shape":
        tensors["mtp.fc.weight"] = tensors["mtp.fc.weight"][:, :7].copy()
    elif damage == "missing":
        del tensors["mtp.norm.weight"]
    else:
        tensors["mtp.norm.weight"][0] = np.nan
    save_file(tensors, broken / "model.safetensors")
    with caplog.at_level(logging.WARNING, "fireside.engine"):
        engine = Engine.load(broken, LIMITS)
    assert engine.model.mtp is None
    assert "without drafts" in caplog.text
    events = list(engine.reply(ask("Who are you?", max_tokens=3), NEVER))
    assert isinstance(events[-1], Finished)
    mx.clear_cache()
