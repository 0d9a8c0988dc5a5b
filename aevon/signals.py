"""What one service tells the others without knowing them."""

from django.dispatch import Signal

# Sent before a user's session is ended, with `user_id`. Receivers save what the session may have
# left unsaved; a receiver that cannot raises, and the session does not end, unless it may have
# been stolen.
session_ending = Signal()

# Sent when users were made in bulk, which sends no `post_save`, with `user_ids`, inside the
# transaction that made them. Some may have been there before: receivers leave what there is.
users_created = Signal()
