"""Pages as PDF files, written and rendered by PDFium."""

import ctypes
from pathlib import Path

import pypdfium2
import pypdfium2.raw as pdfium
from PIL import Image

from tools.train_demo.printed import FONTS, Page


def write_pdf(page: Page, path: Path) -> None:
    """One sheet with the page's words as text, a point to each of its pixels."""
    document = pypdfium2.PdfDocument.new()
    sheet = document.new_page(page.width, page.height)
    data = FONTS[page.font].read_bytes()
    buffer = (ctypes.c_uint8 * len(data)).from_buffer_copy(data)
    font = pdfium.FPDFText_LoadFont(
        document.raw, buffer, len(data), pdfium.FPDF_FONT_TRUETYPE, True
    )
    for line in page.lines:
        words = pdfium.FPDFPageObj_CreateTextObj(document.raw, font, float(line.size))
        spelled = (line.text + "\0").encode("utf-16-le")
        wide = ctypes.cast(ctypes.create_string_buffer(spelled), pdfium.FPDF_WIDESTRING)
        pdfium.FPDFText_SetText(words, wide)
        pdfium.FPDFPageObj_SetFillColor(words, *page.ink, 255)
        pdfium.FPDFPageObj_Transform(words, 1, 0, 0, 1, line.left, page.height - line.base)
        pdfium.FPDFPage_InsertObject(sheet.raw, words)
    pdfium.FPDFPage_GenerateContent(sheet.raw)
    document.save(str(path))
    document.close()


def render_pdf(path: Path, scale: float = 1.0) -> Image.Image:
    """The first sheet as an RGB picture, `scale` pixels to a point."""
    document = pypdfium2.PdfDocument(str(path))
    picture = document[0].render(scale=scale).to_pil().convert("RGB")
    document.close()
    return picture
