"""The states of the window that are worth looking at, each put together by hand."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from PySide6.QtCore import QPointF, QRectF, QSize, Qt
from PySide6.QtGui import QColor, QImage, QLinearGradient, QPainter

from app.conversation.detail import DetailChoice
from app.conversation.message import Attachment, ChatMessage
from app.main_window import MainWindow
from app.model_entry import MemoryUse, ModelEntry, ModelShelf, Transfer, WayToGet

SHAPES = Path("/pictures/shapes.png")
EVENING = Path("/pictures/IMG_2041.heic")
CLIP = Path("/pictures/ride-home.mov")
LONG_NAME = Path("/pictures/a very long file name that nobody would type, twice over.jpeg")
BROKEN = Path("/pictures/broken.mp4")

SHAPES_FILE = Attachment(SHAPES, "image", SHAPES.name, 128, 96, token_count=12)
EVENING_FILE = Attachment(EVENING, "image", EVENING.name, 1200, 806, token_count=1728)
PHOTO_FILE = Attachment(
    EVENING,
    "image",
    EVENING.name,
    4032,
    3024,
    seen_width=1664,
    seen_height=1248,
    token_count=2028,
)
LONG_FILE = Attachment(LONG_NAME, "image", LONG_NAME.name, 640, 480, token_count=300)
CLIP_FILE = Attachment(
    CLIP, "video", CLIP.name, 320, 240, duration_s=27.0, frame_count=54, token_count=2916
)

PROSE = (
    "The cyclist leaves the main road at `0:17.5`, just after the white van passes at `0:14.0`. On "
    "the corner there is a bakery with a **green awning**, and a bicycle stand in front of it.\n\n"
    "They stop briefly at `0:21.0` before going uphill."
)
FIGURES = "read 41 of 2,990 · first word 0.4 s · 24 tokens/s"
RICH = """## What to change

The loop reads the file once for every line, so the time grows with the *square* of its length:

```python
def totals(lines: list[str]) -> dict[str, int]:
    # one pass, whatever the length
    result: dict[str, int] = {}
    for line in lines:
        name, amount = line.split(";")
        result[name] = result.get(name, 0) + int(amount)
    return result
```

Three things follow:

1. The file is opened **once**.
2. Memory stays flat, see `totals`.
3. A wrong line says so:
   - with its number
   - and its text

- [x] Read it once
- [ ] Say which line is wrong, in a sentence that is long enough to need a second row on the page
- [ ] Measure

| Lines | Before | After |
|---|---:|---:|
| 1,000 | 0.4 s | 0.01 s |
| 100,000 | 64 min | 0.9 s |

> Measured on one machine, once.
"""


def shapes_image() -> QImage:
    """A circle, a square and a triangle's worth of colour on a pale ground."""
    image = QImage(QSize(128, 96), QImage.Format.Format_RGB32)
    image.fill(QColor("#efe9dd"))
    painter = QPainter(image)
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    painter.setPen(Qt.PenStyle.NoPen)
    painter.setBrush(QColor("#d6322f"))
    painter.drawEllipse(QPointF(30, 50), 16, 16)
    painter.setBrush(QColor("#2b62d9"))
    painter.drawRect(QRectF(60, 30, 30, 30))
    painter.setBrush(QColor("#2f9e5b"))
    painter.drawEllipse(QPointF(108, 62), 11, 11)
    painter.end()
    return image


def sunset_image(size: QSize = QSize(600, 403), shift: float = 0.0) -> QImage:  # noqa: B008
    """A gradient that looks like an evening; `shift` from 0 to 1 moves it on."""
    image = QImage(size, QImage.Format.Format_RGB32)
    gradient = QLinearGradient(0, 0, size.width(), size.height())
    gradient.setColorAt(0.0, QColor.fromHsvF(0.09, 0.42, 0.95 - 0.4 * shift))
    gradient.setColorAt(0.5, QColor.fromHsvF(0.06, 0.60, 0.85 - 0.3 * shift))
    gradient.setColorAt(1.0, QColor.fromHsvF(0.93, 0.35, 0.45))
    painter = QPainter(image)
    painter.fillRect(image.rect(), gradient)
    painter.end()
    return image


def clip_frames(count: int = 16) -> list[QImage]:
    """Frames of a clip in which the light goes."""
    return [sunset_image(QSize(160, 120), number / max(1, count - 1)) for number in range(count)]


def ask_about_clip(window: MainWindow) -> None:
    """The chat of the design's picture: a clip, a question, an answer with thinking."""
    question = "When does the cyclist leave the main road, and what is on the corner?"
    window.add_user_message(
        ChatMessage("user", question, attachments=(CLIP_FILE,)), {CLIP: clip_frames()}
    )
    window.begin_reply()
    window.finish_reply(
        ChatMessage(
            "assistant",
            PROSE,
            thinking="The road bends at 0:17.\nThe van is white.",
            thinking_s=2.1,
            footnote=FIGURES,
        )
    )


def first(window: MainWindow) -> None:
    """No conversation yet."""


def drop(window: MainWindow) -> None:
    """Files are dragged over the window."""
    ask_about_clip(window)
    window.drop_overlay.cover("Drop to attach")


def chat(window: MainWindow) -> None:
    """The design's picture: a clip, a picture, chips in the composer."""
    ask_about_clip(window)
    window.add_user_message(
        ChatMessage("user", "Is this the same place? Mark it.", attachments=(EVENING_FILE,)),
        {EVENING: [sunset_image()]},
    )
    window.add_chip(EVENING)
    window.update_chip(EVENING, EVENING_FILE, sunset_image(), [])
    window.add_chip(CLIP)
    window.set_status("5,718 of 32,768 tokens")


def picture(window: MainWindow) -> None:
    """A small picture and a short answer; then two pictures at once."""
    window.add_user_message(
        ChatMessage("user", "List the shapes from left to right.", attachments=(SHAPES_FILE,)),
        {SHAPES: [shapes_image()]},
    )
    window.begin_reply()
    window.append_text("A red circle, a blue square and a green circle.")
    window.finish_reply(
        ChatMessage(
            "assistant",
            "A red circle, a blue square and a green circle.",
            footnote="read 41 tokens · first word 0.2 s · 180 tokens/s",
        )
    )
    window.add_user_message(
        ChatMessage("user", "Which is warmer?", attachments=(SHAPES_FILE, EVENING_FILE)),
        {SHAPES: [shapes_image()], EVENING: [sunset_image()]},
    )


def progress(window: MainWindow) -> None:
    """Before the first word."""
    question = ChatMessage("user", "What moves?", attachments=(CLIP_FILE,))
    window.add_user_message(question, {CLIP: clip_frames()})
    window.begin_reply()
    window.set_progress("Looking at the clip, 40 %", 0.4)
    window.set_busy(True)


def thinking(window: MainWindow) -> None:
    """Thinking, opened, while it streams."""
    window.add_user_message(ChatMessage("user", "How many are red?"), {})
    window.begin_reply()
    window.append_thinking("The person asks about red shapes.\nThere is a red circle at the left, ")
    reply = window.transcript.reply
    assert reply is not None
    reply.thinking.button.click()
    window.append_thinking("and nothing else is red, so the answer must be one. " * 3)
    window.set_busy(True)


def code(window: MainWindow) -> None:
    """Headings, code, lists, a table, a quote."""
    window.add_user_message(ChatMessage("user", "Why is this slow?\nIt takes an hour."), {})
    window.begin_reply()
    for start in range(0, len(RICH), 7):
        window.append_text(RICH[start : start + 7])
    window.finish_reply(ChatMessage("assistant", RICH, footnote=FIGURES))
    window.transcript.verticalScrollBar().setValue(0)


def long(window: MainWindow) -> None:
    """Several turns, scrolled up, with the way back to the end; a long draft."""
    for number in range(4):
        window.add_user_message(ChatMessage("user", f"Question {number + 1}: and then?"), {})
        window.begin_reply()
        window.finish_reply(ChatMessage("assistant", PROSE, footnote=FIGURES))
    window.transcript.verticalScrollBar().setValue(200)
    window.set_draft("A question that goes on\nover several lines\nand is not sent yet.")


def errors(window: MainWindow) -> None:
    """A file that cannot be read, one that is being read, a failed answer, a stopped one."""
    window.add_user_message(ChatMessage("user", "Tell me a long story."), {})
    window.begin_reply()
    window.finish_reply(
        ChatMessage("assistant", "Once upon a time there was a", footnote=FIGURES, stopped=True)
    )
    window.add_user_message(ChatMessage("user", "And this?", attachments=(LONG_FILE,)), {})
    window.begin_reply()
    window.fail_reply(
        "This clip needs about 5.2 GB and 3.1 GB are free. Choose a shorter part of it."
    )
    window.add_chip(SHAPES)
    window.update_chip(SHAPES, SHAPES_FILE, shapes_image(), [])
    window.add_chip(BROKEN)
    window.set_chip_problem(
        BROKEN, "The file ends before the clip does. Export it again or choose another one."
    )
    window.add_chip(CLIP)
    window.update_chip(CLIP, CLIP_FILE, QImage(), clip_frames())
    window.add_chip(LONG_NAME)
    window.set_draft("What about these?")


def many(window: MainWindow) -> None:
    """A folder's worth of files, some of which cannot be sent, while an answer streams."""
    window.add_user_message(ChatMessage("user", "Which of these is the sunset?"), {})
    window.begin_reply()
    window.append_text(PROSE)
    for number in range(40):
        path = Path(f"/pictures/IMG_{2041 + number}.heic")
        window.add_chip(path)
        file = replace(EVENING_FILE, path=path, name=path.name)
        window.update_chip(path, file, sunset_image(shift=number / 40), [])
    window.set_chip_problem(
        Path("/pictures/IMG_2047.heic"),
        "“IMG_2047.heic” is damaged or incomplete and cannot be read. Choose another copy.",
    )
    window.offer_removal("IMG_2047.heic cannot be sent.", "Remove it")


def detail(window: MainWindow) -> None:
    """A photo that the model sees smaller than it is, and the choice of how closely it looks."""
    question = ChatMessage("user", "What does the sign say?", attachments=(PHOTO_FILE,))
    window.add_user_message(question, {EVENING: [sunset_image()]})
    window.add_chip(EVENING)
    window.update_chip(EVENING, PHOTO_FILE, sunset_image(), [])
    window.add_chip(SHAPES)
    window.update_chip(SHAPES, SHAPES_FILE, shapes_image(), [])
    window.add_chip(CLIP)
    cut = replace(CLIP_FILE, remark="ends early")
    window.update_chip(CLIP, cut, QImage(), clip_frames())
    window.set_detail_choices(
        [
            DetailChoice("normal", 4956),
            DetailChoice("high", 11002),
            DetailChoice("full", 14834),
        ],
        "normal",
    )


def folded(window: MainWindow) -> None:
    """A very long question."""
    window.add_user_message(ChatMessage("user", "Sum this up: " + PROSE.replace("`", "") * 40), {})
    window.begin_reply()
    window.fail_reply(
        "The conversation takes 439,033 tokens, and this model has room for 32,768 with the reply. "
        "Start a new chat, or send fewer pictures, shorter clips or less text."
    )
    window.set_draft("Sum this up: " + PROSE.replace("`", "") * 40)
    window.set_status("One question takes up to 100 files; 201 were left out.")


def _model(
    name: str,
    purpose: str,
    sizes_gb: tuple[float, float, float],
    memory_gib: tuple[float, float, float],
    bits: float,
    **more: Any,
) -> ModelEntry:
    """A model with what it takes to download, convert and use."""
    raw, converted, ready = (round(size * 1e9) for size in sizes_gb)
    return ModelEntry(
        key=more.pop("key", name),
        name=name,
        purpose=purpose,
        ways=(
            WayToGet("convert", raw, converted, bits),
            WayToGet("ready", ready, ready, bits),
        ),
        memory=tuple(
            MemoryUse(tokens, round(size * 2**30))
            for tokens, size in zip((4096, 32768, 262144), memory_gib, strict=True)
        ),
        **more,
    )


_BIG = _model(
    "Qwen3.5-4B",
    "best answers that fit",
    (9.3, 3.2, 3.0),
    (3.0, 3.9, 10.9),
    5.44,
    recommended=True,
    chat_tokens=40_000,
)
_MIDDLE = _model("Qwen3.5-2B", "quick, pictures and clips", (4.5, 1.8, 1.7), (1.7, 2.0, 4.6), 6.29)
_SMALL = _model(
    "Qwen3.5-0.8B", "light tasks, oldest Macs", (1.7, 0.6, 0.6), (0.648, 1.0, 3.6), 5.93
)
_LARGE = _model(
    "Qwen3.5-9B",
    "strongest of the four",
    (19.3, 6.2, 6.0),
    (5.7, 6.6, 13.6),
    5.15,
    fit="too_big",
    fit_note="It needs 6.7 GB of memory for a chat of 4,096 tokens, and 5.3 GB may be used here. "
    "Choose a smaller model.",
    fit_question="This Mac may become very slow with it. Download it all the same?",
)
_DEMO = ModelEntry(
    "demo",
    "Demo model",
    "coloured shapes only, for trying the app",
    state="in_use",
    kept_bytes=9_000_000,
    place="built in",
    is_demo=True,
)


def _shelf(*entries: ModelEntry) -> ModelShelf:
    return ModelShelf(
        (*entries, _DEMO), "This Mac: M1, 8 GB", "5.3 GB", "found 2 in the Hugging Face cache"
    )


def offer(window: MainWindow) -> None:
    """No conversation yet, and only the demo model to have one with."""
    window.set_shelf(_shelf(_BIG, _MIDDLE, _SMALL, _LARGE))


def models(window: MainWindow) -> None:
    """The models: one arrives, one is here, one could be had, one is too big."""
    arriving = replace(
        _BIG, state="downloading", transfer=Transfer(1_800_000_000, 2_900_000_000, 11e6, 95)
    )
    here = replace(_MIDDLE, state="here", kept_bytes=1_400_000_000, can_delete=True)
    window.set_shelf(_shelf(arriving, here, replace(_SMALL, chosen_way="ready"), _LARGE))
    window.show_models()


def model_troubles(window: MainWindow) -> None:
    """The models: paused, failed, converting, waiting, a token is asked for, one found."""
    kept = Transfer(1_800_000_000, 9_300_000_000)
    window.set_shelf(
        _shelf(
            replace(_BIG, state="paused", transfer=kept),
            replace(
                _MIDDLE,
                state="failed",
                problem="The connection was interrupted (12 times in a row). What has arrived is "
                "kept: start the download again when the connection is better.",
                transfer=Transfer(2_100_000_000, 4_500_000_000),
            ),
            replace(_SMALL, state="converting", done=0.4),
            replace(_LARGE, state="queued"),
            replace(
                _MIDDLE,
                key="token",
                name="Qwen3.5-27B",
                state="failed",
                problem="The server asks who you are before it hands out this model.",
                needs_token=True,
                token_note="Make a token on huggingface.co under Settings, Access tokens. It is "
                "kept in the keychain.",
            ),
            ModelEntry(
                "folder",
                "Qwen3.5-2B-6bit",
                "",
                state="here",
                kept_bytes=1_900_000_000,
                bits_per_weight=6.5,
                place="LM Studio",
                can_delete=True,
            ),
        )
    )
    window.show_models()


def model_questions(window: MainWindow) -> None:
    """The models: asked before deleting, giving up and taking what is too big."""
    here = replace(_MIDDLE, state="here", kept_bytes=1_400_000_000, can_delete=True)
    paused = replace(_BIG, state="paused", transfer=Transfer(1_800_000_000, 9_300_000_000))
    window.set_shelf(_shelf(paused, here, _LARGE))
    window.show_models()
    window.models_page.card(_BIG.key).on_side_clicked()
    window.models_page.card(_MIDDLE.key).on_side_clicked()
    window.models_page.card(_LARGE.key).on_main_clicked()


STATES: dict[str, Callable[[MainWindow], None]] = {
    state.__name__: state
    for state in (
        first,
        chat,
        picture,
        progress,
        thinking,
        code,
        long,
        errors,
        many,
        detail,
        folded,
        drop,
        offer,
        models,
        model_troubles,
        model_questions,
    )
}
