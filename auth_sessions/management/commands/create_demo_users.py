"""`manage.py create_demo_users`."""

from typing import Any

from django.core.management.base import CommandError, CommandParser

from aevon.cache.management.base import MaintenanceCommand, Report, positive
from auth_sessions import demo


class Command(MaintenanceCommand):
    help = (
        "Make the users demo1 … demoN, all with the same password, each with a PsycheState. "
        "Users who exist already keep everything, so running it again is harmless."
    )
    examples = """\
  manage.py create_demo_users --count 100 --password 'open sesame'
  manage.py create_demo_users --count 1000 --password 'open sesame' --prefix crowd
"""

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "--count", type=positive, required=True, metavar="N", help="how many users"
        )
        parser.add_argument(
            "--password", required=True, metavar="P", help="the password of those that are new"
        )
        parser.add_argument(
            "--prefix", default="demo", help="what their names begin with (default: demo)"
        )

    def run(self, **options: Any) -> Report:
        count, prefix = options["count"], options["prefix"]
        with self.progress("creating", options) as progress:
            progress.start(f"{prefix}1 … {prefix}{count}", lambda: count)
            try:
                created = demo.create_demo_users(
                    count,
                    password=options["password"],
                    prefix=prefix,
                    progress=progress.advance,
                )
            except demo.Refused as error:
                raise CommandError(str(error)) from error
        existing = count - created
        return Report(
            data={"count": count, "prefix": prefix, "created": created, "existing": existing},
            lines=[f"{created:,} users created, {existing:,} were there already."],
        )
