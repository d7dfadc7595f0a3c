"""`orchestra preferences make`: a file of instructions and the weights that they mean."""

import argparse

from orchestra_ray.cli.parser import Commands, add_configured, add_group, count


def add_preferences(commands: Commands) -> None:
    nested = add_group(
        commands,
        "preferences",
        "make instructions of users and the weights that they mean",
        "Makes instructions of users and the weights that they mean.",
        "orchestra preferences make --config mine.yaml --out preferences.jsonl",
    )
    parser = add_configured(
        nested,
        make,
        "preferences make",
        "write pairs of instruction and weights, split into train and held out",
        "orchestra preferences make --config configs/quickstart.yaml --out preferences.jsonl",
        "--out FILE [--count N] [--by NAME --validator NAME]",
    )
    parser.add_argument("--out", metavar="FILE", required=True, help="the new file, JSONL")
    parser.add_argument(
        "--count", metavar="N", type=count, default=1_000, help="pairs in all (default: 1000)"
    )
    parser.add_argument(
        "--by", metavar="NAME", help="a model that proposes them (default: none, by templates)"
    )
    parser.add_argument(
        "--validator", metavar="NAME", help="a second model that checks what the first proposes"
    )


def make(options: argparse.Namespace) -> int:
    from orchestra_ray.cli.make_preferences import make_preferences
    from orchestra_ray.config import load

    config = load(options.config, options.overrides)
    make_preferences(config, options.out, options.count, options.by, options.validator)
    return 0
