"""What the everyday suite tries with a hundred inputs, with thousands."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import settings

from tests.aevon.api.test_idempotency import test_any_text_is_a_key_or_refused as any_key
from tests.aevon.api.test_parsers import test_any_bytes as any_body
from tests.beep.test_context import (
    test_any_text_comes_to_an_intent_or_a_question as any_command,
)
from tests.cache.test_codec import (
    test_any_bytes_are_a_document_none_or_corrupt as any_entry,
)
from tests.cache.test_keyspace import test_user_id_from_any_text as any_user_id
from tests.canvas.test_layout import (
    test_merge_patch_does_what_the_rfcs_own_program_does as any_patch,
)
from tests.canvas.test_preconditions import (
    test_any_text_is_a_condition_or_refused as any_condition,
)
from tests.faults.bench.report import share

EXAMPLES = share(2_000)


@pytest.mark.parametrize(
    "fuzz", [any_key, any_body, any_command, any_entry, any_user_id, any_patch, any_condition]
)
def test_with_thousands_of_inputs(fuzz: Callable[[], Any]) -> None:
    """Keys, bodies, commands, cached entries, user ids, patches and conditions."""
    settings(max_examples=EXAMPLES)(fuzz)()
