"""The page's files: framing, content security policy, caching, and completeness."""

import hashlib
import posixpath
import re

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from learning_engine.web import page, problems

UPLOT = {
    "LICENSE": "LICENSE",
    "uPlot.esm.js": "dist/uPlot.esm.js",
    "uPlot.min.css": "dist/uPlot.min.css",
}
IMPORT = re.compile(r"""^import\s(?:[^"';]+\sfrom\s)?"([^"]+)";""", re.MULTILINE)
OWN = [path for path in sorted(page.files()) if not path.startswith("vendor/")]


@pytest.fixture
def client() -> TestClient:
    app = FastAPI()
    problems.install(app)
    app.include_router(page.router)
    page.mount(app)
    return TestClient(app, follow_redirects=False)


@pytest.mark.parametrize("path", ["/page/", "/page/static/main.js", "/page/static/vendor/uplot/uPlot.esm.js"])
def test_a_file_has_policy_and_etag(client: TestClient, path: str):
    answer = client.get(path)
    assert answer.status_code == 200
    policy = answer.headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "frame-ancestors 'self'" in policy
    assert "unsafe" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-cache"
    assert client.head(path).headers["etag"] == answer.headers["etag"]


@pytest.mark.parametrize("known", ["{}", "W/{}", '"other", {}'])
def test_a_cached_file_is_not_sent_again(client: TestClient, known: str):
    tag = client.get("/page/static/style.css").headers["etag"]
    answer = client.get("/page/static/style.css", headers={"If-None-Match": known.format(tag)})
    assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", tag)
    assert client.get("/page/static/style.css", headers={"If-None-Match": '"other"'}).status_code == 200


@pytest.mark.parametrize("path", ["none.js", "../page.py", "%2e%2e/page.py", "views", "", "main.js/"])
def test_other_paths_are_not_found(client: TestClient, path: str):
    answer = client.get(f"/page/static/{path}")
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"


def test_the_address_without_a_slash_redirects(client: TestClient):
    answer = client.get("/page")
    assert answer.is_redirect
    assert answer.headers["location"].endswith("/page/")


@pytest.mark.parametrize("path", [path for path in OWN if path.endswith(".js")])
def test_every_imported_module_exists(path: str):
    for wanted in IMPORT.findall(page.files()[path].body.decode()):
        assert posixpath.normpath(posixpath.join(posixpath.dirname(path), wanted)) in page.files(), wanted


@pytest.mark.parametrize("path", OWN)
def test_no_external_addresses_and_no_html_from_data(path: str):
    text = page.files()[path].body.decode()
    addresses = set(re.findall(r"https?://[^\s\"'`)]+", text)) - {"http://www.w3.org/2000/svg"}
    assert not addresses
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(", text)


def test_every_file_named_in_the_document_exists():
    text = page.files()[page.INDEX].body.decode()
    for path in re.findall(r'(?:src|href)="static/([^"]+)"', text):
        assert path in page.files()
    assert not re.search(r"<style|<script(?![^>]*\bsrc=)|\son\w+=", text)


def test_the_charting_library_matches_its_published_digests():
    readme = page.files()["vendor/uplot/README.md"].body.decode()
    found = {name: hashlib.sha256(page.files()[f"vendor/uplot/{name}"].body).hexdigest() for name in UPLOT}
    for name, inside in UPLOT.items():
        assert f"`{inside}` {found[name]}" in readme
