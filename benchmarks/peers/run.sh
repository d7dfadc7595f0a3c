#!/usr/bin/env bash
# Compares this project's loss and advantages with TRL's and verl's, in benchmarks/peers/.venv.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

benchmarks/peers/install.sh
PYTHONPATH=. exec benchmarks/peers/.venv/bin/python -W ignore benchmarks/peers/compare.py "$@"
