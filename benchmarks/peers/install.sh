#!/usr/bin/env bash
# Makes the environment benchmarks/peers/.venv, which extends .venv by TRL and verl; does nothing if
# it is complete.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

venv=.venv
stamp=$venv/peers.stamp # holds the checksum of what was installed; written last
wanted=$(cat requirements.txt | cksum)
[ "$(cat $stamp 2>/dev/null)" != "$wanted" ] || exit 0

rm -rf $venv
../../.venv/bin/python -m venv $venv
site=$($venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
../../.venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' >"$site/product.pth"
$venv/bin/python -m pip --disable-pip-version-check install --quiet --no-deps -r requirements.txt
echo "$wanted" >$stamp
