"""`.env.example` has every setting and every variable of compose.yaml, and no other."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest
from dotenv import dotenv_values

from deploy.up import make_env
from klinefleet.workers.support.settings import PREFIX, Settings
from tests.processes import ROOT

EXAMPLE = ROOT / ".env.example"
SECRETS = {
    "REDIS_PASSWORD",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "FLOWER_BASIC_AUTH",
    "GRAFANA_PASSWORD",
}
#: Read by Docker Compose itself.
OF_COMPOSE = {"COMPOSE_FILE", "COMPOSE_PROJECT_NAME", "COMPOSE_PROFILES"}


def example_values() -> dict[str, str]:
    """Every name of the example, set or commented out, with its value."""
    return dict(re.findall(r"^#?([A-Z][A-Z0-9_]*)=(.*)$", EXAMPLE.read_text(), re.MULTILINE))


def of_ours(names: set[str]) -> set[str]:
    return {name for name in names if name.startswith(PREFIX)}


def test_every_setting_is_in_the_example_with_its_default() -> None:
    defaults = {PREFIX + field.name.upper(): field.default for field in fields(Settings)}
    ours = of_ours(set(example_values())) - {"KLINES_IMAGE"}
    assert set(defaults) == ours
    for name, default in defaults.items():
        shown = (
            ""
            if default is None
            else str(default).lower()
            if isinstance(default, bool)
            else str(default)
        )
        assert example_values()[name] == shown, name


def test_every_variable_of_compose_is_in_the_example_and_none_is_there_for_nothing() -> None:
    text = compose_text()
    taken = set(re.findall(r"\$\{([A-Z0-9_]+)", text)) | set(
        re.findall(r"^  (KLINES_[A-Z_]+):$", text, re.MULTILINE)
    )
    assert taken <= set(example_values())
    assert set(example_values()) - taken - of_ours(set(example_values())) == OF_COMPOSE
    # What is not handed to containers they have another way.
    own = {"KLINES_REDIS_URL", "KLINES_STORE_URL", "KLINES_METRICS_PORT", "KLINES_METRICS_ADDRESS"}
    assert of_ours(set(example_values())) - taken == own


def test_what_is_set_is_explained_above_it() -> None:
    is_setting = re.compile(r"#?[A-Z][A-Z0-9_]*=").match
    for partition in re.split(r"\n\s*\n", EXAMPLE.read_text()):
        assert not is_setting(partition), partition


def test_no_secret_has_a_default() -> None:
    assert {
        name
        for name in example_values()
        if example_values()[name] == "" and f"\n{name}=" in EXAMPLE.read_text()
    } == SECRETS
    assert not re.search(
        r"\$\{(REDIS_PASSWORD|AWS_[A-Z]+_KEY[A-Z_]*|FLOWER_BASIC_AUTH):?-", compose_text()
    )


def compose_text() -> str:
    return "\n".join(
        path.read_text()
        for path in (ROOT / "compose.yaml", ROOT / "deploy" / "compose.shared.yaml")
    )


def test_an_env_is_made_once_with_other_secrets_each_time_and_for_its_owner_alone(
    tmp_path: Path,
) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    assert make_env(EXAMPLE, one)
    assert make_env(EXAMPLE, two)
    first, second = dotenv_values(one), dotenv_values(two)
    for name in SECRETS:
        assert len(first[name] or "") >= 32
        assert re.fullmatch(r"(klines:)?[0-9a-f]+", first[name] or "")
        assert first[name] != second[name]
    assert one.stat().st_mode & 0o777 == 0o600
    before = one.read_text()
    assert not make_env(EXAMPLE, one)
    assert one.read_text() == before


def test_an_env_made_of_the_example_leaves_every_setting_at_its_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_env(EXAMPLE, tmp_path / ".env")
    for name in dotenv_values(tmp_path / ".env"):
        monkeypatch.setenv(name, "kept")  # put back what loading the file sets
    assert Settings.load({}, tmp_path / ".env") == Settings()
