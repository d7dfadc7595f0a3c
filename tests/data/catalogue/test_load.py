from pathlib import Path

import pytest

from orchestra_ray.config import load
from orchestra_ray.core.errors import ConfigError
from orchestra_ray.data.catalogue import load_catalogue, read_catalogue
from orchestra_ray.data.catalogue.entries import Isolation
from orchestra_ray.data.catalogue.parsers import Parser

WHOLE = """models:
  - name: m
    description: d
    backend: endpoint
    latency_s: 1
    output_tokens: 10
    skill: {default: 0.5}
    parser: boxed
    limits: {context_tokens: 1000, max_output_tokens: 100}
    prices: {input_usd_per_mtok: 1, output_usd_per_mtok: 2}
tools:
  - name: run
    description: d
    backend: python
    parameters: {properties: {code: {type: string}}}
    prices: {second_usd: 0.001}
    presence: 0.5
  - name: write
    description: d
    backend: recipe
    runs: run
    parser: code
    terminal: true
    choices:
      - {name: c, model: m, description: d, latency_s: 3}
"""
SHEET = "prices:\n  m: {input_usd_per_mtok: 3}\n"


def mistake(path: Path, *sheets: Path) -> str:
    with pytest.raises(ConfigError) as error:
        load_catalogue(path, sheets)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_file_is_read_into_entries(write) -> None:
    catalogue = load_catalogue(write(WHOLE))
    model, run, recipe = (catalogue.entries[name] for name in ("m", "run", "write"))
    assert (model.parser, model.isolation) == (Parser.BOXED, Isolation.NONE)
    assert (model.limits.context_tokens, model.limits.retries) == (1000, 2)
    assert run.isolation is Isolation.SANDBOX and run.prices.second_nanousd == 10**6
    assert recipe.terminal and recipe.runs == "run" and recipe.choices[0].model == "m"
    assert catalogue.price_sheet.startswith("mine@") and not catalogue.sheets


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("name: m", "nome: m", "models[0]: nome: no such key; did you mean name?"),
        ("    description: d\n", "", "m: description is missing; give it"),
        ("description: d\n", "description: ' '\n", "m: description is ' '; it is empty"),
        ("latency_s: 1", "latency_s: soon", "m: latency_s is 'soon'; it should be a valid number"),
        ("latency_s: 1", "latency_s: -1", "m: latency_s is -1; it cannot be negative"),
        ("default: 0.5", "default: 1.5", "m: skill.default is 1.5; it must lie in [0, 1]"),
        ("presence: 0.5", "presence: 2", "run: presence is 2; it must lie in [0, 1]"),
        ("output_tokens: 10\n", "output_tokens: -1\n", "m: output_tokens is -1"),
        ("parser: boxed", "parser: boxes", "m: parser is 'boxes'; it should be 'text', 'last_line"),
        ("max_output_tokens", "max_output_toks", "limits.max_output_toks: no such key; did you me"),
        ("backend: python", "executor: python", "run: executor: no such key; write backend"),
        ("context_tokens: 1000", "context_tokens: 0", "m: limits.context_tokens is 0; it must be"),
        ("context_tokens: 1000", "retries: -1", "m: limits.retries is -1; it cannot be negative"),
        ("context_tokens: 1000", "hedge_after_s: 1", "m: a hedge would be billed twice"),
        (
            "context_tokens: 1000",
            "context_tokens: 99999",
            "c: limits.context_tokens 32768 of write",
        ),
        (
            "backend: python",
            "backend: python\n    isolation: none",
            "backend python has sandbox",
        ),
        ("backend: endpoint", "backend: endpoint\n    isolation: sandbox", "endpoint has none"),
        ("backend: python", "backend: python\n    isolation: jail", "run: isolation is 'jail'"),
        ("{type: string}", "{type: sting}", "run: parameters: 'sting' is not valid"),
        ("name: write", "name: run", "run occurs twice; names are unique"),
        ("name: write", "name: ask", "ask: the name is reserved"),
        ("model: m,", "model: n,", "write: choice c: no model n; choose from m"),
        ("model: m,", "model: run,", "write: choice c: no model run; choose from m"),
        (
            "runs: run",
            "runs: rum",
            "it runs rum, which is not a plain tool; did you mean run?",
        ),
        ("runs: run", "runs: write", "write: it runs write, which is not a plain tool"),
        (
            "latency_s: 3}",
            "latency: 3}",
            "write: choices[0].latency: no such key; did you mean latency_s?",
        ),
        ("    choices:\n", "    presence: 1\n    choice:\n", "write: choice: no such key; did you"),
        ("    terminal: true\n", "    parameters: {type: object}\n", "both parameters and choices"),
        ("models:", "modles:", "modles: no such key; did you mean models?"),
    ],
)
def test_a_bad_entry_is_named(write, old: str, new: str, problem: str) -> None:
    assert old in WHOLE
    path = write(WHOLE.replace(old, new, 1))
    message = mistake(path)
    assert str(path) in message and problem in message


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("models: [\n", "line 2, column 1: "),
        ("- {name: m}\n", "is a list"),
        ("models\n", "models is None; it should be a valid list"),
        ("\xff\x00", "correct the YAML there"),
        ("models: {m: 1}\n", "models is {'m': 1}; it should be a valid list"),
        ("models: [m]\n", "models[0]"),
        ("models: [{name: '${nowhere}'}]\n", "nowhere"),
        ("", "no models; add at least one"),
        ("models: []\ntools: []\n", "no models; add at least one"),
        (
            "models: [{name: m, description: d, backend: simulated, offered: false}]",
            "no model is offered; set offered, or choices of a tool",
        ),
    ],
)
def test_a_file_that_is_no_catalogue_is_named(write, text: str, problem: str) -> None:
    path = write(text)
    message = mistake(path)
    assert str(path) in message and problem in message


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    assert "no such file; set catalogue.path" in mistake(tmp_path / "none.yaml")
    assert "cannot be read" in mistake(tmp_path)
    (tmp_path / "latin.yaml").write_bytes(b"models: [{name: caf\xe9}]")
    assert "latin.yaml" in mistake(tmp_path / "latin.yaml")


def test_the_environment_can_be_named_in_settings(write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_URL", "http://there/v1")
    settings = "backend: endpoint\n    settings: {base_urls: ['${oc.env:MY_URL}']}"
    catalogue = load_catalogue(write(WHOLE.replace("backend: endpoint", settings)))
    assert catalogue.entries["m"].settings == {"base_urls": ["http://there/v1"]}


def test_a_sheet_lies_over_the_entries_that_it_names(write) -> None:
    path, sheet = write(WHOLE), write(SHEET, "cheap.yaml")
    catalogue = load_catalogue(path, [sheet])
    lying = catalogue.sheets[0]
    assert lying.of(catalogue.entries["m"]).input_nanousd_per_mtok == 3 * 10**9
    assert lying.of(catalogue.entries["run"]) == catalogue.entries["run"].prices
    assert lying.version.startswith("cheap@")


def test_a_sheets_version_changes_with_any_price_that_it_stands_for(write) -> None:
    def version(catalogue_text: str, sheet_text: str) -> str:
        path, sheet = write(catalogue_text), write(sheet_text, "cheap.yaml")
        return load_catalogue(path, [sheet]).sheets[0].version

    before = version(WHOLE, SHEET)
    assert before == version(WHOLE, SHEET)
    assert before != version(WHOLE, SHEET.replace("3", "4"))
    assert before != version(WHOLE.replace("second_usd: 0.001", "second_usd: 0.002"), SHEET)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (SHEET.replace("m:", "mm:"), "no entry mm; did you mean m?"),
        (SHEET.replace("m:", "gpt:"), "no entry gpt; choose from m, run, write"),
        (SHEET.replace("3", "0.003"), "m: prices.input_usd_per_mtok is 0.003, outside"),
        (SHEET.replace("mtok", "ktok"), "multiply by 1,000"),
        ("m: {input_usd_per_mtok: 3}\n", "m: no such key; the keys are prices"),
        ("prices: [1]\n", "prices is [1]"),
    ],
)
def test_a_bad_sheet_is_named(write, text: str, problem: str) -> None:
    path, sheet = write(WHOLE), write(text, "cheap.yaml")
    message = mistake(path, sheet)
    assert f"price sheet {sheet}: " in message and problem in message


def test_a_sheet_cannot_price_what_may_be_hedged_by_its_tokens(write) -> None:
    hedged = WHOLE.replace("{input_usd_per_mtok: 1, output_usd_per_mtok: 2}", "{call_usd: 1}")
    path = write(hedged.replace("context_tokens: 1000", "hedge_after_s: 1"))
    assert load_catalogue(path).entries["m"].limits.hedge_after_s == 1
    assert "m: a hedge would be billed twice" in mistake(path, write(SHEET, "cheap.yaml"))


def test_a_recipe_cannot_be_hedged(write) -> None:
    hedged = WHOLE.replace("terminal: true", "limits: {hedge_after_s: 1}")
    assert "write: a hedge would be billed twice" in mistake(write(hedged))


def test_a_configuration_names_catalogue_and_sheets_from_its_own_folder(
    write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir("/")
    quickstart = (Path(__file__).parents[3] / "configs/quickstart.yaml").read_text()
    sheet = "prices:\n  m: {input_usd_per_mtok: 3}\n"
    write(WHOLE), write(sheet, "cheap.yaml"), write("[]", "tools.json")
    config = load(
        [write(quickstart, "config.yaml")],
        [
            "catalogue.path=mine.yaml",
            "catalogue.price_sheets=[cheap.yaml]",
            "catalogue.tools_json=tools.json",
        ],
    ).catalogue
    assert [Path(p) for p in config.price_sheets] == [tmp_path / "cheap.yaml"]
    assert config.tools_json is not None and Path(config.tools_json) == tmp_path / "tools.json"
    config.tools_json = None
    assert len(read_catalogue(config).sheets) == 1


@pytest.mark.parametrize("key", ["price_sheets=[no.yaml]", "tools_json=no.json"])
def test_an_input_that_is_not_there_is_named(key: str) -> None:
    with pytest.raises(
        ConfigError, match=rf"catalogue.{key.partition('=')[0]}: no\.\w+ does not exist"
    ):
        load(["configs/quickstart.yaml"], [f"catalogue.{key}"])
