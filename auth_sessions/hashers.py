"""How passwords are kept."""

from django.contrib.auth.hashers import Argon2PasswordHasher


class LeanArgon2Hasher(Argon2PasswordHasher):
    """Argon2id with 19 MiB, two passes and one lane (OWASP Password Storage Cheat Sheet).

    Django's own parameters take 100 MiB and eight lanes for each login; a burst of logins must
    not take the memory and the cores away from everybody else.
    """

    time_cost = 2
    memory_cost = 19 * 1024  # KiB
    parallelism = 1
