# shellcheck shell=bash
# Detects what this machine is and has; sourced by install.sh. Never changes anything: when something
# is missing, the install ends with an error and a fix. PITOOL_SYSROOT: where to find /proc and /sys.

SYSROOT=${PITOOL_SYSROOT:-}
PYTHONS="3.13 3.12 3.11"

board_model() {
    local file
    for file in "$SYSROOT/proc/device-tree/model" "$SYSROOT/sys/firmware/devicetree/base/model"; do
        if [ -r "$file" ]; then tr -d '\0' <"$file" && return; fi
    done
}

is_pi() { [[ "$(board_model)" == *"Raspberry Pi"* ]]; }

cpu_key() { # identifies everything that a natively compiled wheel depends on
    local features libc
    if [ -r "$SYSROOT/proc/cpuinfo" ]; then
        features=$(grep -E '^(flags|Features|CPU part)' "$SYSROOT/proc/cpuinfo" | sort -u || true)
    else
        features=$(sysctl -n machdep.cpu.brand_string hw.optional 2>/dev/null || true)
    fi
    libc=$(getconf GNU_LIBC_VERSION 2>/dev/null || uname -r)
    features=$(printf '%s' "$features" | cksum | cut -d ' ' -f 1)
    printf '%s-%s-%s-%s' "$(uname -m)" "$(uname -s)" "${libc// /}" "$features"
}

hint() { # hint DEBIAN_PACKAGES MAC_COMMAND: how to install something here
    if [ "$(uname -s)" = Darwin ]; then
        printf '%s' "$2"
    elif has apt-get; then
        printf 'sudo apt-get install %s' "$1"
    else
        printf "your distribution's %s" "$1"
    fi
}

check_64_bit() {
    [ "$(getconf LONG_BIT 2>/dev/null || echo 64)" = 32 ] || return 0
    die 5 "This is a 32-bit system, but pitool needs a 64-bit one." \
        "Install a 64-bit system (on a Raspberry Pi: \"Raspberry Pi OS (64-bit)\" with Raspberry Pi Imager)."
}

PROBE='
import struct, sys
try:
    import ensurepip, venv
    can = "venv"
except ImportError:
    can = "no"
print("%d.%d %d %s" % (sys.version_info[0], sys.version_info[1], struct.calcsize("P") * 8, can))'

probe() { "$1" -c "$PROBE" 2>/dev/null </dev/null; } # "3.11 64 venv" of a Python

supported() { [[ " $PYTHONS " == *" $1 "* ]]; }

candidates() {
    if [ -n "${PITOOL_PYTHON:-}" ]; then
        printf '%s\n' "$PITOOL_PYTHON"
    else
        # shellcheck disable=SC2086 # one word each
        printf 'python%s\n' $PYTHONS 3
        printf '%s\n' "${HOME:-}"/.pyenv/versions/3.1[1-3]*/bin/python3 \
            "${HOME:-}"/.local/share/uv/python/cpython-3.1[1-3]*/bin/python3
    fi
}

find_python() { # set PYTHON
    local name path version bits can without_venv='' seen=''
    while read -r name; do
        path=$(command -v "$name") || continue
        read -r version bits can < <(probe "$path") || continue
        if ! supported "$version"; then
            seen="$seen, $version"
        elif [ "$bits" != 64 ]; then
            seen="$seen, a 32-bit $version"
        elif [ "$can" = venv ]; then
            PYTHON=$path
            return
        else
            without_venv=$version
        fi
    done < <(candidates)
    if [ -n "$without_venv" ]; then
        die 5 "Python $without_venv cannot create virtual environments." \
            "Install the missing part: $(hint "python3-venv python$without_venv-venv" "brew install python@$without_venv")"
    fi
    seen=${seen#, }
    die 5 "pitool needs a 64-bit Python 3.11, 3.12 or 3.13, but found ${seen:-none}${PITOOL_PYTHON:+ in PITOOL_PYTHON}." \
        "Install one ($(hint 'python3.11 python3.11-venv' 'brew install python@3.13');" \
        "the current Raspberry Pi OS includes one), or set PITOOL_PYTHON."
}

check_compiler() {
    if [ "$(uname -s)" != Darwin ] || xcode-select -p >/dev/null 2>&1; then
        echo '#include <stdlib.h>' | ${CC:-cc} -x c -c -o /dev/null - 2>/dev/null &&
            echo '#include <vector>' | ${CXX:-c++} -x c++ -c -o /dev/null - 2>/dev/null && return
    fi
    die 5 "Compiling llama.cpp needs a C++ compiler, and no working one was found." \
        "Install one ($(hint g++ 'xcode-select --install')), or use a prebuilt wheel with --wheel."
}

free_memory() { # free_memory [swap]: available MB, with swap if asked; nothing if unknown
    [ -r "$SYSROOT/proc/meminfo" ] || return 0
    awk -v swap="${1:-}" '/^MemAvailable:/ || (swap && /^SwapFree:/) {kb += $2} END {print int(kb / 1024)}' \
        "$SYSROOT/proc/meminfo"
}

check_memory() { # check_memory MB
    local have
    have=$(free_memory swap)
    [ "${have:-$1}" -ge "$1" ] || die 1 "Compiling llama.cpp needs $1 MB of memory, but only $have MB are free." \
        "Close programs or add swap, or use a prebuilt wheel with --wheel."
}

free_disk() { # free_disk FOLDER: "MB mountpoint" of the folder or its nearest parent that exists
    local folder=$1
    while [ ! -d "$folder" ]; do folder=$(dirname "$folder"); done
    df -Pk "$folder" | awk 'NR == 2 {print int($4 / 1024), $6}'
}

check_disk() { # check_disk MB_IN_PROJECT MB_IN_CACHE: on one disk or two
    local need=$1 build=$2 have mount cache_have cache_mount
    read -r have mount < <(free_disk "$ROOT")
    read -r cache_have cache_mount < <(free_disk "$CACHE")
    if [ "$mount" = "$cache_mount" ]; then
        need=$((need + build)) build=0
    fi
    [ "$have" -ge "$need" ] || die 1 "The install needs $need MB of disk space on $mount, but only $have MB are free." \
        "Free some space and run install.sh again."
    [ "$cache_have" -ge "$build" ] || die 1 "Compiling needs $build MB of disk space on $cache_mount, but only $cache_have MB are free." \
        "Free some space there, or set XDG_CACHE_HOME to a folder on another disk."
}
