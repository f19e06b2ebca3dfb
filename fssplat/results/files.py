"""Files in a folder or behind an fsspec address; each write replaces a whole file in one step.

A reader gets the old file or the new one, never a mixture. In a folder, a temporary file is written
and renamed; an object store replaces an object in one request.
"""

import contextlib
import errno
import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from fssplat.common.disk_space import is_disk_full
from fssplat.common.errors import InputError, StoreAwayError, described
from fssplat.common.passwords import hidden
from fssplat.common.plain_names import plain_path
from fssplat.common.remote_files import filesystem
from fssplat.common.whole_files import replacing

CANNOT_WRITE = {
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENOTDIR,
    errno.EEXIST,  # a file where a folder must be
    errno.ELOOP,
    errno.ENAMETOOLONG,
}


class Files(ABC):
    """Named byte strings below one address; names use `/`."""

    address: str

    @abstractmethod
    def read(self, name: str) -> bytes | None:
        """The whole file, or None if it is missing."""

    @abstractmethod
    def write(self, name: str, data: bytes) -> None:
        """Replace the file in one step."""

    @abstractmethod
    def create(self, name: str, data: bytes) -> bool:
        """Write a new file. Returns False if it exists already."""

    @abstractmethod
    def put(self, name: str, source: Path) -> None:
        """Copy or move a local file here, in one step."""

    @abstractmethod
    def get(self, name: str, target: Path) -> bool:
        """Copy a file to a local path. Returns False if it is missing."""

    @abstractmethod
    def sizes(self, folder: str) -> dict[str, int]:
        """Bytes of each file below a folder, by its name in it. Hidden files are left out."""

    @abstractmethod
    def folders(self, folder: str = "") -> list[str]:
        """Names of the folders directly below one, sorted."""

    @abstractmethod
    def delete(self, name: str) -> None:
        """Delete a file or a whole folder, if it is there."""

    @abstractmethod
    def read_many(self, names: list[str]) -> dict[str, bytes | OSError]:
        """The files that exist, by name; the error of one that cannot be read."""

    def write_many(self, files: Mapping[str, bytes]) -> None:
        """Replace several files, each in one step."""
        for name, data in files.items():
            self.write(name, data)


def open_files(address: str) -> Files:
    """Files at a local path or an fsspec address such as s3://bucket/results.

    Raises InputError for a path that is a file, and for an address that cannot be used.
    """
    if "://" in address and not address.startswith("file://"):
        return RemoteFiles(address)
    files = LocalFiles(Path(address.removeprefix("file://")))
    if os.path.isfile(files.root):  # not of pathlib, which raises for a name that is too long
        raise InputError(
            f"store {files.address}: is a file, not a folder. Give another with --set "
            "store=<folder>, or with --store."
        )
    return files


class LocalFiles(Files):
    """A folder on a local or shared disk."""

    def __init__(self, root: Path) -> None:
        self.root = root.expanduser().absolute()
        self.address = str(self.root)

    def read(self, name: str) -> bytes | None:
        try:
            return _content(self._path(name))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise StoreAwayError(_unreadable(self.root / name, error)) from error

    def read_many(self, names: list[str]) -> dict[str, bytes | OSError]:
        found: dict[str, bytes | OSError] = {}
        for name in names:
            try:
                found[name] = _content(self._path(name))
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError as error:
                found[name] = error
        return found

    def write(self, name: str, data: bytes) -> None:
        with self._replacing(name) as temporary, temporary.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())

    def put(self, name: str, source: Path) -> None:
        target = self._path(name)
        with disk_errors(self.address):
            target.parent.mkdir(parents=True, exist_ok=True)
            _delete_folder(target)
            try:
                os.replace(source, target)
            except OSError as error:
                if error.errno != errno.EXDEV:
                    raise
                with self._replacing(name) as temporary:
                    shutil.copyfile(source, temporary)

    def get(self, name: str, target: Path) -> bool:
        source = self._path(name)
        if not source.is_file():
            return False
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            shutil.copyfile(source, target)
        except OSError as error:
            if is_disk_full(error):
                raise
            raise StoreAwayError(_unreadable(source, error)) from error
        return True

    def create(self, name: str, data: bytes) -> bool:
        path = self._path(name)
        with disk_errors(self.address):
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                with path.open("xb") as stream:
                    stream.write(data)
            except FileExistsError:
                return False
        return True

    def sizes(self, folder: str) -> dict[str, int]:
        found: dict[str, int] = {}
        base = str(self._path(folder)) if folder else self.address
        for place, _, names in os.walk(base):
            inner = os.path.relpath(place, base)
            for name in names:
                if not name.startswith("."):
                    key = name if inner == "." else f"{inner}/{name}"
                    with contextlib.suppress(OSError):  # deleted meanwhile, or not readable
                        found[key] = os.stat(os.path.join(place, name)).st_size
        return found

    def folders(self, folder: str = "") -> list[str]:
        try:
            with os.scandir(self._path(folder) if folder else self.root) as entries:
                return sorted(entry.name for entry in entries if entry.is_dir())
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise StoreAwayError(_unreadable(self.root / folder, error)) from error

    def delete(self, name: str) -> None:
        path = self._path(name)
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _replacing(self, name: str) -> Iterator[Path]:
        """A temporary path that gets the file's name at the end of the block."""
        target = self._path(name)
        with disk_errors(self.address), replacing(target) as temporary:
            _delete_folder(target)
            yield temporary

    def _path(self, name: str) -> Path:
        """The local path. Raises InputError if it would leave the store."""
        return self.root / plain_path(name, f"store {hidden(self.address)}")


def _content(path: Path) -> bytes:
    """A file's bytes. A pipe in its place is empty: the call never waits for a writer."""
    with open(path, "rb", opener=_open_at_once) as file:
        return file.read()


def _open_at_once(name: str, flags: int) -> int:
    return os.open(name, flags | os.O_NONBLOCK)


def _delete_folder(path: Path) -> None:
    """Delete a folder whose place a file of the store must take."""
    if path.is_dir():
        shutil.rmtree(path)


def _unreadable(path: Path, error: OSError) -> str:
    return (
        f"store: {path} cannot be read ({error.strerror or error}). Check its disk and its "
        "permissions; a file that is damaged can be deleted."
    )


class RemoteFiles(Files):
    """Objects behind an fsspec address; an object appears when its upload has ended."""

    def __init__(self, address: str) -> None:
        self.address = address.rstrip("/")
        fs, self.base = connect(self.address)
        self.fs: Any = TranslatedErrors(fs, self.address)

    def __reduce__(self) -> tuple[type["RemoteFiles"], tuple[str]]:
        return (RemoteFiles, (self.address,))

    def read(self, name: str) -> bytes | None:
        try:
            return bytes(self.fs.cat_file(self._path(name)))
        except FileNotFoundError:
            return None

    def read_many(self, names: list[str]) -> dict[str, bytes | OSError]:
        paths = {self._path(name): name for name in names}
        if not paths:
            return {}
        found = self.fs.cat(list(paths), on_error="return")
        for data in found.values():
            if isinstance(data, Exception) and not isinstance(data, FileNotFoundError):
                raise StoreAwayError(away_message(self.address, data)) from data
        return {paths[path]: data for path, data in found.items() if isinstance(data, bytes)}

    def write(self, name: str, data: bytes) -> None:
        with disk_errors(self.address):
            self.fs.pipe_file(self._path(name), data)

    def write_many(self, files: Mapping[str, bytes]) -> None:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda item: self.write(*item), files.items()))

    def put(self, name: str, source: Path) -> None:
        with disk_errors(self.address):
            self.fs.put_file(str(source), self._path(name))

    def get(self, name: str, target: Path) -> bool:
        source = self._path(name)
        try:
            with replacing(target) as temporary:
                self.fs.get_file(source, str(temporary))
        except FileNotFoundError:
            return False
        return True

    def sizes(self, folder: str) -> dict[str, int]:
        base = self._path(folder) if folder else self.base
        self.fs.invalidate_cache()
        try:
            found = self.fs.find(base, detail=True)
        except FileNotFoundError:
            return {}
        return {path[len(base) + 1 :]: int(info["size"]) for path, info in found.items()}

    def folders(self, folder: str = "") -> list[str]:
        base = self._path(folder) if folder else self.base
        self.fs.invalidate_cache()
        try:
            entries = self.fs.ls(base, detail=True)
        except FileNotFoundError:
            return []
        inside = (entry["name"].rstrip("/") for entry in entries if entry["type"] == "directory")
        return sorted(name.rpartition("/")[2] for name in inside)

    def delete(self, name: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            self.fs.rm(self._path(name), recursive=True)

    def create(self, name: str, data: bytes) -> bool:
        try:
            self.fs.pipe_file(self._path(name), data, mode="create")
        except FileExistsError:
            return False
        return True

    def _path(self, name: str) -> str:
        """The path in the bucket. Raises InputError if it would leave the store."""
        return f"{self.base}/{plain_path(name, f'store {hidden(self.address)}')}"


class TranslatedErrors:
    """An fsspec file system that raises StoreAwayError in place of its own errors.

    Missing files, existing files and a full disk keep their errors, since callers handle them.
    """

    def __init__(self, fs: Any, address: str) -> None:
        self._fs, self._address = fs, address

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._fs, name)
        if not callable(found):
            return found

        def call(*arguments: Any, **named: Any) -> Any:
            try:
                return found(*arguments, **named)
            except (FileNotFoundError, FileExistsError):
                raise
            except Exception as error:  # s3fs raises PermissionError for refused credentials
                if isinstance(error, OSError) and is_disk_full(error):
                    raise
                raise StoreAwayError(away_message(self._address, error)) from error

        return call


def away_message(address: str, error: Exception) -> str:
    return (
        f"store {hidden(address)}: not reached ({hidden(described(error))}). Check the "
        "address, the network and the credentials, then repeat the command: nothing is lost."
    )


def connect(address: str) -> tuple[Any, str]:
    """The fsspec file system of an address and the path within it. Raises InputError."""
    try:
        fs, base = filesystem(address)
    except (ImportError, ValueError) as error:
        raise InputError(
            f"store {hidden(address)}: {hidden(str(error))}. Install what this address needs "
            "(s3://: `pip install 'fssplat[s3]'`), or give a folder."
        ) from error
    except OSError as error:
        raise StoreAwayError(away_message(address, error)) from error
    return fs, base.rstrip("/")


def nearest_existing(folder: Path) -> Path:
    """The folder, or else its nearest parent that exists."""
    return next(one for one in (folder, *folder.parents) if one.exists())


def try_to_write(folder: Path) -> None:
    """Raises OSError if no file can be written in the folder, or if it cannot be made."""
    with TemporaryFile(dir=nearest_existing(folder)):
        pass


@contextlib.contextmanager
def disk_errors(address: str) -> Iterator[None]:
    """Raises InputError in place of the errors of a full or read-only disk."""
    try:
        yield
    except OSError as error:
        if is_disk_full(error):
            raise InputError(
                f"store {hidden(address)}: no space left. Free some, then launch again; "
                "nothing half-written was kept."
            ) from error
        if error.errno in CANNOT_WRITE:
            raise InputError(
                f"store {hidden(address)}: cannot be written ({error.strerror}). "
                "Give another with --set store=<folder>."
            ) from error
        raise
