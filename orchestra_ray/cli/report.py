"""`orchestra report`: one HTML page of one run or of several."""

import argparse

from orchestra_ray.cli.parser import Commands, add_command


def add_report(commands: Commands) -> None:
    parser = add_command(
        commands,
        report,
        "report",
        "make one page of a run, or of several side by side",
        "orchestra report runs/study-1 runs/study-2 runs/study-3 --out study.html",
    )
    parser.add_argument("runs", metavar="RUN", nargs="+", help="the folder of a run")
    parser.add_argument(
        "--out", metavar="FILE", help="the page (default: report.html in the first run's folder)"
    )


def report(options: argparse.Namespace) -> int:
    from pathlib import Path

    from orchestra_ray.cli.make_report import make_report

    out = Path(options.out) if options.out else None
    print(f"report: {make_report([Path(run) for run in options.runs], out)}")
    return 0
