"""The part of docs/reference/api.md that is made from the OpenAPI schema.

`python -m tests.docs.api_page` writes it anew; a test says when that is needed.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

PAGE: Final = Path(__file__).resolve().parents[2] / "docs" / "reference" / "api.md"
BEGIN, END = "<!-- schema -->\n", "<!-- end of schema -->\n"
# What every operation may answer is told once, above.
COMMON: Final = {"400", "401", "403", "413", "415", "429", "503", "default"}


def schema() -> dict[str, Any]:
    """The OpenAPI document that `/api/schema/` serves."""
    from drf_spectacular.generators import SchemaGenerator  # noqa: PLC0415  needs Django

    document: dict[str, Any] = SchemaGenerator().get_schema(request=None, public=True)
    return document


def page(document: dict[str, Any], before: str) -> str:
    """The page with its middle made anew."""
    head, _, rest = before.partition(BEGIN)
    _, _, tail = rest.partition(END)
    return f"{head}{BEGIN}\n{''.join(_operations(document))}{END}{tail}"


def _operations(document: dict[str, Any]) -> Iterator[str]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield f"### {method.upper()} {path}\n\n{_flat(operation['summary'])}.\n\n"
            if text := operation.get("description"):
                yield f"{_flat(text)}\n\n"
            yield from _parameters(operation.get("parameters", []))
            yield from _body(document, operation.get("requestBody", {}).get("content", {}))
            yield from _answers(document, operation["responses"])


def _parameters(parameters: list[dict[str, Any]]) -> Iterator[str]:
    if parameters:
        yield "| parameter | in | |\n|---|---|---|\n"
    for each in parameters:
        words = [_flat(each.get("description") or _kind(each["schema"]))]
        if each.get("required"):
            words.insert(0, "Required.")
        yield f"| `{each['name']}` | {each['in']} | {' '.join(words)} |\n"
    if parameters:
        yield "\n"


def _body(document: dict[str, Any], content: dict[str, Any]) -> Iterator[str]:
    media = ", ".join(f"`{name}`" for name in content)
    for each in list(content.values())[:1]:
        yield from _members(document, each["schema"], f"member of the body, {media}")


def _answers(document: dict[str, Any], responses: dict[str, Any]) -> Iterator[str]:
    for status, each in sorted(responses.items()):
        if status in COMMON and not each.get("headers", {}).keys() - {"Retry-After"}:
            continue
        if status == "401":
            continue
        headers = ", ".join(f"`{name}`" for name in each.get("headers", {}))
        text = _flat(each.get("description") or "")
        text = "" if text == "No response body" else text
        yield f"**{status}** {text}{f' Headers: {headers}.' if headers else ''}\n\n".replace(
            "  ", " "
        )
        if status == "200":
            for content in each.get("content", {}).values():
                yield from _members(document, content["schema"], "member of the answer")


def _members(document: dict[str, Any], schema: dict[str, Any], title: str) -> Iterator[str]:
    found = _resolved(document, schema)
    properties = found.get("properties", {})
    if properties:
        yield f"| {title} | type | |\n|---|---|---|\n"
        needed = found.get("required", [])
        for name, each in properties.items():
            text = _flat(
                _resolved(document, each).get("description", "") or each.get("description", "")
            )
            optional = "" if name in needed else " (optional)"
            yield f"| `{name}` | {_kind(each)}{optional} | {text} |\n"
        yield "\n"


def _resolved(document: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    reference = schema.get("$ref", "")
    name = reference.rpartition("/")[2]
    return document["components"]["schemas"][name] if name else schema


def _kind(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    if "allOf" in schema:
        return _kind(schema["allOf"][0])
    if "oneOf" in schema:
        return " or ".join(dict.fromkeys(map(_kind, schema["oneOf"])))
    if schema.get("type") == "array":
        return f"list of {_kind(schema['items'])}"
    if isinstance(kind := schema.get("type", "any"), list):
        return " or ".join(kind)
    return str(schema.get("format", kind))


def _flat(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip().replace("|", "\\|")


def main() -> None:
    """Write the page."""
    import django  # noqa: PLC0415  the environment comes first

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "aevon.settings")
    django.setup()
    PAGE.write_text(page(schema(), PAGE.read_text()))


if __name__ == "__main__":
    main()
