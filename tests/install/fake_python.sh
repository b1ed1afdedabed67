#!/usr/bin/env bash
# A Python for tests of install.sh: answers its questions, makes environments that hold itself, and
# notes each call in $FAKE_LOG. FAKE_PROBE, FAKE_OFFLINE, FAKE_BUILD, FAKE_PIP, FAKE_SMOKE and
# FAKE_FAILS say what goes wrong.
set -eu
here=$(cd "$(dirname "$0")" && pwd)

hang() { # for ever, and never silent: as a long compile
    while :; do
        echo "[1/2] Building"
        sleep 0.05
    done
}

pip() {
    case "$*" in
        *--dry-run*--no-index*) exit 0 ;;
        *--dry-run*) exit "${FAKE_OFFLINE:-0}" ;;
        wheel*)
            echo "jobs $CMAKE_BUILD_PARALLEL_LEVEL" >>"$FAKE_LOG"
            case ${FAKE_BUILD:-} in
                hang) hang ;;
                fail) echo "x.cpp:1: fatal error: no such thing" && exit 1 ;;
            esac
            while [ "$1" != -w ]; do shift; done
            mkdir -p "$2"
            echo "Downloading llama_cpp_python-0.0.9.tar.gz (76.6 MB)"
            echo "[1/2] Building"
            echo "[2/2] Linking"
            echo wheel >"$2/llama_cpp_python-0.0.9-py3-none-linux_$(uname -m).whl"
            ;;
        "install -e"*)
            echo "Installing collected packages: a, b"
            case ${FAKE_PIP:-} in hang) hang ;; fail) exit 1 ;; esac
            mkdir -p "$here/../lib/python3.12/site-packages/llama_cpp_python-0.0.9.dist-info"
            for tool in pitool ruff mypy lint-imports; do cp "$0" "$here/$tool"; done
            ;;
    esac
}

case $(basename "$0") in
    pitool | ruff | mypy | lint-imports)
        echo "$(basename "$0") $*" >>"$FAKE_LOG"
        [[ " ${FAKE_FAILS:-} " != *" $(basename "$0") "* && " ${FAKE_FAILS:-} " != *" ${1:--} "* ]]
        exit
        ;;
esac
case "$1 ${2:-}" in
    *calcsize*)
        echo "probe" >>"$FAKE_LOG"
        echo "${FAKE_PROBE:-3.12 64 venv}"
        ;;
    *fcntl*) exec "$REAL_PYTHON" "$@" ;;
    *llama_backend_init*)
        if [ "${FAKE_SMOKE:-}" = sigill ]; then kill -ILL $$; fi
        ;;
    "-m venv")
        echo "venv" >>"$FAKE_LOG"
        mkdir -p "$3/bin"
        echo "version = 3.12.0" >"$3/pyvenv.cfg"
        cp "$0" "$3/bin/python"
        ;;
    "-m pip")
        shift 2
        echo "pip $*" >>"$FAKE_LOG"
        pip "$@"
        ;;
    "-m pytest")
        shift 2
        echo "pytest $*" >>"$FAKE_LOG"
        [[ " ${FAKE_FAILS:-} " != *" pytest "* ]]
        ;;
    "--version "*) echo "Python 3.12.0" ;;
esac
