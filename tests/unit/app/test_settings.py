"""Settings: read once, in a fixed order, and loud about whatever is not one."""

from pathlib import Path

import pytest

from foa.app.settings import Settings, known_settings, read_settings
from foa.app.toml_file import TomlFile
from foa.errors import BadInput
from foa.values.budget import Budget


def toml(folder: Path, text: str) -> TomlFile:
    path = folder / "FEDERATION.toml"
    path.write_text(text)
    return TomlFile.read(path)


def environ(tmp_path: Path, **values: str) -> dict[str, str]:
    return {"XDG_CONFIG_HOME": str(tmp_path / "none"), **values}


def test_nothing_set_gives_the_papers_numbers(tmp_path):
    settings = read_settings(environ=environ(tmp_path))
    assert settings.parameters.decomp_threshold == 0.3
    assert settings.parameters.decomp_max_agents == 4
    assert (settings.parameters.decomp_subtasks_min, settings.parameters.decomp_subtasks_max) == (2, 4)
    assert settings.parameters.decomp_merge_sim == 0.5
    assert settings.parameters.cluster_sim_threshold == 0.2
    assert settings.parameters.refine_rounds == 3
    assert settings.parameters.refine_timeout == 300.0
    assert settings.budget == Budget(usd=1.0, tokens=200_000, calls=200, seconds=600.0)


def test_the_papers_parameters_have_the_papers_names():
    papers = {name for name in known_settings() if name.startswith("FOE_")}
    assert papers == {
        "FOE_DECOMP_THRESHOLD",
        "FOE_DECOMP_MAX_AGENTS",
        "FOE_DECOMP_SUBTASKS_MIN",
        "FOE_DECOMP_SUBTASKS_MAX",
        "FOE_DECOMP_MERGE_SIM",
        "FOE_TEAM_SIZE",
        "FOE_CLUSTER_SIM_THRESHOLD",
        "FOE_CLUSTER_MAX_MEMBERS",
        "FOE_REFINE_ROUNDS",
        "FOE_REFINE_TIMEOUT",
    }


def test_a_value_of_the_environment_becomes_its_type(tmp_path):
    found = read_settings(environ=environ(tmp_path, FOE_DECOMP_THRESHOLD="0.4", FOE_TEAM_SIZE="2", FOA_MODEL_TOOLS="true"))
    assert found.parameters.decomp_threshold == 0.4
    assert found.parameters.team_size == 2
    assert found.model_tools is True


def test_the_command_line_goes_before_the_environment_and_that_before_the_federation(tmp_path):
    file = toml(tmp_path, "[settings]\nFOE_TEAM_SIZE = 5\nFOA_ROOT = 'clinic'\nFOA_QUORUM = 0.5\n")
    found = read_settings(
        environ=environ(tmp_path, FOE_TEAM_SIZE="2", FOA_QUORUM="0.6"), overrides={"FOA_QUORUM": 0.9}, federation=file
    )
    assert (found.parameters.team_size, found.root, found.parameters.quorum) == (2, "clinic", 0.9)
    assert found.origins["FOE_TEAM_SIZE"] == "environment"
    assert found.origins["FOA_ROOT"] == f"{tmp_path}/FEDERATION.toml:3"
    assert found.origins["FOA_QUORUM"] == "command line"


def test_the_users_file_goes_between_the_environment_and_the_federation(tmp_path):
    own = tmp_path / "own.toml"
    own.write_text("[settings]\nFOE_TEAM_SIZE = 1\nFOA_ROOT = 'own'\n")
    file = toml(tmp_path, "[settings]\nFOE_TEAM_SIZE = 5\nFOA_QUORUM = 0.5\n")
    found = read_settings(environ=environ(tmp_path, FOA_CONFIG=str(own), FOA_ROOT="env"), federation=file)
    assert (found.parameters.team_size, found.root, found.parameters.quorum) == (1, "env", 0.5)


def test_the_users_file_is_found_in_the_configuration_folder(tmp_path):
    (tmp_path / "foa").mkdir()
    (tmp_path / "foa" / "foa.toml").write_text("[settings]\nFOE_TEAM_SIZE = 7\n")
    assert read_settings(environ={"XDG_CONFIG_HOME": str(tmp_path)}).parameters.team_size == 7


def test_a_settings_file_in_the_working_directory_is_not_read(tmp_path, monkeypatch):
    (tmp_path / "foa.toml").write_text("[settings]\nFOA_ROOT = 'theirs'\n")
    monkeypatch.chdir(tmp_path)
    assert read_settings(environ=environ(tmp_path)).root == "foa"


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("FOE_DECOMP_TRESHOLD", "FOE_DECOMP_THRESHOLD"),
        ("FOA_DECOMP_THRESHOLD", "FOE_DECOMP_THRESHOLD"),
        ("FOA_MODEL_ULR", "FOA_MODEL_URL"),
        ("FOA_STATEDIR", "FOA_STATE_DIR"),
    ],
)
def test_an_unknown_setting_names_the_nearest_known_one(tmp_path, name, meant):
    with pytest.raises(BadInput, match=rf"environment: there is no setting {name}; did you mean {meant}\?"):
        read_settings(environ=environ(tmp_path, **{name: "1"}))


def test_an_unknown_setting_in_a_file_is_pointed_at_by_its_line(tmp_path):
    file = toml(tmp_path, 'name = "x"\n\n[settings]\n# a comment\nFOE_TEAMSIZE = 2\n')
    with pytest.raises(BadInput, match=r"FEDERATION\.toml:5: there is no setting FOE_TEAMSIZE; did you mean FOE_TEAM_SIZE"):
        read_settings(environ=environ(tmp_path), federation=file)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("FOE_DECOMP_THRESHOLD", "1.5"),
        ("FOE_TEAM_SIZE", "0"),
        ("FOE_TEAM_SIZE", "two"),
        ("FOA_SYNTH", "summarize"),
        ("FOA_ROOT", "a/b"),
        ("FOA_ROOT", "foa\n"),
        ("FOA_BROKER_PORT", "70000"),
        ("FOE_DECOMP_THRESHOLD", "nan"),
    ],
)
def test_a_value_out_of_its_bounds_is_refused_by_name(tmp_path, name, value):
    with pytest.raises(BadInput, match=f"environment: {name} cannot be"):
        read_settings(environ=environ(tmp_path, **{name: value}))


def test_a_value_of_the_wrong_type_in_a_file_is_pointed_at_by_its_line(tmp_path):
    file = toml(tmp_path, "[settings]\nFOE_TEAM_SIZE = 'two'\n")
    with pytest.raises(BadInput, match=r"FEDERATION\.toml:2: FOE_TEAM_SIZE cannot be 'two'"):
        read_settings(environ=environ(tmp_path), federation=file)


def test_bounds_that_contradict_each_other_are_refused(tmp_path):
    with pytest.raises(BadInput, match="FOE_DECOMP_SUBTASKS_MIN is 3 and FOE_DECOMP_SUBTASKS_MAX 2"):
        read_settings(environ=environ(tmp_path, FOE_DECOMP_SUBTASKS_MIN="3", FOE_DECOMP_SUBTASKS_MAX="2"))


def test_an_endpoint_without_a_model_is_refused(tmp_path):
    with pytest.raises(BadInput, match="FOA_MODEL_URL is set and FOA_MODEL is not"):
        read_settings(environ=environ(tmp_path, FOA_MODEL_URL="http://localhost:11434/v1"))


def test_a_key_is_never_shown(tmp_path):
    found = read_settings(environ=environ(tmp_path, FOA_MODEL_KEY="sk-very-secret", FOA_BROKER_PASSWORD="hunter2"))
    assert found.model_key == "sk-very-secret"
    assert "sk-very-secret" not in repr(found)
    assert "hunter2" not in repr(found)
    with pytest.raises(BadInput) as caught:
        read_settings(environ=environ(tmp_path, FOA_MODEL_KEY="s3cret" * 1000))
    assert "s3cret" not in str(caught.value)


def test_folders_are_where_the_system_says(tmp_path):
    found = read_settings(environ=environ(tmp_path, XDG_STATE_HOME="/var/state", HOME=str(tmp_path)))
    assert found.state_dir == Path("/var/state/foa")
    assert "~" not in str(found.cache_dir)


def test_a_missing_file_that_was_named_is_an_error(tmp_path):
    with pytest.raises(BadInput, match=r"gone\.toml cannot be read: No such file"):
        read_settings(environ={"FOA_CONFIG": str(tmp_path / "gone.toml")})


def test_settings_do_not_change():
    with pytest.raises(AttributeError):
        Settings().root = "other"  # type: ignore[misc]


def test_policy_labels_are_labels_or_families_of_them(tmp_path):
    read = read_settings(environ={"HOME": str(tmp_path), "FOA_POLICIES": "phi, region:*"})
    assert read.known_policies() == {"phi", "region:*"}
    with pytest.raises(BadInput, match="'GDPR' is no policy label"):
        read_settings(environ={"HOME": str(tmp_path), "FOA_POLICIES": "phi, GDPR"})
