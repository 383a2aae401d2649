"""Small files: the old content or the new, never half of either."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from visarl.data.files import read_json, writable, write_text
from visarl.errors import DataError


def test_text_replaces_text_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    for text in ('{"one": 1}', '{"größer": "ж"}'):
        write_text(path, text)
        assert path.read_bytes() == text.encode()
    assert read_json(path) == {"größer": "ж"}
    assert list(tmp_path.iterdir()) == [path]


def test_a_reader_that_has_the_old_file_open_reads_it_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old and long")
    with path.open("rb", buffering=0) as reader:
        assert reader.read(3) == b"old"
        write_text(path, "new")
        assert reader.read() == b" and long"
    assert path.read_text() == "new"


def test_a_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    """The kernel refuses every byte beyond the limit, as a full disk does."""
    path = tmp_path / "a.txt"
    write_text(path, "old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(DataError, match=r"a\.txt: not saved, File too large; make room or choose another folder"):
            write_text(path, "new" * 4096)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_where_nothing_can_be_written_the_path_is_named(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "missing" / "a.json", tmp_path / "folder"):
        with pytest.raises(DataError, match=f"{path}: not saved"):
            write_text(path, "{}")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


@pytest.mark.parametrize("content", [None, b"\xff\xfe{}", b'{"half": ', b"3"])
def test_what_is_no_json_object_is_refused_by_its_name(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=f"{path}: expected a JSON"):
        read_json(path)


def test_a_file_where_the_folder_should_be_is_told_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="not saved, Not a directory"):
        write_text(tmp_path / "file" / "name.json", "{}")


def test_an_interruption_leaves_nothing_beside_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")

    def interrupted(descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("os.fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_text(path, "new")
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_what_can_be_written_is_tried_without_a_trace(tmp_path: Path) -> None:
    (tmp_path / "old.json").write_text("old")
    for path in (tmp_path / "old.json", tmp_path / "new.json", tmp_path / "new" / "and newer" / "a.json"):
        writable(path)
    for path in (tmp_path, tmp_path / "new" / "and newer"):
        writable(path, folder=True)
    assert list(tmp_path.iterdir()) == [tmp_path / "old.json"] and (tmp_path / "old.json").read_text() == "old"


@pytest.mark.parametrize(
    ("name", "folder", "said"),
    [
        ("folder", False, "is a folder; expected the name of a file"),
        ("file", True, "file is a file and no folder; choose another folder"),
        ("file/new/a.json", False, "file is a file and no folder; choose another file"),
        ("file/new", True, "file is a file and no folder"),
        ("/proc/a.json", False, "cannot be written, /proc: .*; choose another file"),
        ("/proc/new", True, "cannot be written, /proc: .*; choose another folder"),
    ],
)
def test_what_cannot_be_written_is_told_before_it_is_made(name: str, folder: bool, said: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=f"{tmp_path / name}: .*{said}"):
        writable(tmp_path / name, folder)
