"""Documents in OHIF: an encapsulated PDF opens in its viewport, by the session of who is signed in.

Run by `make soak`; what the answer must say of itself for this is held by tests/wire/test_wado_presented.py.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest
from chromium import chromium, picture, sign_in
from hospital import AUTHORITY, PASSWORD, Hospital
from playwright.sync_api import Browser

from fixtures.dicom_files import ct_image, part10_bytes
from fixtures.stores import MODALITY
from hilum.settings import ViewerSettings
from hilum.web.ohif_files import installed
from hilum.workflow.source import Source

pytestmark = [
    pytest.mark.xdist_group("browser"),
    pytest.mark.timeout(300),
    pytest.mark.soak,
    pytest.mark.full,  # half a minute for one picture
    pytest.mark.skipif(
        shutil.which("npm") is None and installed(ViewerSettings()) is None,
        reason="OHIF comes by npm, which is not here",
    ),
]
NO_PIXELS = dict.fromkeys(
    ("Rows", "Columns", "SamplesPerPixel", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation",
     "PhotometricInterpretation", "PixelData")
)  # fmt: skip
SECONDS = 60_000


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A Chromium for the file."""
    with chromium() as started:
        yield started


def one_page(words: str) -> bytes:
    """A PDF of one page."""
    drawn = f"BT /F1 24 Tf 40 100 Td ({words}) Tj ET".encode()
    objects = [
        b"<</Type/Catalog/Pages 2 0 R>>", b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 300 200]/Contents 4 0 R/Resources<</Font<</F1 5 0 R>>>>>>",
        b"<</Length %d>>stream\n%s\nendstream" % (len(drawn), drawn),
        b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
    ]  # fmt: skip
    body = b"%PDF-1.4\n" + b"".join(b"%d 0 obj%s endobj\n" % each for each in enumerate(objects, 1))
    body += b"%" + b"x" * 20_000 + b"\n"  # more than stands in the metadata itself
    return body + b"trailer<</Size 6/Root 1 0 R>>\n%%EOF\n"


def test_a_pdf_opens_where_ohif_shows_documents(hospital: Hospital, browser: Browser) -> None:
    document = one_page("Discharge letter")
    image = ct_image(SOPClassUID="1.2.840.10008.5.1.4.1.1.104.1", Modality="DOC", **NO_PIXELS,
                     SeriesDescription="Letter", MIMETypeOfEncapsulatedDocument="application/pdf")  # fmt: skip
    image.EncapsulatedDocumentLength, image.EncapsulatedDocument = len(document), document + b"\0" * (len(document) % 2)
    source = Source("DICOM C-STORE", "SCAN01")
    hospital.application.ingest.store_file(part10_bytes(image), source=source, actor=MODALITY, issuer=AUTHORITY)
    page = browser.new_context(base_url=hospital.root, viewport={"width": 1280, "height": 800}).new_page()
    sign_in(page, "feng", PASSWORD)
    # As a frame in a page that shares memory: that takes its own word that it may be embedded.
    with page.expect_response(lambda answer: answer.url.endswith("/rendered"), timeout=SECONDS) as waiting:
        page.goto(f"/viewer/viewer?StudyInstanceUIDs={image.StudyInstanceUID}")
    assert waiting.value.headers["content-type"] == "application/pdf"
    page.wait_for_timeout(1500)
    picture(page, "ohif-pdf")
