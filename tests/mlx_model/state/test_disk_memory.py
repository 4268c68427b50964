"""What was read outlives the program, and whatever happens to the files no answer is ever wrong."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mlx_model import looking
from mlx_model.draft_head import DraftHead
from mlx_model.engine import Engine
from mlx_model.messages import Message
from mlx_model.state.disk_memory import DiskMemory, model_key
from tests.mlx_model.demo_reuse import (
    CLIP,
    DEMO,
    FIRST_WORDS,
    LIMITS,
    NEVER,
    PICTURE,
    SYSTEM,
    Said,
    ask,
    assert_as_if_cold,
    fresh,
    prepared,
    request_of,
    user,
)

ROOT = Path(__file__).parents[3]
WAIT_S = 60
FIRST = (SYSTEM, user(PICTURE, CLIP, "What is this?"))
KEY = "a model"


@pytest.fixture(scope="module")
def loaded() -> Engine:
    return Engine.load(DEMO, LIMITS)


@pytest.fixture
def states(tmp_path: Path) -> Path:
    return tmp_path / "states"


def disk_of(states: Path, key: str = KEY, budget_bytes: int = 10**9) -> DiskMemory:
    return DiskMemory(states, key, budget_bytes, spare_bytes=0)


def files(states: Path, kind: str = "") -> list[Path]:
    return sorted(states.glob(f"*/{kind}*.safetensors"))


def stored_bytes(states: Path) -> int:
    return sum(file.stat().st_size for file in files(states))


def restarted(loaded: Engine, states: Path, key: str = KEY) -> Engine:
    return fresh(loaded, disk=disk_of(states, key))


def talk(engine: Engine, *beginning: Message) -> tuple[Message, ...]:
    """Two questions and their answers, all of it put away."""
    messages = beginning or FIRST
    for question in (None, user("How many shapes are there?")):
        messages = messages if question is None else (*messages, question)
        messages = (*messages, Message.text("assistant", ask(engine, *messages).text))
        list(engine.idle(NEVER))
    engine.close(WAIT_S)
    return messages


def assert_never_wrong(engine: Engine, loaded: Engine, *messages: Message) -> Said:
    said = ask(engine, *messages)
    assert said.text == ask(fresh(loaded), *messages).text
    return said


def test_two_conversations_in_a_row_are_both_put_away_in_the_pause_behind_them(
    loaded: Engine, states: Path
) -> None:
    engine = restarted(loaded, states)
    conversations = [FIRST, (SYSTEM, user(CLIP, "What happens?"))]
    answered = [(*one, Message.text("assistant", ask(engine, *one).text)) for one in conversations]
    list(engine.idle(NEVER))
    engine.close(WAIT_S)
    for messages in answered:
        again = restarted(loaded, states)
        more = (*messages, user("How many shapes are there?"))
        said = assert_never_wrong(again, loaded, *more)
        assert said.patches == 0
        assert said.read < 40 < ask(fresh(loaded), *more).read


@pytest.mark.parametrize("drafting", [False, True])
def test_after_a_restart_only_the_new_message_is_read(
    loaded: Engine, states: Path, drafting: bool
) -> None:
    own = loaded.model.mtp
    loaded.model.mtp = (own or DraftHead(loaded.model.config.text)) if drafting else None
    try:
        messages = talk(restarted(loaded, states))
        more = (*messages, user("Is there a red circle?"))
        before = ask(restarted_without_disk(loaded, messages), *more)
        after = restarted(loaded, states)
        said = ask(after, *more)
        assert said.text == before.text == ask(fresh(loaded), *more).text
        assert said.read == before.read < 24
        assert said.patches == 0
        again = restarted(loaded, states)
        assert assert_as_if_cold(again, request_of(*FIRST)).reused_tokens > 50, "bit for bit"
    finally:
        loaded.model.mtp = own


def restarted_without_disk(loaded: Engine, messages: tuple[Message, ...]) -> Engine:
    """An engine that has had the same conversation and was never closed."""
    engine = fresh(loaded)
    for end in range(2, len(messages), 2):
        ask(engine, *messages[:end])
        assert prepared(engine.catch_up(NEVER)).is_complete
    return engine


def test_a_clip_that_was_looked_at_before_a_restart_is_not_decoded(
    loaded: Engine, states: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    messages = talk(restarted(loaded, states))
    wanted = ask(fresh(loaded), *messages, user("Hello")).text

    def never(*_: object, **__: object) -> None:
        raise AssertionError("it is known already")

    with monkeypatch.context() as patch:
        for name in ("sample_video", "probe_image", "load_image"):
            patch.setattr(looking, name, never)
        said = ask(restarted(loaded, states), *messages, user("Hello"))
    assert (said.text, said.patches) == (wanted, 0)
    assert len(files(states, "sight")) == 2
    for file in files(states, "sight"):
        damage_a_byte(file)
    said = ask(restarted(loaded, states), *messages, user("Hello"))
    assert (said.text, said.patches) == (wanted, 0)
    assert not files(states, "sight")


def test_a_state_is_where_it_was(loaded: Engine, states: Path) -> None:
    engine = restarted(loaded, states)
    talk(engine)
    length, state = max(engine.memory.histories.latest_states().items())
    keys = engine.memory.histories.latest_keys()[:length]
    cache = restarted(loaded, states).memory.resume(keys, NEVER)
    found = (cache.length, cache.next_position, cache.last_position)
    assert found == (length, state.next_position, state.last_position)
    assert state.next_position < length, "pictures cover fewer positions than tokens"


def test_what_is_on_the_disk_is_not_written_again(loaded: Engine, states: Path) -> None:
    engine = restarted(loaded, states)
    messages = talk(engine)
    written = {file: file.stat().st_ino for file in files(states)}
    engine.close(WAIT_S)
    other = restarted(loaded, states)
    ask(other, *messages, user("Hello"))
    list(other.idle(NEVER))
    other.close(WAIT_S)
    now = {file: file.stat().st_ino for file in files(states)}
    assert all(now[file] == written[file] for file in written.keys() & now.keys())
    assert set(files(states, "rows")) > {file for file in written if file.name[0] == "r"}


def test_an_edit_and_another_branch_after_a_restart(loaded: Engine, states: Path) -> None:
    messages = talk(restarted(loaded, states))
    engine = restarted(loaded, states)
    edited = assert_never_wrong(engine, loaded, *messages[:-2], user("Is there a circle?"))
    assert edited.read < 24
    more = assert_never_wrong(engine, loaded, *messages, user("Is there a circle?"))
    assert more.read < 24
    assert assert_never_wrong(engine, loaded, *FIRST).read <= 4


def test_states_on_the_disk_are_thinned_out(loaded: Engine, states: Path) -> None:
    engine = restarted(loaded, states)
    messages: tuple[Message, ...] = ()
    for number in range(12):
        messages = (*messages, user(f"Is there a circle? {number}"))
        messages = (*messages, Message.text("assistant", ask(engine, *messages).text))
        list(engine.idle(NEVER))
    engine.close(WAIT_S)
    assert len(files(states, "state")) == 8
    for length in (len(messages), 20):
        said = assert_never_wrong(
            restarted(loaded, states), loaded, *messages[:length], user("Hello")
        )
        assert said.stats.reused_tokens > 0


def damage_a_byte(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-5] ^= 8
    file.write_bytes(content)


def cut_in_half(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


def empty(file: Path) -> None:
    os.truncate(file, 0)


@pytest.mark.parametrize("harm", [damage_a_byte, cut_in_half, empty])
@pytest.mark.parametrize("kind", ["rows", "state"])
def test_a_damaged_file_is_removed_and_the_rest_used(
    loaded: Engine, states: Path, harm: Callable[[Path], None], kind: str
) -> None:
    messages = talk(restarted(loaded, states))
    longest = max(files(states, kind), key=lambda file: int(file.name.split("-")[-2]))
    whole = assert_never_wrong(restarted(loaded, states), loaded, *messages, user("Hello"))
    harm(longest)
    engine = restarted(loaded, states)
    said = assert_never_wrong(engine, loaded, *messages, user("Hello"))
    assert not longest.exists()
    assert 0 < said.stats.reused_tokens < whole.stats.reused_tokens


def test_every_file_damaged_is_a_cold_start(loaded: Engine, states: Path) -> None:
    messages = talk(restarted(loaded, states))
    for file in files(states):
        damage_a_byte(file)
    said = assert_never_wrong(restarted(loaded, states), loaded, *messages, user("Hello"))
    assert said.stats.reused_tokens == 0


def test_files_of_another_model_are_not_looked_at(loaded: Engine, states: Path) -> None:
    messages = talk(restarted(loaded, states))
    own = files(states)
    said = assert_never_wrong(
        restarted(loaded, states, "another"), loaded, *messages, user("Hello")
    )
    assert said.stats.reused_tokens == 0
    assert files(states)[: len(own)] == own, "they may be asked for again"


def test_a_file_that_was_put_into_another_models_folder_is_removed(
    loaded: Engine, states: Path
) -> None:
    messages = talk(restarted(loaded, states))
    shutil.move(states / KEY, states / "another")
    said = assert_never_wrong(
        restarted(loaded, states, "another"), loaded, *messages, user("Hello")
    )
    assert said.stats.reused_tokens == 0


def test_a_file_under_another_ones_name_is_removed(loaded: Engine, states: Path) -> None:
    messages = talk(restarted(loaded, states))
    *_, one, other = sorted(files(states, "state"), key=lambda file: int(file.name.split("-")[-2]))
    shutil.copy(one, other)
    assert_never_wrong(restarted(loaded, states), loaded, *messages, user("Hello"))
    assert not other.exists()


def test_everything_that_decides_what_a_state_is_makes_another_key(tmp_path: Path) -> None:
    copy = tmp_path / "model"
    shutil.copytree(DEMO, copy)
    keys = [model_key(copy, True), model_key(copy, False)]
    assert model_key(copy, True) == keys[0]
    for name, old, new in (
        ("config.json", b'"rope_theta"', b'"rope_theta" '),
        ("tokenizer.json", b"a", b"b"),
        ("preprocessor_config.json", b"{", b"{ "),
        ("chat_template.jinja", b"user", b"User"),
    ):
        file = copy / name
        content = file.read_bytes()
        assert old in content
        file.write_bytes(content.replace(old, new, 1))
        keys.append(model_key(copy, True))
    weights = next(copy.glob("*.safetensors"))
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    keys.append(model_key(copy, True))
    assert len(set(keys)) == len(keys)


def test_the_folder_keeps_to_its_budget(loaded: Engine, states: Path) -> None:
    talk(restarted(loaded, states))
    budget_bytes = 3 * stored_bytes(states) // 2
    engine = fresh(loaded, disk=disk_of(states, budget_bytes=budget_bytes))
    for number in range(4):
        messages = talk(engine, user(PICTURE, f"What is this? {number}"))
        assert stored_bytes(states) <= budget_bytes
    assert files(states)
    after = fresh(loaded, disk=disk_of(states, budget_bytes=budget_bytes))
    said = assert_never_wrong(after, loaded, *messages, user("Hello"))
    assert said.stats.reused_tokens > 0, "the latest conversation is kept"


def test_what_memory_has_no_room_for_is_read_anew(loaded: Engine, states: Path) -> None:
    messages = talk(restarted(loaded, states))
    for free, some in ((0, False), (None, True), (1 << 40, True)):
        engine = restarted(loaded, states)
        assert engine.memory.disk is not None
        engine.memory.disk.free_bytes = lambda free=free: free  # type: ignore[misc]
        said = assert_never_wrong(engine, loaded, *messages, user("Hello"))
        assert (said.stats.reused_tokens > 0) is some


def test_what_can_be_neither_read_nor_removed_counts_as_not_there(
    loaded: Engine, states: Path
) -> None:
    messages = talk(restarted(loaded, states))
    for file in files(states):
        file.unlink()
        file.mkdir()
    said = assert_never_wrong(restarted(loaded, states), loaded, *messages, user("Hello"))
    assert said.stats.reused_tokens == 0
    assert files(states)


def test_a_cancelled_question_waits_for_no_file(loaded: Engine, states: Path) -> None:
    engine = restarted(loaded, states)
    talk(engine)
    keys = engine.memory.histories.latest_keys()
    assert restarted(loaded, states).memory.resume(keys, NEVER).length > 0
    for file in files(states):
        damage_a_byte(file)
    damaged = files(states)
    stopped = threading.Event()
    stopped.set()
    assert restarted(loaded, states).memory.resume(keys, stopped).length == 0
    assert files(states) == damaged, "whoever reads a damaged file removes it"


def test_a_conversation_that_goes_on_does_not_push_out_its_own_beginning(
    loaded: Engine, states: Path, tmp_path: Path
) -> None:
    """Its files are the oldest then, and there is room for what is there, but hardly more."""
    other = user(PICTURE, "Is there a black star?")
    measured = restarted(loaded, tmp_path / "measured")
    for beginning in ((), (other,)):
        talk(measured, *beginning)
    budget_bytes = stored_bytes(tmp_path / "measured") + 100_000
    engine = fresh(loaded, disk=disk_of(states, budget_bytes=budget_bytes))
    messages = talk(engine)
    own = set(files(states, "rows"))
    talk(engine, other)
    own.intersection_update(files(states))
    others = set(files(states)).difference(own)
    talk(engine, *messages, user("List the shapes from left to right."))
    assert own
    assert own <= set(files(states))
    assert others > others.intersection(files(states)), "something had to go"


def test_two_engines_share_a_folder(loaded: Engine, states: Path) -> None:
    one, other = restarted(loaded, states), restarted(loaded, states)
    messages = talk(one)
    assert assert_never_wrong(other, loaded, *messages, user("Hello")).read < 24
    for file in files(states, "rows"):
        file.unlink()
    assert_never_wrong(restarted(loaded, states), loaded, *messages, user("Hello"))
    assert_never_wrong(one, loaded, *messages, user("Hello"))
    list(one.idle(NEVER))
    list(other.idle(NEVER))
    one.close(WAIT_S)
    other.close(WAIT_S)
    assert assert_never_wrong(restarted(loaded, states), loaded, *messages, user("Hello")).read < 24


@contextmanager
def largest_file(size_bytes: int) -> Iterator[None]:
    """The system refuses to write files that are larger."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_disk_that_refuses_costs_nothing_but_the_states(loaded: Engine, states: Path) -> None:
    engine = restarted(loaded, states)
    with largest_file(30_000):
        messages = talk(engine)
    assert not files(states, "state")
    assert not list(states.glob("*/.*"))
    assert_never_wrong(engine, loaded, *messages, user("Hello"))
    assert_never_wrong(restarted(loaded, states), loaded, *messages, user("Hello"))


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="mounts a small disk")
def test_a_full_disk_costs_nothing_but_the_states(loaded: Engine, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=120k", "tmpfs", str(small)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("nothing can be mounted here")
    try:
        engine = restarted(loaded, small)
        messages = talk(engine)
        assert not list(small.glob("*/.*")), "half a file takes the place of whole ones"
        assert_never_wrong(engine, loaded, *messages, user("Hello"))
        assert_never_wrong(restarted(loaded, small), loaded, *messages, user("Hello"))
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_putting_away_stops_between_two_files(loaded: Engine, states: Path) -> None:
    engine = restarted(loaded, states)
    ask(engine, *FIRST)
    stopped = threading.Event()
    stopped.set()
    assert not engine.put_away(stopped)
    engine.close(WAIT_S)
    assert files(states)


PROGRAM = """
import json, sys
from pathlib import Path
from mlx_model.cpu_blas import prefer_openblas
prefer_openblas()
from tests.mlx_model.demo_reuse import DEMO, FIRST_WORDS, LIMITS, NEVER, PICTURE, ask, user
from mlx_model.engine import Engine
from mlx_model.state.disk_memory import DiskMemory
engine = Engine.load(DEMO, LIMITS)
states, rounds, budget_bytes = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
engine.memory.outlive(DiskMemory(states, "a model", budget_bytes, 0))
print("ready", flush=True)
for number in range(rounds):
    said = ask(engine, user(PICTURE, f"{FIRST_WORDS} {number % 7}"))
    print(json.dumps([number % 7, said.text]), flush=True)
    list(engine.idle(NEVER))
engine.close(60)
"""


def program(states: Path, rounds: int, budget_bytes: int = 10**9) -> subprocess.Popen[bytes]:
    """Another process that asks one question after another, and keeps its states here as well."""
    arguments = [sys.executable, "-c", PROGRAM, str(states), str(rounds), str(budget_bytes)]
    return subprocess.Popen(arguments, cwd=ROOT, stdout=subprocess.PIPE)


def test_two_processes_share_a_folder(loaded: Engine, states: Path) -> None:
    """Each deletes what the other has put away, because there is room for a few states only."""
    processes = [program(states, 12, 200_000) for _ in range(2)]
    answers: set[tuple[int, str]] = set()
    for process in processes:
        lines = process.communicate(timeout=4 * WAIT_S)[0].splitlines()
        assert process.returncode == 0
        assert len(lines) == 1 + 12
        answers |= {(number, text) for number, text in map(json.loads, lines[1:])}
    questions = [user(PICTURE, f"{FIRST_WORDS} {number}") for number in range(7)]
    assert answers == {(n, ask(fresh(loaded), asked).text) for n, asked in enumerate(questions)}
    engine = restarted(loaded, states)
    for asked in questions:
        assert_never_wrong(engine, loaded, asked)
    engine.close(WAIT_S)


def test_killed_while_it_writes(loaded: Engine, states: Path, tmp_path: Path) -> None:
    """Over and over at another moment, once it could be seen in the middle of a file."""
    seen_half = False
    for number in range(4):
        process = program(states, 1000)
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        until = time.monotonic() + (WAIT_S if not seen_half else 0.2 * number)
        while time.monotonic() < until:
            if not seen_half and any(states.glob("*/.*.partial")):
                break
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        seen_half = seen_half or any(states.glob("*/.*.partial"))
    engine = restarted(loaded, states)
    for number in range(7):
        assert_never_wrong(engine, loaded, user(PICTURE, f"What is this? {number}"))
    list(engine.idle(NEVER))
    ask(engine, user("Something that nobody has asked before."))
    list(engine.idle(NEVER))
    engine.close(WAIT_S)
    assert not list(states.glob("*/.*.partial")), "what was left behind is gone"
