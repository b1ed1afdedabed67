#!/usr/bin/env bash
# Installs pitool into .venv next to this file: the converter and everything else on a host (Linux,
# macOS), only what a board needs on a Raspberry Pi. Never touches the system's Python or needs root.
# Written for bash 3.2, which macOS ships: no associative arrays, no mapfile, no ${x,,}.
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
VENV=$ROOT/.venv
CACHE=${XDG_CACHE_HOME:-${HOME:-$ROOT}/.cache}/pitool
LOG=$CACHE/install.log
TMP=$CACHE/install.tmp
UNFINISHED=$VENV/.pitool-unfinished # exists while packages are being written

# MB needed by each step: measured on x86_64 in November 2026, rounded up. BUILD_MEMORY is per job.
BUILD_DISK=700 BUILD_MEMORY=700 BOARD_DISK=400 HOST_DISK=150 DEV_DISK=250 ORACLE_DISK=1800

COMMAND=install KIND='' GIVEN=${PITOOL_WHEEL:-} LINK='' COMPLETION='' SERVICE='' ORACLE='' # the options
PYTEST_ARGS=()
SPREAD=(-n logical --maxprocesses 4 --dist loadfile) # tests on all cores, one file per process
EXTRAS='' VERSION='' CPU_KEY='' PYTHON='' WHEEL='' FIND_LINKS='' # set by plan and install
PIP_SOURCE=()
CHILD='' LOCKED='' # the running step; whether the lock is held

usage() {
    cat <<'USAGE'
usage: ./install.sh [COMMAND] [OPTIONS] [-- PYTEST ARGUMENTS]

commands:
  install   install for this machine (the default)
  demo      install, then convert, run and benchmark the sample model
  test      install, then run the tests, without the thorough ones, which take a quarter of an hour;
            with arguments those that they name:  ./install.sh test -- -k manifest
  check     install, then run all checks: scripts, lint, format, types, imports, all tests
  uninstall remove .venv, the link and the service; keep bundles and compiled wheels

options:
  --host, --board  install for a host or for a board, whatever this machine is
  --wheel PATH     do not compile llama.cpp: install this llama-cpp-python wheel, or all packages
                   from this folder of wheels (default: PITOOL_WHEEL, or wheels/ next to install.sh)
  --oracle         with test or check: install torch, transformers, peft and optimum for the oracle
                   tests
  --link           link pitool into ~/.local/bin
  --completion     have your shell (bash, zsh or fish) complete pitool's commands
  --service        start pitool serve with the user's session (systemd user service)
  -h, --help       show this help

PITOOL_PYTHON: the Python to use (3.11 to 3.13)
exit codes: 0 done, 1 fault, 2 usage, 5 missing component, 130 interrupted
USAGE
}

say() { printf '%s\n' "$*"; }
warn() { printf 'warning: %s\n' "$*" >&2; }
has() { command -v "$1" >/dev/null 2>&1; }
die() { # die CODE WHAT_HAPPENED. WHAT_TO_DO.
    local code=$1
    shift
    printf 'error: %s\n' "$*" >&2
    exit "$code"
}

# shellcheck source=scripts/machine.sh
. "$ROOT/scripts/machine.sh"
# shellcheck source=scripts/llama_wheel.sh
. "$ROOT/scripts/llama_wheel.sh"
# shellcheck source=scripts/service.sh
. "$ROOT/scripts/service.sh"

# ---- long steps ---------------------------------------------------------------------------------

NINJA='^ *\[([0-9]+)/([0-9]+)\]'
DOWNLOAD='^ *Downloading ([^ ]*/)?([^/ ]+) (\([0-9.]+ [MG]B\))'

alive() { # install.sh itself is still running (a killed one may remain as a zombie)
    local state=''
    kill -0 $$ 2>/dev/null || return 1
    [ ! -r /proc/$$/stat ] || read -r _ _ state _ </proc/$$/stat || return 1
    [ "$state" != Z ]
}

progress() { # a step's output: everything to the log, progress to the screen
    local line text percent tenth=0
    while IFS= read -r line; do
        printf '%s\n' "$line" >>"$LOG"
        alive || kill -KILL 0 # the step's whole process group: pip would spin forever on a closed pipe
        text=''
        if [[ $line =~ $NINJA ]]; then
            percent=$((100 * BASH_REMATCH[1] / BASH_REMATCH[2]))
            if [ -t 1 ] || [ $((percent / 10)) -gt $tenth ]; then
                tenth=$((percent / 10))
                text="step ${BASH_REMATCH[1]} of ${BASH_REMATCH[2]}, $percent%, $((SECONDS / 60)) min $((SECONDS % 60)) s"
            fi
        elif [[ $line =~ $DOWNLOAD ]]; then
            text="downloading ${BASH_REMATCH[2]%%-*} ${BASH_REMATCH[3]}"
        elif [[ $line == "Installing collected packages:"* ]]; then
            text="writing $(printf '%s' "${line#*: }" | wc -w | tr -d ' ') packages"
        fi
        if [ -t 1 ]; then
            [ -z "$text" ] || printf '\r\033[K  %s' "$text"
        else
            [ -z "$text" ] || printf '  %s\n' "$text"
        fi
    done
    if [ -t 1 ]; then printf '\r\033[K'; fi
}

step() { # step WHAT COMMAND...: run in the background, so that Ctrl-C and kill take effect at once
    local code=0
    say "$1"
    shift
    : >"$LOG"
    SECONDS=0
    set -m # its own process group, which can be stopped as a whole
    (
        set +me
        "$@" </dev/null 2>&1 | progress
        exit "${PIPESTATUS[0]}"
    ) &
    CHILD=$!
    set +m
    wait "$CHILD" || code=$?
    CHILD=''
    return $code
}

step_failed() { # step_failed WHAT FIX: print the relevant lines of the log, then the error
    { grep -iE '(^|[^a-z])(error|fatal|killed|no space)' "$LOG" || true; } | tail -n 5 | cut -c 1-300 >&2
    die 1 "$1." "$2 (full log: $LOG)."
}

stop() { # stop CODE: on Ctrl-C, kill and hangup
    trap '' INT TERM HUP
    if [ -n "$CHILD" ] && kill -TERM -- "-$CHILD" 2>/dev/null; then wait "$CHILD" 2>/dev/null || true; fi
    printf '\ninterrupted: run install.sh again to finish.\n' >&2
    exit "$1"
}

lock() { # one install at a time; the lock is released when the process ends, however it ends
    mkdir -p "$CACHE" 2>/dev/null || true
    { exec 9>>"$CACHE/install.lock"; } 2>/dev/null ||
        die 1 "Cannot write to the cache folder $CACHE." "Fix its permissions, or set XDG_CACHE_HOME to another folder."
    if ! "$PYTHON" -c 'import fcntl; fcntl.flock(9, fcntl.LOCK_EX | fcntl.LOCK_NB)' 2>/dev/null; then
        say "Another install is running; waiting for it to finish."
        "$PYTHON" -c 'import fcntl; fcntl.flock(9, fcntl.LOCK_EX)'
    fi
    LOCKED=yes
    rm -rf "$TMP" # left behind by a killed run
    mkdir "$TMP"
}

unlock() {
    [ -n "$LOCKED" ] || return 0
    rm -rf "$TMP"
    LOCKED=''
    exec 9>&-
}

# ---- what is already installed ------------------------------------------------------------------

stamp_file() { # stamp_file [WHEEL]: its name identifies what .venv holds: Python, CPU, project, wheel
    local python
    python=$(sed -n 's/^version *= *//p' "$VENV/pyvenv.cfg" 2>/dev/null || true)
    printf '%s/.pitool-%s' "$VENV" "$({
        echo "$python $CPU_KEY ${1:+$(cksum <"$1")}"
        cat "$ROOT/pyproject.toml"
    } | cksum | tr ' ' '-')"
}

stamped() { grep -qsxF "$1" "$VENV"/.pitool-*; }

complete() { # no install into .venv was interrupted, and it uses PITOOL_PYTHON if that is set
    [ ! -e "$UNFINISHED" ] && [ -x "$VENV/bin/python" ] || return 1
    [ -z "${PITOOL_PYTHON:-}" ] || [ "$(probe "$PITOOL_PYTHON")" = "$(probe "$VENV/bin/python")" ]
}

installed() { # nothing is left to do
    local stamp extra
    complete || return 1
    stamp=$(stamp_file "${GIVEN:+$WHEEL}")
    grep -qsxF "root $ROOT" "$stamp" || return 1
    for extra in $EXTRAS; do grep -qx "extra $extra" "$stamp" || return 1; done
}

usable() { # .venv is complete, was made in this folder, and has a supported Python
    local stamp
    complete || return 1
    for stamp in "$VENV"/.pitool-*; do
        [ ! -f "$stamp" ] || grep -qxF "root $ROOT" "$stamp" || return 1 # the folder was moved or copied
    done
    supported "$(probe "$VENV/bin/python" | cut -d ' ' -f 1)" && "$VENV/bin/python" -m pip --version >/dev/null 2>&1
}

holds_llama() { # .venv has the pinned llama-cpp-python, installed on this CPU
    stamped "cpu $CPU_KEY" && ls "$VENV"/lib/python3*/site-packages/llama_cpp_python-"$VERSION".dist-info >/dev/null 2>&1
}

# ---- installing ---------------------------------------------------------------------------------

run_pip() { # with temporary files in the cache folder, because /tmp is in memory on many systems
    TMPDIR=$TMP PIP_USER=0 PIP_NO_INPUT=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONUNBUFFERED=1 PYTHONSAFEPATH=1 \
        "$VENV/bin/python" -m pip "$@" ${PIP_SOURCE[@]+"${PIP_SOURCE[@]}"}
}

disk_to_fill() { # MB that .venv still needs
    local need=0
    stamped "root $ROOT" || need=$BOARD_DISK
    [[ " $EXTRAS " != *" host "* ]] || stamped 'extra host' || need=$((need + HOST_DISK))
    [[ " $EXTRAS " != *" dev "* ]] || stamped 'extra dev' || need=$((need + DEV_DISK))
    [[ " $EXTRAS " != *" oracle "* ]] || stamped 'extra oracle' || need=$((need + ORACLE_DISK))
    echo $need
}

make_venv() {
    if [ -d "$VENV" ] && [ ! -e "$VENV/pyvenv.cfg" ] && [ ! -e "$UNFINISHED" ] && [ -n "$(ls -A "$VENV")" ]; then
        die 1 "$VENV exists and is not a Python environment." "Move it away and run install.sh again."
    fi
    say "Creating .venv with $("$PYTHON" --version)"
    rm -rf "$VENV"
    mkdir "$VENV"
    : >"$UNFINISHED"
    "$PYTHON" -m venv "$VENV" >"$LOG" 2>&1 || step_failed "$PYTHON could not create .venv" "Set PITOOL_PYTHON to another Python"
    rm "$UNFINISHED"
}

check_network() { # resolves one small package through the index and proxy that pip is configured for
    local ask=(install --dry-run --no-deps --ignore-installed --quiet --timeout 10 --retries 1 textual)
    if run_pip "${ask[@]}" >"$LOG" 2>&1; then
        [ -z "$FIND_LINKS" ] || PIP_SOURCE=(--find-links "$FIND_LINKS")
        return
    fi
    if [ -n "$FIND_LINKS" ]; then
        PIP_SOURCE=(--no-index --find-links "$FIND_LINKS")
        run_pip "${ask[@]}" >>"$LOG" 2>&1 && say "No network: installing all packages from $FIND_LINKS" && return
    fi
    die 5 "pip cannot reach a package index (its output is in $LOG)." \
        "Check the network and pip's index and proxy settings, or install from a folder with all wheels: ./install.sh --wheel FOLDER"
}

install_packages() {
    local extras=${EXTRAS// /,} had
    : >"$UNFINISHED"
    if [ -n "$WHEEL" ]; then
        run_pip install --no-deps --force-reinstall "$WHEEL" >"$LOG" 2>&1 ||
            step_failed "Could not install $(basename "$WHEEL")" "Use another wheel, or drop --wheel to compile one"
    fi
    step "Installing pitool${extras:+ with $extras}" run_pip install -e ".${extras:+[$extras]}" ||
        step_failed "Could not install the packages" "Fix the errors above and run install.sh again"
    smoke_test
    had=$(sed -n 's/^extra //p' "$(stamp_file)" 2>/dev/null || true)
    rm -f "$VENV"/.pitool-[0-9]*
    # shellcheck disable=SC2086 # one word each
    {
        printf '%s\n' "root $ROOT" "cpu $CPU_KEY"
        printf 'extra %s\n' $had $EXTRAS | sort -u
    } >"$(stamp_file)"
    [ -z "$GIVEN" ] || cp "$(stamp_file)" "$(stamp_file "$WHEEL")"
    rm "$UNFINISHED"
}

install() { # all checks first, then everything that takes long
    local remake='' compile=''
    check_64_bit
    find_python
    lock
    if installed; then return; fi
    usable || remake=yes
    WHEEL=${WHEEL:-$(cached_wheel)}
    if [ -z "$WHEEL" ] && { [ -n "$remake" ] || ! holds_llama; }; then
        compile=yes
        check_compiler
        check_memory "$BUILD_MEMORY"
    fi
    check_disk "$(disk_to_fill)" "$([ -z "$compile" ] && echo 0 || echo "$BUILD_DISK")"
    [ -z "$remake" ] || make_venv
    check_network
    [ -z "$compile" ] || build_wheel
    install_packages
}

# ---- commands -----------------------------------------------------------------------------------

show() { # show WHAT COMMAND...: print what a command does, then run it
    local word line
    line=$(basename "$2")
    for word in "${@:3}"; do
        case $word in *' '*) line="$line \"$word\"" ;; *) line="$line $word" ;; esac
    done
    printf '\n%s\n  $ %s\n' "$1" "$line"
    "${@:2}" </dev/null
}

demo() {
    local pitool=$VENV/bin/pitool bundle=build/demo/sample
    mkdir -p build/demo
    show "1. Convert the sample model for a 1 GB board" "$pitool" convert sample --ram 1gb --force --out "$bundle"
    show "2. Ask it a question" "$pitool" run "$bundle" "What is a Raspberry Pi 5?" --temp 0 --max-tokens 120
    show "3. Measure prefill and decode on this machine" "$pitool" bench "$bundle" -p 128 -n 32 -r 3
    printf '\nThe bundle is %s. Chat with it: .venv/bin/pitool chat %s\n' "$bundle" "$bundle"
    offer_chat "$bundle"
}

offer_chat() { # offer_chat BUNDLE: where somebody is there to answer
    local answer=''
    [ -t 0 ] && [ -t 1 ] && [ -t 2 ] || return 0
    read -r -p "Open the chat now? [Y/n] " answer || return 0
    case $answer in '' | [yY]*) "$VENV/bin/pitool" chat "$1" ;; esac
}

check() { # run every check to its end, then name those that failed
    local failed=''
    if has shellcheck; then show "Shell scripts" shellcheck -x install.sh .ci/run || failed=" shellcheck"; fi
    show "Lint" "$VENV/bin/ruff" check . || failed="$failed ruff-check"
    show "Format" "$VENV/bin/ruff" format --check . || failed="$failed ruff-format"
    show "Types" "$VENV/bin/mypy" || failed="$failed mypy"
    show "Imports" "$VENV/bin/lint-imports" || failed="$failed lint-imports"
    show "Tests" "$VENV/bin/python" -m pytest "${SPREAD[@]}" ${PYTEST_ARGS[@]+"${PYTEST_ARGS[@]}"} || failed="$failed pytest"
    [ -z "$failed" ] || die 1 "Failed:$failed." "See the output above."
    printf '\nAll checks passed.\n'
}

parse() {
    local seen=''
    while [ $# -gt 0 ]; do
        case $1 in
            install | demo | test | check | uninstall)
                [ -z "$seen" ] || die 2 "Two commands were given: $COMMAND and $1." "Give only one; see ./install.sh --help."
                COMMAND=$1 seen=yes
                ;;
            --host | --board) KIND=${1#--} ;;
            --oracle) ORACLE=yes ;;
            --link) LINK=yes ;;
            --completion) COMPLETION=yes ;;
            --service) SERVICE=yes ;;
            --wheel=*) GIVEN=${1#*=} ;;
            --wheel)
                [ $# -gt 1 ] || die 2 "--wheel needs a path." "Name a wheel or a folder of wheels."
                GIVEN=$2
                shift
                ;;
            -h | --help) usage && exit 0 ;;
            --) shift && PYTEST_ARGS=("$@") && break ;;
            *) die 2 "Unknown argument: $1." "See ./install.sh --help." ;;
        esac
        shift
    done
}

plan() { # what to install on this machine
    if [ -z "$KIND" ]; then
        if is_pi; then KIND=board; else KIND=host; fi
    fi
    if [ "$KIND" = host ] || [ "$COMMAND" != install ]; then EXTRAS=host; fi
    case $COMMAND in test | check) EXTRAS="$EXTRAS dev${ORACLE:+ oracle}" ;; esac
    VERSION=$(sed -n 's/.*"llama-cpp-python==\([0-9A-Za-z.+]*\).*/\1/p' "$ROOT/pyproject.toml" 2>/dev/null | head -n 1 || true)
    [ -n "$VERSION" ] || die 1 "$ROOT/pyproject.toml does not pin llama-cpp-python." "Run install.sh in a complete clone."
    CPU_KEY=$(cpu_key)-rpc # what llama.cpp is built for and, since a cluster needs it, with
    use_given
}

main() {
    parse "$@"
    if [ "$COMMAND" = uninstall ]; then
        uninstall
        return
    fi
    plan
    cd "$ROOT"
    trap 'stop 130' INT
    trap 'stop 143' TERM HUP
    trap unlock EXIT
    if installed; then
        say "pitool is already installed for this $KIND."
    else
        install
        say "Installed pitool for this $KIND in .venv."
    fi
    unlock
    [ -z "$LINK" ] || link
    [ -z "$COMPLETION" ] || completion
    [ -z "$SERVICE" ] || service
    case $COMMAND in
        install)
            say "Next: .venv/bin/pitool --help, or ./install.sh demo"
            [ -n "$LINK$COMPLETION" ] || say "On the PATH, completed by your shell: ./install.sh --link --completion"
            ;;
        test)
            [ ${#PYTEST_ARGS[@]} -gt 0 ] || PYTEST_ARGS=(-m 'not thorough')
            "$VENV/bin/python" -m pytest "${SPREAD[@]}" "${PYTEST_ARGS[@]}"
            ;;
        *) "$COMMAND" ;;
    esac
}

main "$@"
