"""Printed words and pages: what is said to stand somewhere stands there, drawn as in a PDF."""

import random
from pathlib import Path

import numpy as np
import pypdfium2

from tools.train_demo import printed, printed_pdf
from tools.train_demo.sources import NO_TRUTH, PrintSource


def test_a_seed_names_a_page_for_good() -> None:
    first, second = (printed.random_page(random.Random(5), 300, 200) for _ in range(2))
    assert first == second
    np.testing.assert_array_equal(printed.render(first), printed.render(second))


def test_ink_lies_where_the_letters_are_said_to_be_and_nowhere_else() -> None:
    for seed in range(40):
        rng = random.Random(seed)
        page = (
            printed.random_sign(rng, 300, 120) if seed % 2 else printed.random_page(rng, 300, 200)
        )
        pixels = np.asarray(printed.render(page, with_jpeg=False)).astype(int)
        inked = np.abs(pixels - page.paper).sum(-1) > 60
        beside = inked.copy()
        reach = page.lines[0].size * 0.6
        for letter in printed.letters(page):
            x, y = letter.x * page.width, letter.y * page.height
            around = (
                slice(max(0, round(y - reach)), round(y + reach)),
                slice(max(0, round(x - reach)), round(x + reach)),
            )
            assert inked[around].any(), f"nothing of {letter} in seed {seed}"
            beside[around] = False
        assert beside.mean() < 0.005, f"ink beside the letters of seed {seed}"


def test_a_pdf_holds_the_same_words_in_order_and_looks_the_same(tmp_path: Path) -> None:
    for seed in range(8):
        page = printed.random_page(random.Random(seed), 298, 420)
        file = tmp_path / f"{seed}.pdf"
        printed_pdf.write_pdf(page, file)
        document = pypdfium2.PdfDocument(str(file))
        assert document[0].get_textpage().get_text_bounded().split() == page.words
        document.close()
        drawn = np.asarray(printed.render(page).convert("L").reduce(8)).astype(float)
        rendered = np.asarray(printed_pdf.render_pdf(file).convert("L").reduce(8)).astype(float)
        assert rendered.shape == drawn.shape
        assert np.corrcoef(drawn.ravel(), rendered.ravel())[0, 1] > 0.9


def test_words_are_capitals_or_digits_and_pages_have_two_or_three_lines() -> None:
    for seed in range(200):
        page = printed.random_page(random.Random(seed), 298, 420)
        assert len(page.words) in (2, 3)
        for word in page.words:
            assert 1 <= len(word) <= 5
            assert word.isdigit() or (word.isalpha() and word.isupper())


def test_the_truth_about_patches_spells_the_page() -> None:
    rng = random.Random(3)
    source = PrintSource(rng, printed.random_page)
    pages = [source.draw(rng) for _ in range(20)]
    cells = source.pixels().cells
    spelled = 0
    for page, letters, places in zip(pages, cells["letter"], cells["place"], strict=True):
        found = {
            int(place): printed.LETTERS[letter - 1]
            for letter, place in zip(letters, places, strict=True)
            if letter > 0
        }
        assert NO_TRUTH not in found
        said = {
            1 + letter.line * printed.MOST_LETTERS + letter.place: letter.sign
            for letter in printed.letters(page)
        }
        assert found.items() <= said.items()
        spelled += len(found) / len(said)
    assert spelled / len(pages) > 0.9, "only letters that share a patch are missing"
