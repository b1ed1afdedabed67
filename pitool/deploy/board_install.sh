#!/bin/sh
# Installs pitool and its bundles on a Raspberry Pi from this unpacked .pi, without network or root.
# Everything is stored below ~/.local/share/pitool; the system's Python is not modified (PEP 668).
set -eu

usage() {
    cat <<'USAGE'
usage: ./install.sh [install | uninstall | rollback] [OPTIONS]

  install            install this release and switch to it (the default)
    --keep N         number of releases to keep on the board (default: 2)
    --service        also start `pitool serve` with the user's session (systemd user service)
  rollback           return to the previous release
  uninstall          remove pitool; --models also removes the bundles

PITOOL_PYTHON: the Python to use (3.11 or 3.13)
exit codes: 0 done, 1 fault, 2 usage, 4 damaged files, 5 missing component
USAGE
}

die() { # die CODE MESSAGE
    code=$1
    shift
    echo "error: $*" >&2
    exit "$code"
}

HERE=$(cd "$(dirname "$0")" && pwd -P)
COMMAND=install KEEP=2 SERVICE='' MODELS=''
while [ $# -gt 0 ]; do
    case $1 in
        install | uninstall | rollback) COMMAND=$1 ;;
        --keep)
            case ${2:-} in
                [1-9] | [1-9][0-9]) KEEP=$2 ;;
                *) die 2 "--keep needs a number of releases from 1 to 99, such as --keep 2." ;;
            esac
            shift
            ;;
        --service) SERVICE=yes ;;
        --models) MODELS=--models ;;
        -h | --help) usage && exit 0 ;;
        *) die 2 "Unknown argument: $1. See ./install.sh --help." ;;
    esac
    shift
done

machine=$(uname -m)
[ "$(getconf LONG_BIT 2>/dev/null || echo 64)" = 64 ] ||
    die 5 "This is a 32-bit system, but pitool needs a 64-bit one. Write Raspberry Pi OS (64-bit) to the card with Raspberry Pi Imager."
[ "$machine" = aarch64 ] || die 5 "This archive is for aarch64, but this machine is $machine. Install from a clone of pitool instead."

PYTHON=${PITOOL_PYTHON:-}
for name in python3.13 python3.11 python3; do
    [ -n "$PYTHON" ] || ! "$name" -c '' 2>/dev/null || PYTHON=$name
done
[ -n "$PYTHON" ] || die 5 "Python is not installed. Install it: sudo apt-get install python3."
[ -x "$(command -v "$PYTHON")" ] || die 5 "PITOOL_PYTHON is $PYTHON, which is not a program. Set it to another Python, or unset it."
# Asked in words that every Python 3 knows: pitool itself cannot be parsed by an older one.
version=$("$PYTHON" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
"$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    die 5 "This system has Python $version, and pitool needs 3.11 or newer. Use Raspberry Pi OS Bookworm or Trixie (64-bit)."

set -- "$HERE"/wheels/pitool-*.whl
if [ -f "$1" ]; then OWN=$1; else OWN=''; fi
[ -n "$OWN" ] || PYTHON=${PITOOL_HOME:-$HOME/.local/share/pitool}/current/runtime/bin/python
[ -x "$(command -v "$PYTHON")" ] || die 5 "This archive contains only a model, and pitool is not installed. Install an archive with a runtime first."
arrive() { PYTHONPATH=$OWN PYTHONSAFEPATH=1 "$PYTHON" -m pitool.deploy.arrive "$@"; }

UNITS=${XDG_CONFIG_HOME:-$HOME/.config}/systemd/user
case $COMMAND in
    rollback) arrive rollback ;;
    uninstall)
        for unit in pitool.service pitool-cluster.service; do
            [ -f "$UNITS/$unit" ] || continue
            systemctl --user disable --now "$unit" 2>/dev/null || true
            rm -f "$UNITS/$unit"
            systemctl --user daemon-reload 2>/dev/null || true
        done
        arrive uninstall $MODELS
        ;;
    install)
        arrive install "$HERE" --keep "$KEEP" >/dev/null
        if [ -n "$SERVICE" ]; then
            "$HOME/.local/bin/pitool" service install ||
                echo "warning: the service was not started; try again: pitool service install" >&2
        fi
        echo "Installed. Next: pitool run \"What is a Raspberry Pi?\""
        case ":$PATH:" in
            *":$HOME/.local/bin:"*) ;;
            *) echo "warning: $HOME/.local/bin is not on the PATH: log in again." >&2 ;;
        esac
        ;;
esac
