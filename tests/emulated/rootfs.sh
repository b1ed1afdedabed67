#!/bin/bash
# rootfs.sh RELEASE FOLDER: an arm64 root file system like Raspberry Pi OS Lite, from Debian's packages
# (bookworm or trixie); no program of it runs, so it needs no emulator. Needs mmdebstrap and root.
set -eu
RELEASE=$1 FOLDER=$2
PACKAGES=base-files,base-passwd,bash,dash,coreutils,grep,sed,mawk,tar,gzip,findutils,diffutils,util-linux
PACKAGES+=,procps,hostname,libc-bin,passwd,login,libstdc++6,python3,python3-venv,ca-certificates
# The mirror that apt uses here.
MIRROR=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep '/debian/\?$' | head -n 1)
mkdir -p "$(dirname "$FOLDER")"
rm -rf "$FOLDER.partial"
mmdebstrap --variant=extract --architectures=arm64 --mode=root --include="$PACKAGES" \
    "$RELEASE" "$FOLDER.partial" "deb $MIRROR $RELEASE main"
mv "$FOLDER.partial" "$FOLDER"
