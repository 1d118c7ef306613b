"""A root folder on any fsspec file system, and the files below it."""

import posixpath
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

import fsspec
from fsspec.implementations.local import LocalFileSystem


class Store:
    """Writes and reads files by their path under one root."""

    def __init__(self, uri: str) -> None:
        self._fs, root = fsspec.core.url_to_fs(uri)
        self._root = str(root).rstrip("/")
        self._local = isinstance(self._fs, LocalFileSystem)
        self._folders: set[str] = set()

    def uri(self, name: str) -> str:
        """The file's absolute path, or its full URI on a remote store."""
        path = f"{self._root}/{name}"
        return path if self._local else str(self._fs.unstrip_protocol(path))

    @contextmanager
    def create(self, name: str) -> Iterator[IO[bytes]]:
        """A new file, open to write."""
        path = f"{self._root}/{name}"
        folder = posixpath.dirname(path)
        if self._local and folder not in self._folders:  # object stores have no folders
            self._fs.makedirs(folder, exist_ok=True)
            self._folders.add(folder)
        with self._fs.open(path, "wb") as file:
            yield file

    def put(self, name: str, data: bytes) -> None:
        with self.create(name) as file:
            file.write(data)

    def get(self, name: str) -> bytes | None:
        """The file's bytes; None where there is no such file."""
        try:
            data: Any = self._fs.cat_file(f"{self._root}/{name}")
        except FileNotFoundError:
            return None
        return bytes(data)

    def is_empty(self) -> bool:
        """Whether nothing lies under the root."""
        try:
            return not self._fs.ls(self._root, detail=False)
        except FileNotFoundError:
            return True
