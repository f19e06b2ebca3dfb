"""Addresses of databases: their files and drivers, and which program's tables they have."""

import importlib.util
import re
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fssplat.common.errors import InputError, first_line
from fssplat.common.passwords import hidden

CONNECT_S = 5  # seconds that a server has to accept a connection when its tables are checked
POSTGRES = ("postgresql", "postgres")
# A server that answers refuses with FATAL; only these refusals end by themselves.
PASSING = ("starting up", "shutting down", "recovery", "too many clients", "connection slots")
REFUSALS = ("FATAL", "Access denied", "Unknown database", "no password supplied", "permission")


def sqlite_file(url: str) -> Path | None:
    """The file in an address such as sqlite:///studies.db, as it is written but with `~` replaced.

    Returns None for the address of another database.
    """
    found = re.fullmatch(r"sqlite(?:\+\w+)?:(?:///?)?([^?]*)(?:\?.*)?", url)
    return Path(found[1]).expanduser() if found else None


def with_driver(url: str) -> str:
    """Adds the driver that `fssplat[postgres]` installs to a Postgres address that names none.

    SQLAlchemy's own choice depends on its version: since 2.1 it is psycopg 3.
    """
    scheme, mark, rest = url.partition("://")
    return f"postgresql+psycopg2://{rest}" if mark and scheme in POSTGRES else url


def check_address(setting: str, url: str) -> None:
    """Raises InputError for a malformed address or a missing driver. Opens no connection."""
    import sqlalchemy

    try:
        sqlalchemy.create_engine(url)  # imports the driver
    except (ImportError, sqlalchemy.exc.NoSuchModuleError) as error:
        postgres = url.startswith("postgres")
        extra = "Run `pip install 'fssplat[postgres]'`" if postgres else "Install it"
        raise InputError(
            f"{setting} {hidden(url)}: its driver is not installed ({first_line(error)}). "
            f"{extra}, or give sqlite:///<file>.db."
        ) from error
    except (sqlalchemy.exc.ArgumentError, ValueError) as error:  # ValueError: a port of letters
        raise InputError(
            f"{setting} {hidden(url)}: not an address. Give sqlite:///<file>.db or postgresql://..."
        ) from error


def same_database(one: str, other: str) -> bool:
    """Whether two addresses mean one database."""
    import sqlalchemy

    files = [sqlite_file(url) for url in (one, other)]
    if any(files):
        return all(files) and len({file.expanduser().resolve() for file in files if file}) == 1
    if not all("://" in url and not url.startswith("http") for url in (one, other)):
        return False
    urls = [sqlalchemy.make_url(url) for url in (one, other)]
    places = {
        (url.get_backend_name(), url.host, url.port, url.database, url.query.get("options"))
        for url in urls
    }
    return len(places) == 1


def is_connection_fault(error: BaseException) -> bool:
    """Whether a database's server does not answer, so that a later attempt may succeed."""
    import sqlalchemy

    if not isinstance(error, sqlalchemy.exc.OperationalError | sqlalchemy.exc.InterfaceError):
        return False
    text = str(error)
    if any(word in text for word in PASSING) or "database is locked" in text:
        return True
    return "sqlite" not in text and not any(word in text for word in REFUSALS)


# ------------------------------------------------------------------ tables


@dataclass(frozen=True)
class Contents:
    """The tables of a database, its schema's revision as Alembic records it, and one row count."""

    tables: frozenset[str] = frozenset()
    revision: str = ""
    filled: bool = False  # whether the table that was asked for has a row


def contents_of(url: str, table: str) -> Contents:
    """Read what a database has; writes nothing and makes no file.

    A missing SQLite file has no tables. Raises SQLAlchemy's and sqlite3's errors.
    """
    import sqlalchemy

    file = sqlite_file(url)
    if file is not None:
        return _contents_of_file(file, table)
    arguments = {"connect_timeout": CONNECT_S} if url.startswith(("postgres", "mysql")) else {}
    engine = sqlalchemy.create_engine(
        url, poolclass=sqlalchemy.pool.NullPool, connect_args=arguments
    )
    with engine.connect() as connection:
        tables = frozenset(sqlalchemy.inspect(connection).get_table_names())

        def first(text: str) -> Any:
            return connection.execute(sqlalchemy.text(text)).first()

        return _contents(tables, table, first)


def _contents_of_file(file: Path, table: str) -> Contents:
    if not file.exists() or (file.is_file() and file.stat().st_size == 0):
        return Contents()  # a folder is left to SQLite, which raises
    with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=rw", uri=True)) as database:
        names = database.execute("select name from sqlite_master where type = 'table'")
        tables = frozenset(name for (name,) in names)
        return _contents(tables, table, lambda text: database.execute(text).fetchone())


def _contents(tables: frozenset[str], table: str, first: Any) -> Contents:
    versioned, present = "alembic_version" in tables, table in tables
    row = first("select version_num from alembic_version") if versioned else None
    filled = present and first(f"select 1 from {table} limit 1") is not None
    return Contents(tables, str(row[0]) if row else "", filled)


def revisions(package: str, folder: str) -> tuple[frozenset[str], str]:
    """All revisions of a package's Alembic scripts, and the newest one.

    The scripts are read as text, since importing MLflow takes seconds.
    """
    spec = importlib.util.find_spec(package)
    places = spec.submodule_search_locations if spec else None
    known, replaced = set(), set()
    for script in Path(next(iter(places or ()), ""), folder).glob("*.py"):
        text = script.read_text(encoding="utf-8")
        known |= set(re.findall(r"^revision(?:: \w+)? = [\"']([^\"']+)", text, re.M))
        for line in re.findall(r"^down_revision\b.*$", text, re.M):
            replaced |= set(re.findall(r"[\"']([^\"']+)[\"']", line))
    newest = known - replaced
    return frozenset(known), newest.pop() if len(newest) == 1 else ""
