#!/bin/bash
# pi.sh ROOTFS BOARD SHARE COMMAND...: a throw-away emulated Raspberry Pi over an arm64 root file
# system; COMMAND runs as user pi with SHARE at /share. A private binfmt registration in a user
# namespace (kernel 6.7 or newer) and an overlay in memory: nothing on the host changes.
# The CPU, the page size, /proc/cpuinfo and the device tree are the board's; speed is not.
set -eu
HERE=$(cd "$(dirname "$0")" && pwd -P)
BASE=$1 BOARD=$2 SHARE=$3
shift 3
case $BOARD in
    pi3) CPU=cortex-a53 PAGE=4096 ;;
    pi4) CPU=cortex-a72 PAGE=4096 ;;
    pi5) CPU=cortex-a76 PAGE=16384 ;;
    *) echo "unknown board $BOARD" >&2 && exit 2 ;;
esac
export BASE SHARE CPU PAGE FACTS=$HERE/boards/$BOARD
# The shell stays PID 1: a target that dies of SIGILL there would hang.
# shellcheck disable=SC2016
exec unshare --user --map-root-user --mount --pid --fork --kill-child bash -ec '
    work=$(mktemp -d) && mount -t tmpfs tmpfs "$work" && mkdir "$work"/{upper,work,root}
    root=$work/root
    mount -t overlay overlay -o userxattr,lowerdir="$BASE",upperdir="$work/upper",workdir="$work/work" "$root"
    mount -t binfmt_misc binfmt /proc/sys/fs/binfmt_misc
    cat /usr/lib/binfmt.d/qemu-aarch64.conf >/proc/sys/fs/binfmt_misc/register
    mkdir -p "$root"/{proc,dev,sys,share,home/pi}
    mount -t proc proc "$root/proc" 2>/dev/null || mount --rbind /proc "$root/proc"
    mount --rbind /dev "$root/dev"
    mount --rbind /sys "$root/sys"
    mount --rbind "$SHARE" "$root/share"
    mount --bind "$FACTS/cpuinfo" "$root/proc/cpuinfo"
    mount -t tmpfs tmpfs "$root/sys/firmware"
    mkdir -p "$root/sys/firmware/devicetree/base"
    cp "$FACTS/model" "$root/sys/firmware/devicetree/base/model"
    printf "root:x:0:0:root:/root:/bin/bash\npi:x:1000:1000::/home/pi:/bin/bash\n" >"$root/etc/passwd"
    env -i HOME=/home/pi USER=pi LANG=C.UTF-8 TERM=dumb PATH=/home/pi/.local/bin:/usr/local/bin:/usr/bin:/bin \
        QEMU_CPU="$CPU" QEMU_PAGESIZE="$PAGE" \
        unshare --user --map-user=1000 --map-group=1000 --root="$root" --wd=/home/pi "$@" && code=0 || code=$?
    exit $code' _ "$@"
