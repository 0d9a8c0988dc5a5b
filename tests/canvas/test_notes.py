"""GET and PUT of `/api/v1/canvas/notes/{appId}/`, and what PostgreSQL itself holds of a note."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest
from django.db import IntegrityError, transaction
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from rest_framework.test import APIClient

from auth_sessions.models import User
from canvas import notes
from canvas.models import NOTE_TEXT_MAX, Note
from tests.threads import in_thread, in_threads
from tests.waiting import wait_for_locks

URL = "/api/v1/canvas/notes/notes/"

pytestmark = pytest.mark.django_db
committed = pytest.mark.django_db(transaction=True)
MakeUser = Callable[..., User]


def write(client: APIClient, text: str, url: str = URL, **headers: str) -> Any:
    """The response to a PUT."""
    return client.put(url, {"text": text}, headers=headers)


def texts(user: User) -> dict[str, str]:
    """What PostgreSQL holds, by app."""
    return dict(Note.objects.filter(user=user).values_list("app_id", "text"))


def error_fields(response: Any) -> list[str]:
    assert response["Content-Type"] == "application/problem+json"
    return [each["field"] for each in response.json().get("errors", [])]


# --- Reading and writing ---------------------------------------------------------------------


def test_a_note_never_written_is_empty(client: APIClient) -> None:
    """With a version that a first If-Match can name; reading makes no row."""
    response = client.get(URL)
    assert (response.status_code, response["ETag"]) == (200, '"0"')
    assert response.json() == {"text": "", "version": 0, "updatedAt": None}
    assert response["Cache-Control"] == "private, no-cache"
    assert not Note.objects.exists()


def test_a_note_is_there_on_every_device(user: User, client_for: Any) -> None:
    """What one session writes another reads; the answer to a write is what GET answers."""
    before = timezone.now()
    response = write(client_for(user), "Buy glass.\n  Σ 🏺\n")
    assert (response.status_code, response["ETag"]) == (200, '"1"')
    answer = client_for(user).get(URL).json()
    assert (answer["text"], answer["version"]) == ("Buy glass.\n  Σ 🏺\n", 1)
    assert before.strftime("%Y-%m-%dT%H:%M") <= answer["updatedAt"]
    assert answer["updatedAt"].endswith("Z")
    assert answer == response.json()


def test_each_write_raises_the_version(client: APIClient) -> None:
    """Also one that empties the note: it is not as if it had never been written."""
    found = [write(client, text).json() for text in ("a", "b", "")]
    assert [(each["text"], each["version"]) for each in found] == [("a", 1), ("b", 2), ("", 3)]
    assert found[0]["updatedAt"] < found[2]["updatedAt"]
    assert client.get(URL).json() == found[2]


def test_notes_are_of_one_user_and_one_app(user: User, client: APIClient, client_for: Any) -> None:
    """Another app's, and another user's of the same app, are others."""
    other = User.objects.create_user("other")
    write(client, "mine")
    write(client, "list", "/api/v1/canvas/notes/a.B_c-9/")
    write(client_for(other), "theirs")
    assert texts(user) == {"notes": "mine", "a.B_c-9": "list"}
    assert texts(other) == {"notes": "theirs"}
    seen = [each.get(URL).json()["text"] for each in (client, client_for(other))]
    assert seen == ["mine", "theirs"]


def test_no_token_is_refused() -> None:
    """On both methods."""
    for response in (APIClient().get(URL), write(APIClient(), "x")):
        assert (response.status_code, "Bearer" in response["WWW-Authenticate"]) == (401, True)


@pytest.mark.parametrize("method", ["post", "patch", "delete"])
def test_other_methods_are_refused(client: APIClient, method: str) -> None:
    """405, as a problem document."""
    response = getattr(client, method)(URL)
    assert (response.status_code, error_fields(response)) == (405, [])


def test_notes_do_not_need_the_cache(client: APIClient, cache_away: Any) -> None:
    """Nothing of them is in it."""
    with cache_away():
        assert write(client, "a").status_code == 200
        assert client.get(URL).json()["text"] == "a"


# --- Preconditions ---------------------------------------------------------------------------


@pytest.mark.parametrize("header", ['"1"', 'W/"1"', "*"])
def test_if_none_match_of_the_current_version_is_304(client: APIClient, header: str) -> None:
    """Without a body."""
    write(client, "a")
    response = client.get(URL, headers={"If-None-Match": header})
    assert (response.status_code, response["ETag"], response.content) == (304, '"1"', b"")
    assert client.get(URL, headers={"If-None-Match": '"0"'}).status_code == 200


@pytest.mark.parametrize("header", ['"1"', "*", '"0", "1"'])
def test_if_match_of_the_current_version_goes_through(client: APIClient, header: str) -> None:
    """Also as a star or in a list."""
    write(client, "a")
    response = write(client, "b", **{"If-Match": header})
    assert (response.status_code, response["ETag"]) == (200, '"2"')


@pytest.mark.parametrize("header", ['"0"', '"2"', 'W/"1"', '"01"', '""'])
def test_if_match_of_another_version_writes_nothing(
    client: APIClient, user: User, header: str
) -> None:
    """412, which tells the current version."""
    write(client, "a")
    response = write(client, "b", **{"If-Match": header})
    assert (response.status_code, response["ETag"]) == (412, '"1"')
    assert response.json()["version"] == 1
    assert texts(user) == {"notes": "a"}


def test_if_match_can_name_what_was_never_written(client: APIClient, user: User) -> None:
    """By version 0, and by no other."""
    assert write(client, "a", **{"If-Match": '"1"'}).status_code == 412
    assert texts(user) == {}
    assert write(client, "a", **{"If-Match": '"0"'}).status_code == 200


@pytest.mark.parametrize(("method", "header"), [("get", "If-None-Match"), ("put", "If-Match")])
def test_a_malformed_precondition_is_refused(
    client: APIClient, user: User, method: str, header: str
) -> None:
    """400, and nothing written."""
    body = {"text": "a"} if method == "put" else None
    response = getattr(client, method)(URL, body, headers={header: "7"})
    assert (response.status_code, texts(user)) == (400, {})
    assert header in response.json()["detail"]


# --- What is refused -------------------------------------------------------------------------


@pytest.mark.parametrize("app_id", ["a b", "a*", "ä", "x" * 65, "__proto__", "a%0a", "a%00"])
def test_an_id_that_no_app_can_have_is_404(client: APIClient, user: User, app_id: str) -> None:
    """By the rule of the layout, which the answer tells."""
    url = f"/api/v1/canvas/notes/{app_id}/"
    for response in (client.get(url), write(client, "a", url)):
        assert response.status_code == 404
        assert "1 to 64 of A-Z" in response.json()["detail"]
    assert texts(user) == {}


BODIES: list[tuple[Any, list[str]]] = [
    ({}, ["text"]),
    ({"text": None}, ["text"]),
    ({"text": 5}, ["text"]),
    ({"text": ["a"]}, ["text"]),
    ({"text": "x" * (NOTE_TEXT_MAX + 1)}, ["text"]),
    ({"text": "a", "title": "b"}, ["title"]),
    ({"text": "a", "version": 9}, ["version"]),
    ({"text": "a", "updatedAt": None}, ["updatedAt"]),
]


@pytest.mark.parametrize(("body", "fields"), BODIES)
def test_a_bad_body_names_the_field(
    client: APIClient, user: User, body: Any, fields: list[str]
) -> None:
    """400, and nothing written."""
    response = client.put(URL, body)
    assert (response.status_code, error_fields(response)) == (400, fields)
    assert texts(user) == {}


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"\xff", b'{"text": "\\u0000"}', b'{"text": "\\ud800"}', b'{"text": "a",}']
)
def test_a_body_that_is_not_clean_json_is_400(client: APIClient, user: User, body: bytes) -> None:
    """What PostgreSQL cannot hold included."""
    response = client.put(URL, body, content_type="application/json")
    assert (response.status_code, texts(user)) == (400, {})


@pytest.mark.parametrize("character", ["x", "🏺"])
def test_the_longest_note_is_taken(client: APIClient, user: User, character: str) -> None:
    """Counted in characters, however many bytes they take on their way."""
    text = character * NOTE_TEXT_MAX
    assert write(client, text).status_code == 200
    assert client.get(URL).json()["text"] == text


def fill(user: User, count: int) -> None:
    """So many notes."""
    now = timezone.now()
    Note.objects.bulk_create(
        Note(user=user, app_id=f"app{n}", version=1, updated_at=now) for n in range(count)
    )


def test_a_user_has_at_most_500_notes(client: APIClient, user: User, make_user: MakeUser) -> None:
    """400 for another one; those there are can be written, and others' do not count."""
    fill(make_user(), 500)
    fill(user, 499)
    assert write(client, "the last").status_code == 200
    response = write(client, "one more", "/api/v1/canvas/notes/more/")
    assert (response.status_code, error_fields(response)) == (400, ["appId"])
    assert "500" in response.json()["detail"]
    assert client.get("/api/v1/canvas/notes/more/").json()["version"] == 0
    assert write(client, "again").status_code == 200


def test_a_user_deleted_meanwhile_is_not_found(client: APIClient, user: User) -> None:
    """Between the check of the session and the write."""
    client.force_authenticate(user)
    User.objects.filter(pk=user.pk).delete()
    assert write(client, "a").status_code == 404


# --- At once ---------------------------------------------------------------------------------


@committed
@pytest.mark.parametrize("version", [0, 1])
def test_of_writers_of_the_same_version_exactly_one_wins(
    user: User, client_for: Any, version: int
) -> None:
    """The first ever write included; the others are told the version that they missed."""
    clients = [client_for(user) for _ in range(8)]
    for number in range(version):
        write(clients[0], f"before {number}")
    header = {"If-Match": f'"{version}"'}
    calls = [partial(write, each, f"by {n}", **header) for n, each in enumerate(clients)]
    answers = in_threads(calls)
    assert sorted(answer.status_code for answer in answers) == [200] + [412] * 7
    [winner] = [answer.json() for answer in answers if answer.status_code == 200]
    assert clients[0].get(URL).json() == winner
    assert {answer["ETag"] for answer in answers} == {f'"{version + 1}"'}


@committed
def test_every_write_at_once_counts(user: User, client_for: Any) -> None:
    """Without If-Match none is refused, and each raises the version."""
    clients = [client_for(user) for _ in range(8)]
    answers = in_threads([partial(write, each, "x") for each in clients * 3])
    assert {answer.status_code for answer in answers} == {200}
    assert sorted(answer.json()["version"] for answer in answers) == list(range(1, 25))


@committed
def test_first_notes_written_at_once_keep_to_the_limit(user: User) -> None:
    """Of eight only one still fits."""
    fill(user, 499)

    def attempt(number: int) -> bool:
        try:
            notes.write(user.pk, f"new{number}", "x")
        except notes.TooManyNotes:
            return False
        return True

    assert sorted(in_threads([partial(attempt, n) for n in range(8)])) == [False] * 7 + [True]
    assert Note.objects.filter(user=user).count() == 500


@committed
def test_a_writer_waits_for_another_of_the_same_note(user: User) -> None:
    """And then compares with what that one left."""
    notes.write(user.pk, "notes", "a")
    with ThreadPoolExecutor(1) as pool:
        with transaction.atomic():
            notes.write(user.pk, "notes", "b", if_match={"1"})
            late = pool.submit(in_thread(notes.write), user.pk, "notes", "c", if_match={"1"})
            wait_for_locks()
        with pytest.raises(notes.VersionMismatch, match="2"):
            late.result()
    assert texts(user) == {"notes": "b"}


@committed
def test_a_write_and_the_deletion_of_the_user_are_no_deadlock(user: User) -> None:
    """Both take the note before the user; the write then finds neither."""
    notes.write(user.pk, "notes", "a")
    with ThreadPoolExecutor(1) as pool:
        with transaction.atomic():
            Note.objects.filter(user=user).delete()
            late = pool.submit(in_thread(notes.write), user.pk, "notes", "b")
            wait_for_locks()
            User.objects.get(pk=user.pk).delete()
        with pytest.raises(notes.NoSuchUser):
            late.result()


# --- The row and the admin -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("members", "constraint"),
    [
        ({"version": 0}, "canvas_note_version_ge_1"),
        ({"text": "x" * (NOTE_TEXT_MAX + 1)}, "canvas_note_is_short"),
        ({"app_id": "notes"}, "canvas_note_one_per_app"),
    ],
)
def test_the_database_refuses_what_no_note_can_be(
    user: User, members: dict[str, Any], constraint: str
) -> None:
    """Whoever writes."""
    notes.write(user.pk, "notes", "a")
    values = {"app_id": "other", "version": 1, "updated_at": timezone.now(), **members}
    with pytest.raises(IntegrityError, match=constraint):
        Note.objects.create(user=user, **values)


def test_notes_go_with_their_user(user: User, make_user: MakeUser) -> None:
    """Another's stay."""
    other = make_user()
    for each in (user, other):
        notes.write(each.pk, "notes", "a")
    user.delete()
    assert Note.objects.get().user == other


def test_the_admin_shows_notes_and_changes_none(user: User) -> None:
    """Escaped, and found by the user's name."""
    notes.write(user.pk, "notes", "<b>glass")
    note = Note.objects.get()
    admin = Client()
    admin.force_login(User.objects.create_superuser("root", "root@example.org", "unusual-word-1"))
    page = admin.get(reverse("admin:canvas_note_changelist"), {"q": user.username})
    assert f">{user.username}<" in page.content.decode()
    url = reverse("admin:canvas_note_change", args=[note.pk])
    assert "&lt;b&gt;glass" in admin.get(url).content.decode()
    assert admin.post(url, {"text": "x"}).status_code == 403
    assert admin.post(reverse("admin:canvas_note_delete", args=[note.pk])).status_code == 403
    assert Note.objects.get().text == "<b>glass"
