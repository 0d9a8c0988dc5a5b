#!/usr/bin/env python
"""Django's command line, with a plain sentence where a server cannot be reached."""

import os
import sys


def main() -> None:
    """Run a command; exit 1 with one line when PostgreSQL or a setting is at fault."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "aevon.settings")
    from django.core.exceptions import ImproperlyConfigured
    from django.core.management import execute_from_command_line
    from django.db import OperationalError

    try:
        execute_from_command_line(sys.argv)
    except OperationalError as error:
        sys.exit(
            f"PostgreSQL cannot be reached: {str(error).splitlines()[0]}\n"
            "Start `make run` in another terminal, or set DATABASE_URL."
        )
    except ImproperlyConfigured as error:
        sys.exit(f"Wrong setting: {error}")
    except KeyboardInterrupt:
        sys.stderr.write("Stopped. What was done so far is complete and consistent.\n")
        sys.exit(130)


if __name__ == "__main__":
    main()
