"""`orchestra tools list`: the catalogue as a table, and what is absent on this machine.

For an entry that calls an outside service, "yes" means that its settings are complete and its key
is set; only `--probe` tries it.
"""

from collections.abc import Iterator, Mapping

from rich.table import Table

from orchestra_ray.cli.tables import add_row, plain_table, show
from orchestra_ray.config.schema import Config
from orchestra_ray.data.catalogue import Catalogue, Entry, read_catalogue
from orchestra_ray.data.catalogue.signatures import price_words
from orchestra_ray.workers.tools.availability import unavailable_entries
from orchestra_ray.workers.tools.probing import OUTSIDE, Probed, probe

WORDS = ("name", "kind", "backend", "isolation", "prices", "in a toolset", "here")


def show_catalogue(config: Config, tries: bool = False) -> bool:
    """Prints the catalogue and returns whether every entry that was tried answered.

    Without `tries` nothing outside is called.
    """
    catalogue = read_catalogue(config.catalogue)
    why = unavailable_entries(catalogue)
    probed = probe(catalogue, why) if tries else {}
    show(catalogue_table(catalogue, why, probed))
    for line in remarks(catalogue, why):
        print(line)
    return all(one.why_not is None for one in probed.values())


def catalogue_table(
    catalogue: Catalogue, why: Mapping[str, str], probed: Mapping[str, Probed] = {}
) -> Table:
    """Returns a row for each entry, in the file's order, with the entry's own prices."""
    table = plain_table(WORDS, ["latency s"])
    for entry in catalogue.entries.values():
        add_row(
            table,
            [
                entry.name,
                entry.kind.value,
                entry.backend,
                entry.isolation.value,
                _prices(entry),
                _presence(entry),
                _here(entry, why, probed.get(entry.name)),
                f"{entry.latency_s:g}",
            ],
        )
    return table


def remarks(catalogue: Catalogue, why: Mapping[str, str]) -> Iterator[str]:
    """Yields the price sheets, then the reasons for absent entries."""
    yield f"prices: {catalogue.price_sheet}"
    if catalogue.sheets:
        versions = ", ".join(sheet.version for sheet in catalogue.sheets)
        yield f"toolsets are priced by one of: {versions}"
    yield from dict.fromkeys(why.values())


def _prices(entry: Entry) -> str:
    words = price_words(entry.prices)
    if not entry.choices:
        return words
    own = "" if words == "free" else f"{words} and "
    return f"{own}those of its {len(entry.choices)} models"


def _here(entry: Entry, why: Mapping[str, str], probed: Probed | None) -> str:
    if entry.name in why:
        return "no"  # the lines below the table say why
    if probed is None:
        return "yes (not tried)" if entry.backend in OUTSIDE else "yes"
    if probed.why_not is not None:
        return f"no ({probed.why_not})"
    return "yes" if probed.remark is None else f"yes (but {probed.remark})"


def _presence(entry: Entry) -> str:
    if not entry.offered:
        return "never"
    return "by chance" if entry.presence < 1 or entry.kind.value == "model" else "always"
