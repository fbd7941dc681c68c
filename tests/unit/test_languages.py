"""The two languages, and the names that people give them."""

from __future__ import annotations

import pickle

import pytest

from ledgerq_api.settings import ApiSettings
from ledgerq_shared.languages import SaidError, named, of_process, say, spoken


@pytest.mark.parametrize(
    ("name", "language"),
    [
        ("zh", "zh"),
        ("zh-CN", "zh"),
        ("zh_CN.UTF-8", "zh"),
        (" ZH ", "zh"),
        ("zh-Hant-TW", "zh"),
        ("en_US.UTF-8", "en"),
        ("EN", "en"),
    ],
)
def test_a_language_has_several_names_for_commands_and_api_alike(monkeypatch, name, language):
    assert named(name) == language
    monkeypatch.setenv("LEDGERQ_LOCALE", name)
    assert of_process() == language
    assert ApiSettings().locale == language


@pytest.mark.parametrize("name", ["", "  ", "fr", "zhuang", "C.UTF-8", "english"])
def test_another_language_is_english_for_commands(monkeypatch, name):
    monkeypatch.setenv("LEDGERQ_LOCALE", name)
    assert of_process() == "en"


def test_an_empty_locale_is_none_for_the_api(monkeypatch):
    monkeypatch.setenv("LEDGERQ_LOCALE", " ")
    assert ApiSettings().locale is None


def test_a_text_is_english_as_a_string_and_its_fields_are_translated_with_it():
    text = say("{name}: {message}", name="X", message=say("it is not UTF-8 text"))
    assert text == "X: it is not UTF-8 text"
    assert spoken(text, "zh") == "X：它不是 UTF-8 文本"
    assert spoken(say("nobody has translated {this}", this="this"), "zh") == "nobody has translated this"
    assert spoken("plain {text}", "zh") == "plain {text}"


def test_braces_without_fields_mean_themselves():
    assert say("PUT /queues/{name}") == "PUT /queues/{name}"


def test_a_text_can_be_sent_to_another_process(monkeypatch):
    error = pickle.loads(pickle.dumps(SaidError("{name} is not set", name="X")))  # noqa: S301 - it is our own
    assert str(error) == "X is not set"
    monkeypatch.setenv("LEDGERQ_LOCALE", "zh")
    assert str(error) == "未设置 X"
