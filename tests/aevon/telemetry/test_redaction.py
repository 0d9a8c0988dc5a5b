"""What looks like a secret does not stay; what does not, does."""

import pytest

from aevon.telemetry.redaction import redact, redacted

TOKEN = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl"

SECRETS = {
    f"token {TOKEN}, and on": "token [hidden], and on",
    TOKEN[:20]: "[hidden]",
    "Authorization: Bearer abc.def": "Authorization: [hidden]",
    "{'HTTP_AUTHORIZATION': 'Basic dXNlcjpwdw==', 'x': 1}": "{'HTTP_AUTHORIZATION': [hidden]",
    "Set-Cookie: a=b; c=d\nnext": "Set-Cookie: [hidden]\nnext",
    "sent bearer abcdefgh12": "sent bearer [hidden]",
    "redis://default:p@ss/w@host": "redis://[hidden]@ss/w@host",
    "postgres://aevon:pw@host:5432/x": "postgres://[hidden]@host:5432/x",
    "password=hunter2&a=b": "password=[hidden]&a=b",
    '{"currentPassword": "a b", "n": 1}': '{"currentPassword": [hidden], "n": 1}',
    "api_key='x y' z": "api_key=[hidden] z",
    "csrfmiddlewaretoken=abc": "csrfmiddlewaretoken=[hidden]",
    "-----BEGIN PRIVATE KEY-----\nMC4C\n-----END PRIVATE KEY-----\nrest": "[hidden]\nrest",
    'E: violates\nDETAIL:  Failing row contains (1,\n\n{"a": 1}).': "E: violates\nDETAIL: [hidden]",
    "DETAIL:  Key (a)\n\nThe above exception was": "DETAIL: [hidden]\n\nThe above exception was",
}
HARMLESS = (
    "GET api/v1/auth/token/ 200",
    "Task cache.drain_outbox[da3091bc-c387-449a-ade0-e4fded8e1fac] received",
    "redis://127.0.0.1:6379/0",
    "The access token is not valid or has expired.",
    "3 tokens were refused",
)


@pytest.mark.parametrize("text", SECRETS)
def test_a_secret_is_hidden(text: str) -> None:
    """And what stands around it can be read."""
    assert redacted(text) == SECRETS[text]


@pytest.mark.parametrize("text", HARMLESS)
def test_what_is_no_secret_stays(text: str) -> None:
    """Also where it speaks of one."""
    assert redacted(text) == text


def test_a_record_is_searched_to_its_depth() -> None:
    """By names and by values; numbers stay numbers."""
    event = {"a": [{"newPassword": "x"}, (TOKEN,)], "refresh_token": 1, "count": 2, "on": True}
    assert redact(None, "", event) == {
        "a": [{"newPassword": "[hidden]"}, ["[hidden]"]],
        "refresh_token": "[hidden]",
        "count": 2,
        "on": True,
    }


def test_a_long_text_takes_no_time() -> None:
    """Whatever it is made of: 100,000 characters that begin like a secret, and are none."""
    for piece in (
        "password",
        "eyJ",
        "a://",
        "-----BEGIN PRIVATE KEY",
        "token ",
        "_",
        "DETAIL: x\n",
    ):
        assert redacted(piece * (100_000 // len(piece)))
