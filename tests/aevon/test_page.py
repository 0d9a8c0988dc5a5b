"""The page as it leaves the server: the policy, and that nothing in it needs another."""

import re
from pathlib import Path

import pytest
from django.contrib.staticfiles import finders
from django.core.management import call_command
from django.test import Client

from aevon.page.views import MODULES, STATIC


@pytest.fixture
def answer():
    """GET /, by nobody in particular."""
    return Client().get("/")


def test_page_runs_and_loads_nothing_but_this_sites_own_files(answer):
    """The policy forbids the rest, strings that become markup included."""
    policy = dict(each.split(" ", 1) for each in answer["Content-Security-Policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert policy["require-trusted-types-for"] == "'script'"
    assert "unsafe" not in answer["Content-Security-Policy"]
    assert answer["Cache-Control"] == "no-cache"
    assert not answer.cookies


def test_page_has_no_inline_script_style_or_foreign_address(answer):
    """What the policy would refuse is not there; every file named in it exists."""
    html = answer.content.decode()
    assert not re.search(r"<style|<script(?![^>]*\bsrc=)|\sstyle=|\son\w+=|https?:", html)
    named = re.findall(r'(?:href|src)="/static/([^"]+)"', html)
    assert {"page/main.js", "page/tokens.css", "page/mark.svg"} < set(named)
    assert all(finders.find(each) for each in named)


def test_no_file_of_the_page_names_another_host_or_makes_markup_of_strings():
    """One name space of SVG aside, there is no address; no innerHTML, no eval, no storage."""
    forbidden = re.compile(r"innerHTML|outerHTML|insertAdjacentHTML|eval\(|localStorage|import\(")
    for path in STATIC.rglob("*.*"):
        text = path.read_text()
        assert not forbidden.search(text), path
        assert set(re.findall(r"https?://[^\s\"']+", text)) <= {"http://www.w3.org/2000/svg"}, path


@pytest.mark.parametrize("method", ["post", "put", "delete", "patch"])
def test_page_can_only_be_read(method):
    """405 for whatever is not GET or HEAD."""
    assert getattr(Client(), method)("/").status_code == 405
    assert Client().head("/").status_code == 200


def test_collectstatic_brings_every_module(tmp_path: Path, settings):
    """A deployment, which serves collected files, has them at the same relative places."""
    settings.STATIC_ROOT = str(tmp_path)
    call_command("collectstatic", interactive=False, verbosity=0)
    assert MODULES
    for name in MODULES:
        text = (tmp_path / name).read_text()
        for target in re.findall(r'from "(\.[^"]+)"', text):
            assert (tmp_path / name).parent.joinpath(target).is_file(), (name, target)
