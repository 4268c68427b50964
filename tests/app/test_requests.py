"""What the engine is asked for a conversation."""

from pathlib import Path

from app.conversation.conversation import Turn
from app.conversation.message import Attachment, ChatMessage
from app.inference.requests import (
    compose_messages,
    name_of_what_is_looked_at,
    reply_settings,
    without_gone_files,
)
from mlx_model.messages import ImagePart, Message, ReplySettings, TextPart, VideoPart

PICTURE = Attachment(Path("/p/shapes.png"), "image", "shapes.png")
CLIP = Attachment(Path("/p/clip.mp4"), "video", "clip.mp4")


def test_pictures_and_clips_come_before_the_words() -> None:
    turn = Turn(ChatMessage("user", "What is this?", attachments=(PICTURE, CLIP)))
    assert compose_messages([turn]) == (
        Message(
            "user",
            (ImagePart(PICTURE.path), VideoPart(CLIP.path), TextPart("What is this?")),
        ),
    )


def test_earlier_turns_are_sent_with_their_thinking() -> None:
    turns = [
        Turn(
            ChatMessage("user", "", attachments=(PICTURE,)),
            answer=ChatMessage("assistant", "A circle.", thinking="Round."),
        ),
        Turn(ChatMessage("user", "stopped at once"), answer=ChatMessage("assistant", "")),
        Turn(ChatMessage("user", "and now?")),
    ]
    assert compose_messages(turns) == (
        Message("user", (ImagePart(PICTURE.path),)),
        Message("assistant", (TextPart("A circle."),), "Round."),
        Message.text("user", "stopped at once"),
        Message.text("user", "and now?"),
    )


def test_the_demo_model_answers_greedily_and_others_do_not() -> None:
    assert reply_settings(thinking=True, is_demo=True) == ReplySettings(thinking=True)
    settings = reply_settings(thinking=False, is_demo=False)
    assert settings.temperature > 0
    assert settings.seed is not None
    assert not settings.thinking
    assert reply_settings(thinking=True, is_demo=False).thinking
    seeds = {reply_settings(thinking=False, is_demo=False).seed for _ in range(8)}
    assert len(seeds) > 1, "asking again has to be able to give another answer"


def test_what_is_looked_at_is_named() -> None:
    assert name_of_what_is_looked_at([]) == ""
    assert name_of_what_is_looked_at([PICTURE]) == "the picture"
    assert name_of_what_is_looked_at([CLIP]) == "the clip"
    assert name_of_what_is_looked_at([PICTURE, CLIP, PICTURE]) == "2 pictures and the clip"


def test_earlier_files_that_have_gone_are_left_out(tmp_path: Path) -> None:
    there = tmp_path / "there.png"
    there.write_bytes(b"x")
    gone, folder = tmp_path / "gone.mp4", tmp_path / "folder.png"
    folder.mkdir()
    words = TextPart("What is this?")
    earlier = Message("user", (ImagePart(there), VideoPart(gone), ImagePart(folder), words))
    answer = Message("assistant", (TextPart("A circle."),), "Round.")
    last = Message("user", (VideoPart(gone), words))
    messages, left_out = without_gone_files((earlier, answer, last))
    assert messages == (Message("user", (ImagePart(there), words)), answer, last)
    assert left_out == (gone, folder)
    assert without_gone_files((last,)) == ((last,), ())
