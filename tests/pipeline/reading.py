"""What the tests of reading share."""

from typing import Any

from fsspec.implementations.memory import MemoryFileSystem

from pipeline.decode import ImageRejected
from pipeline.read import fetch
from pipeline.request import Request

MAX = 1000


def reasons(found: list[Any]) -> list[Any]:
    return [outcome.reason if isinstance(outcome, ImageRejected) else outcome for outcome in found]


def fetched(*requests: Request, max_bytes: int = MAX) -> list[Any]:
    return reasons(fetch(requests, max_bytes=max_bytes))


class FlakyFileSystem(MemoryFileSystem):
    """A store in memory that fails its first `failures` questions."""

    protocol = "flaky"
    store: dict[str, Any] = {}  # noqa: RUF012 -- as in the parent
    cachable = False
    failures = 0
    asked = 0

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return MemoryFileSystem._strip_protocol(path.removeprefix("flaky:/"))

    def _answer(self) -> None:
        cls = type(self)
        cls.asked += 1
        if cls.failures:
            cls.failures -= 1
            raise ConnectionError("connection reset by peer")

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **options: Any) -> bytes:
        self._answer()
        return super().cat_file(path, start, end, **options)

    def info(self, path: str, **options: Any) -> dict[str, Any]:
        self._answer()
        return super().info(path, **options)

    def _open(self, path: str, mode: str = "rb", **options: Any) -> Any:
        self._answer()
        return super()._open(path, mode, **options)

    def ls(self, path: str, detail: bool = True, **options: Any) -> list[Any]:
        self._answer()
        found: list[Any] = super().ls(path, detail, **options)
        return found

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **options: Any) -> None:
        self._answer()
        super().pipe_file(path, value, mode, **options)
