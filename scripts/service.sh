# shellcheck shell=bash
# The link, the service, and uninstalling; sourced by install.sh.

unit_file() { printf '%s' "${XDG_CONFIG_HOME:-${HOME:?}/.config}/systemd/user/pitool.service"; }

link_file() { printf '%s' "${HOME:?}/.local/bin/pitool"; }

link() {
    local bin
    bin=$(dirname "$(link_file)")
    mkdir -p "$bin"
    ln -sf "$VENV/bin/pitool" "$bin/pitool"
    say "Linked: $bin/pitool"
    [[ ":$PATH:" == *":$bin:"* ]] || warn "$bin is not on the PATH: log in again, or add it to the PATH."
}

ours() { # ours UNIT: whether it starts the pitool of this folder
    grep -qsF "\"$VENV/bin/pitool\"" "$1"
}

service() { # write the unit and start it
    has systemctl || die 5 "--service needs systemd, which this machine does not have." "Run .venv/bin/pitool serve yourself."
    "$VENV/bin/pitool" service install || warn "The service was not started; try again: pitool service install"
}

uninstall() { # remove what install.sh created; bundles and compiled wheels stay
    local unit link
    unit=$(unit_file) link=$(link_file)
    if ours "$unit"; then
        systemctl --user disable --now pitool.service 2>/dev/null || true
        rm -f "$unit"
        systemctl --user daemon-reload 2>/dev/null || true
    fi
    if [ -L "$link" ] && [ "$(readlink "$link")" = "$VENV/bin/pitool" ]; then rm -f "$link"; fi
    if [ -d "$VENV" ] && [ ! -e "$VENV/pyvenv.cfg" ] && [ ! -e "$UNFINISHED" ]; then
        die 1 "$VENV is not a Python environment created by install.sh." "Remove it yourself if you do not need it."
    fi
    rm -rf "$VENV"
    say "Uninstalled. Bundles (in ~/.local/share/pitool) and compiled wheels (in $CACHE) were kept."
}
