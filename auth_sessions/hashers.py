"""How passwords are kept."""

from django.contrib.auth.hashers import (
    Argon2PasswordHasher,
    PBKDF2PasswordHasher,
    make_password,
)


class LeanArgon2Hasher(Argon2PasswordHasher):
    """Argon2id with 19 MiB, two passes and one lane (OWASP Password Storage Cheat Sheet).

    Django's own parameters take 100 MiB and eight lanes for each login; a burst of logins must
    not take the memory and the cores away from everybody else.
    """

    time_cost = 2
    memory_cost = 19 * 1024  # KiB
    parallelism = 1


class ImportedPBKDF2Hasher(PBKDF2PasswordHasher):
    """Passwords from elsewhere, until their users' next login hashes them anew.

    A right password costs that Argon2id; a wrong one costs it, too, so that the time tells nobody
    whether it was right: of a disabled user's, for example.
    """

    def verify(self, password: str, encoded: str) -> bool:
        """Whether it is the password."""
        right: bool = super().verify(password, encoded)
        if not right:
            make_password(password)
        return right
