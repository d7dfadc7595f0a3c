"""`orchestra doctor`: check this machine for a run."""

import argparse

from orchestra_ray.cli.exit_codes import FAILED
from orchestra_ray.cli.parser import Commands, add_command, add_config
from orchestra_ray.core.errors import ConfigError


def add_doctor(commands: Commands) -> None:
    parser = add_command(
        commands,
        doctor,
        "doctor",
        "check this machine for a run",
        "orchestra doctor --config configs/quickstart.yaml",
    )
    parser.usage = "orchestra doctor [--config FILE ... [key=value ...]] [--debug]"
    add_config(parser, required=False)


def doctor(options: argparse.Namespace) -> int:
    from orchestra_ray.cli.findings import Verdict, findings

    config = None
    if options.config:
        from orchestra_ray.config import load

        config = load(options.config, options.overrides)
    elif options.overrides:
        raise ConfigError(
            f"{options.overrides[0]}: there is no configuration to override; give --config"
        )
    verdicts = set()
    for finding in findings(config):
        print(f"{finding.subject:<22}{finding.verdict:<6}{finding.detail}", flush=True)
        verdicts.add(finding.verdict)
    return FAILED if Verdict.FAIL in verdicts else 0
