"""`manage.py create_demo_users`."""

from typing import Any

from django.core.management.base import CommandError, CommandParser

from aevon.cache.management.base import MaintenanceCommand, Report, add_dry_run, positive
from auth_sessions import demo


class Command(MaintenanceCommand):
    help = (
        "Make the users demo1 … demoN, all with the same password, each with a PsycheState. "
        "Users who exist already keep everything, so running it again is harmless."
    )
    examples = """\
  manage.py create_demo_users --count 100 --password 'open sesame'
  manage.py create_demo_users --count 1000 --password 'open sesame' --prefix crowd
  manage.py create_demo_users --count 100 --password 'open sesame' --dry-run
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
        add_dry_run(parser, "only count those who would be new")

    def run(self, **options: Any) -> Report:
        count, prefix, dry_run = options["count"], options["prefix"], options["dry_run"]
        create = demo.would_create if dry_run else demo.create_demo_users
        with self.progress("counting" if dry_run else "creating", options) as progress:
            progress.start(f"{prefix}1 … {prefix}{count}", lambda: count)
            try:
                created = create(
                    count,
                    password=options["password"],
                    prefix=prefix,
                    progress=progress.advance,
                )
            except demo.Refused as error:
                raise CommandError(str(error)) from error
        existing, done = count - created, "would be created" if dry_run else "created"
        return Report(
            data={
                "dryRun": dry_run,
                "count": count,
                "prefix": prefix,
                "created": created,
                "existing": existing,
            },
            lines=[f"{created:,} users {done}, {existing:,} were there already, as they are."],
        )
