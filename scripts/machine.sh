# shellcheck shell=bash
# What this machine is and has: sourced by install.sh. Asks only, changes nothing; what is missing
# ends the install with one sentence and its fix. PITOOL_SYSROOT puts another /proc and /sys here.

SYSROOT=${PITOOL_SYSROOT:-}
PYTHONS="3.13 3.12 3.11"

board_model() {
    local file
    for file in "$SYSROOT/proc/device-tree/model" "$SYSROOT/sys/firmware/devicetree/base/model"; do
        if [ -r "$file" ]; then tr -d '\0' <"$file" && return; fi
    done
}

is_pi() { [[ "$(board_model)" == *"Raspberry Pi"* ]]; }

cpu_key() { # names all that a natively compiled wheel depends on
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

hint() { # hint DEBIAN_PACKAGES MAC_COMMAND: how something is installed here
    if [ "$(uname -s)" = Darwin ]; then
        printf '%s' "$2"
    elif has apt-get; then
        printf 'sudo apt-get install %s' "$1"
    else
        printf 'what Debian calls %s' "$1"
    fi
}

check_64_bit() {
    [ "$(getconf LONG_BIT 2>/dev/null || echo 64)" = 32 ] || return 0
    die 5 "This system is 32-bit and the engines need a 64-bit one." \
        "Install a 64-bit system (for a Raspberry Pi: Raspberry Pi Imager, \"Raspberry Pi OS (64-bit)\")."
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

find_python() { # sets PYTHON
    local name path version bits can crippled='' seen=''
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
            crippled=$version
        fi
    done < <(candidates)
    if [ -n "$crippled" ]; then
        die 5 "Python $crippled is here and cannot make virtual environments." \
            "Add that part: $(hint "python3-venv python$crippled-venv" "brew install python@$crippled")"
    fi
    seen=${seen#, }
    die 5 "pitool needs a 64-bit Python 3.11, 3.12 or 3.13 and found ${seen:-none}${PITOOL_PYTHON:+ in PITOOL_PYTHON}." \
        "Install one ($(hint 'python3.11 python3.11-venv' 'brew install python@3.13');" \
        "the current Raspberry Pi OS brings one) or name it in PITOOL_PYTHON."
}

check_compiler() {
    if [ "$(uname -s)" != Darwin ] || xcode-select -p >/dev/null 2>&1; then
        echo '#include <stdlib.h>' | ${CC:-cc} -x c -c -o /dev/null - 2>/dev/null &&
            echo '#include <vector>' | ${CXX:-c++} -x c++ -c -o /dev/null - 2>/dev/null && return
    fi
    die 5 "llama.cpp is to be compiled and no working C++ compiler was found." \
        "Install one ($(hint g++ 'xcode-select --install')) or give a ready wheel with --wheel."
}

free_memory() { # free_memory [swap]: MB that can be used, swap counted in; nothing where unknown
    [ -r "$SYSROOT/proc/meminfo" ] || return 0
    awk -v swap="${1:-}" '/^MemAvailable:/ || (swap && /^SwapFree:/) {kb += $2} END {print int(kb / 1024)}' \
        "$SYSROOT/proc/meminfo"
}

check_memory() { # check_memory MB
    local have
    have=$(free_memory swap)
    [ "${have:-$1}" -ge "$1" ] || die 1 "Compiling llama.cpp needs $1 MB of memory and $have MB are free." \
        "Close programs or add swap, or give a ready wheel with --wheel."
}

free_disk() { # free_disk FOLDER: "MB mountpoint" of the folder or its nearest parent that exists
    local folder=$1
    while [ ! -d "$folder" ]; do folder=$(dirname "$folder"); done
    df -Pk "$folder" | awk 'NR == 2 {print int($4 / 1024), $6}'
}

check_disk() { # check_disk MB_IN_PROJECT MB_IN_CACHE: may be one disk or two
    local need=$1 build=$2 have mount cache_have cache_mount
    read -r have mount < <(free_disk "$ROOT")
    read -r cache_have cache_mount < <(free_disk "$CACHE")
    if [ "$mount" = "$cache_mount" ]; then
        need=$((need + build)) build=0
    fi
    [ "$have" -ge "$need" ] || die 1 "This needs $need MB of disk on $mount and $have MB are free." \
        "Free some space and run it again."
    [ "$cache_have" -ge "$build" ] || die 1 "Compiling needs $build MB of disk on $cache_mount and $cache_have MB are free." \
        "Free some space there, or name a folder on another disk in XDG_CACHE_HOME."
}
