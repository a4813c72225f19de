"""FEDERATION.toml: what its author may write, and what happens when it is wrong."""

from pathlib import Path

import pytest

from foa.app.federation_file import FILE_NAME, SHIPPED, find_federation, read_federation
from foa.errors import BadInput


def write(folder: Path, text: str, *agents: str) -> Path:
    for agent in agents:
        (folder / agent).write_text("---\nname: x\n---\n")
    path = folder / FILE_NAME
    path.write_text(text)
    return path


def test_agents_are_files_or_patterns_beside_the_file_each_taken_once(tmp_path):
    path = write(tmp_path, 'name = "f"\nagents = ["b.md", "*.md"]\n', "a.md", "b.md")
    found = read_federation(path)
    assert found.name == "f"
    assert found.agents == (tmp_path / "b.md", tmp_path / "a.md")


def test_a_folder_stands_for_its_federation_file_and_names_it(tmp_path):
    write(tmp_path, 'agents = ["a.md"]\n', "a.md")
    assert read_federation(tmp_path).name == tmp_path.name


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('name = "f"\nagent = ["a.md"]\n', r"FEDERATION\.toml:2: there is no key 'agent' here; did you mean agents\?"),
        ('name = "f"\n\nagents = ["gone.md"]\n', r"FEDERATION\.toml:3: no agent file fits 'gone\.md'"),
        ('agents = ["*.txt"]\n', r"FEDERATION\.toml:1: no agent file fits '\*\.txt'"),
        ("agents = []\n", r"FEDERATION\.toml:1: agents has to be a list"),
        ("agents = [1]\n", r"FEDERATION\.toml:1: agents has to be a list"),
        ('name = "f"\n', r"FEDERATION\.toml: agents has to be a list"),
        ('name = 3\nagents = ["a.md"]\n', r"FEDERATION\.toml:1: name has to be a text"),
        ('name = "f"\nagents = [\n', r"FEDERATION\.toml:\d+: not TOML"),
        ("settings = 3\nagents = ['/*.md']\n", r"no agent file fits '/\*\.md'"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(tmp_path, text, complaint):
    with pytest.raises(BadInput, match=complaint):
        read_federation(write(tmp_path, text, "a.md"))


def test_a_settings_key_that_is_no_table_is_refused(tmp_path):
    found = read_federation(write(tmp_path, "settings = 3\nagents = ['a.md']\n", "a.md"))
    with pytest.raises(BadInput, match=r"FEDERATION\.toml:1: settings has to be a table"):
        found.file.table("settings")


def test_a_file_that_is_not_text_is_refused_by_its_line(tmp_path):
    path = write(tmp_path, "")
    path.write_bytes(b"name = 1\n# \xff\n")
    with pytest.raises(BadInput, match=r"FEDERATION\.toml:2: not UTF-8 text"):
        read_federation(path)


@pytest.mark.parametrize("name", SHIPPED)
def test_a_federation_that_comes_with_the_package_is_found_by_its_name(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = find_federation(name)
    assert found.name == name
    assert len(found.agents) == 4


def test_a_federation_that_is_nowhere_is_refused_with_what_there_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadInput, match=r"repo is neither .* \(repository, clinic\)"):
        find_federation("repo")
