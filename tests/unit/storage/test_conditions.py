"""A store that ignores the conditions of writes is found before anything is written into it."""

from __future__ import annotations

from pathlib import Path

import fsspec
import pytest

from klinefleet.workers.domain.errors import StoreFault, UnsafeStore, VersionConflict
from klinefleet.workers.lake.identity import StoreIdentity
from klinefleet.workers.storage.folder import FolderStore
from klinefleet.workers.storage.objects import ObjectStore


class CarelessStore(FolderStore):
    """A folder in which some conditional writes do other than what they were told."""

    def __init__(
        self, root: Path, *, creates: bool = False, replaces: bool = False, refuses: bool = False
    ) -> None:
        file_system = fsspec.filesystem("file", auto_mkdir=True)
        super().__init__(file_system, str(root), sleep=lambda s: pytest.fail(f"slept {s}"))
        self._creates, self._replaces, self._refuses = creates, replaces, refuses

    def _publish(self, path: str, body: bytes, replaces: str | None) -> None:
        is_careless = self._creates if replaces is None else self._replaces
        if self._refuses and replaces is not None:
            raise VersionConflict("refused")
        if is_careless:
            self._put(path, body)
        else:
            super()._publish(path, body, replaces)


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("creates", "created an object that was there"),
        ("replaces", "replaced another version"),
        ("refuses", "refused to replace the very version"),
    ],
)
def test_a_store_that_does_not_keep_a_condition_is_named_and_gets_nothing(
    tmp_path: Path, fault: str, told: str
) -> None:
    careless = CarelessStore(tmp_path / "store", **{fault: True})
    with pytest.raises(UnsafeStore, match=told) as error:
        StoreIdentity(careless).require_current()
    assert str(tmp_path / "store") in str(error.value)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_store_that_keeps_conditions_is_left_as_it_was(files: ObjectStore, folder: Path) -> None:
    files.put("lake/a", b"a")
    files.prove_conditional_writes()
    assert [path.name for path in folder.rglob("*") if path.is_file()] == ["a"]


def test_a_store_is_proved_once_and_its_identity_remembers_it(
    files: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    StoreIdentity(files).require_current()
    monkeypatch.setattr(files, "prove_conditional_writes", lambda: pytest.fail("proved again"))
    StoreIdentity(files).require_current()


def test_a_store_that_fails_is_not_called_unsafe(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("no folder")
    careful = CarelessStore(tmp_path / "store")
    with pytest.raises(StoreFault):
        careful.prove_conditional_writes()
