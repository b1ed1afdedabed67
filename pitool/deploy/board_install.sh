#!/bin/sh
# Installs pitool and its bundles on a Raspberry Pi from this unpacked .pi: no network, no root, and
# the system's Python stays as it is (PEP 668): everything goes below ~/.local/share/pitool.
set -eu

usage() {
    cat <<'USAGE'
usage: ./install.sh [install | uninstall | rollback] [OPTIONS]

  install            install what lies here and switch to it (the default)
    --keep N         keep N releases to go back to (default 2)
    --service        also start `pitool serve` with the session (systemd user service)
  rollback           go back to the release before
  uninstall          remove pitool; --models removes the bundles too

PITOOL_PYTHON names the Python to use.
exit codes: 0 done, 1 fault, 2 usage, 4 damaged files, 5 something is missing on this board
USAGE
}

die() { # die CODE WORDS
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
                *) die 2 "--keep takes a number of releases from 1 to 99, such as --keep 2." ;;
            esac
            shift
            ;;
        --service) SERVICE=yes ;;
        --models) MODELS=--models ;;
        -h | --help) usage && exit 0 ;;
        *) die 2 "Unknown argument: $1. ./install.sh --help lists what there is." ;;
    esac
    shift
done

machine=$(uname -m)
[ "$(getconf LONG_BIT 2>/dev/null || echo 64)" = 64 ] ||
    die 5 "This system is 32-bit and the engines need a 64-bit one. Write Raspberry Pi OS (64-bit) to the card with Raspberry Pi Imager."
[ "$machine" = aarch64 ] || die 5 "This archive is for aarch64 and this machine is $machine. Use ./install.sh of a clone here."

PYTHON=${PITOOL_PYTHON:-}
for name in python3.13 python3.11 python3; do
    [ -n "$PYTHON" ] || ! "$name" -c '' 2>/dev/null || PYTHON=$name
done
[ -n "$PYTHON" ] || die 5 "There is no Python. Install it: sudo apt-get install python3."
[ -x "$(command -v "$PYTHON")" ] || die 5 "PITOOL_PYTHON names $PYTHON, which is no program. Name another, or none."
# Asked in words that every Python 3 knows: pitool itself is no program to an older one.
version=$("$PYTHON" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
"$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    die 5 "This system has Python $version, and pitool needs 3.11 or newer. Use Raspberry Pi OS Bookworm or Trixie (64-bit)."

set -- "$HERE"/wheels/pitool-*.whl
if [ -f "$1" ]; then OWN=$1; else OWN=''; fi
[ -n "$OWN" ] || PYTHON=${PITOOL_HOME:-$HOME/.local/share/pitool}/current/runtime/bin/python
[ -x "$(command -v "$PYTHON")" ] || die 5 "This archive holds a model only and pitool is not installed. Install an archive with a runtime first."
if [ -n "$SERVICE" ] && [ ! -f "$HERE/pitool.service" ]; then
    die 5 "This archive holds a model only. Install one with a runtime with --service."
fi
arrive() { PYTHONPATH=$OWN "$PYTHON" -m pitool.deploy.arrive "$@"; }

UNIT=${XDG_CONFIG_HOME:-$HOME/.config}/systemd/user/pitool.service
case $COMMAND in
    rollback) arrive rollback ;;
    uninstall)
        if [ -f "$UNIT" ]; then
            systemctl --user disable --now pitool.service 2>/dev/null || true
            rm -f "$UNIT"
            systemctl --user daemon-reload 2>/dev/null || true
        fi
        arrive uninstall $MODELS
        ;;
    install)
        arrive install "$HERE" --keep "$KEEP" >/dev/null
        if [ -n "$SERVICE" ]; then
            mkdir -p "$(dirname "$UNIT")"
            sed 's|@PITOOL@|%h/.local/bin/pitool|' "$HERE/pitool.service" >"$UNIT"
            if systemctl --user daemon-reload && systemctl --user enable pitool.service &&
                systemctl --user restart pitool.service; then
                echo "pitool serve runs: http://127.0.0.1:8080/v1. Without a login too: loginctl enable-linger"
            else
                echo "warning: systemd did not start the service; the unit is $UNIT" >&2
            fi
        fi
        echo "Installed. Next: pitool run \"What is a Raspberry Pi?\""
        case ":$PATH:" in
            *":$HOME/.local/bin:"*) ;;
            *) echo "warning: $HOME/.local/bin is not on the PATH yet: log in again." >&2 ;;
        esac
        ;;
esac
