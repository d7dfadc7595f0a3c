#!/usr/bin/env bash
# Makes an environment of its own, benchmarks/peers/.venv, which sees what .venv has and adds TRL and
# verl, and compares this project's loss and advantages with theirs in it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

here=benchmarks/peers
venv=$here/.venv
stamp=$venv/peers.stamp # holds the checksum of what was installed; written last
wanted=$(cat $here/requirements.txt | cksum)
if [ "$(cat $stamp 2>/dev/null)" != "$wanted" ]; then
    rm -rf $venv
    .venv/bin/python -m venv $venv
    site=$($venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    .venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' >"$site/product.pth"
    $venv/bin/python -m pip --disable-pip-version-check install --quiet --no-deps -r $here/requirements.txt
    echo "$wanted" >$stamp
fi
PYTHONPATH=. exec $venv/bin/python -W ignore $here/compare.py "$@"
