"""The words and figures that the window shows about a reply: progress, footnote, how it ended.

Pure functions from events to sentences.
"""

from mlx_model.events import FinishReason, Progress, ReplyStats


def opening_progress(stage: str, done: int, total: int) -> tuple[str, float]:
    """Such as "Checking the model, 40 %", and how much is done, -1 while nobody knows."""
    what = "Checking the model" if stage == "checking" else "Opening the model"
    if total <= 0:
        return what, -1.0
    return f"{what}, {round(100 * done / total)} %", done / total


def progress_sentence(progress: Progress, looked_at: str) -> str:
    """Such as "Looking at the clip, 40 %"; `looked_at` may be empty."""
    percent = f"{round(100 * progress_fraction(progress))} %"
    if progress.stage == "looking":
        return f"Looking at {looked_at or 'the earlier pictures'}, {percent}"
    return f"Reading, {percent}"


def progress_fraction(progress: Progress) -> float:
    """How much of this stage is done, from 0 to 1."""
    if progress.total <= 0:
        return 0.0
    return min(1.0, max(0.0, progress.done / progress.total))


def footnote(stats: ReplyStats) -> str:
    """Such as "read 41 of 2,990 · first word 0.4 s · 24 tokens/s", without what is not known."""
    if not stats.read_tokens + stats.reused_tokens:  # stopped before, or too long to begin with
        return ""
    parts = [f"read {stats.read_tokens:,} of {stats.prompt_tokens:,}"]
    if stats.generated_tokens:
        parts.append(f"first word {_seconds(stats.time_to_first_token_s)}")
    if stats.generated_tokens > 1 and stats.decode_tokens_per_s > 0:
        parts.append(f"{_rate(stats.decode_tokens_per_s)} tokens/s")
    return " · ".join(parts)


def ending_sentence(reason: FinishReason, stats: ReplyStats) -> str | None:
    """What to say below an answer that did not end by itself; None when there is nothing to say."""
    if reason == "length":
        count = stats.generated_tokens
        tokens = "1 token" if count == 1 else f"{count:,} tokens"
        return f"The answer reached its limit of {tokens} and was cut. Ask for the rest to go on."
    if reason == "context_full":
        return "This chat is as long as the model can read. Start a new chat to go on."
    return None


def _seconds(value: float) -> str:
    return f"{value:.1f} s" if value < 10 else f"{value:,.0f} s"


def _rate(value: float) -> str:
    return f"{value:.1f}" if value < 10 else f"{value:,.0f}"
