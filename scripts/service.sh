# shellcheck shell=bash
# What --link and --service put beside .venv, and taking all of it away: sourced by install.sh.

unit_file() { printf '%s' "${XDG_CONFIG_HOME:-${HOME:?}/.config}/systemd/user/pitool.service"; }

link_file() { printf '%s' "${HOME:?}/.local/bin/pitool"; }

link() {
    local bin
    bin=$(dirname "$(link_file)")
    mkdir -p "$bin"
    ln -sf "$VENV/bin/pitool" "$bin/pitool"
    say "Linked: $bin/pitool"
    [[ ":$PATH:" == *":$bin:"* ]] || warn "$bin is not on the PATH: log in again, or add it."
}

ours() { # ours UNIT: it starts the pitool of this folder
    grep -qsF "\"$VENV/bin/pitool\"" "$1"
}

service() { # write the unit and start it
    local unit
    unit=$(unit_file)
    has systemctl || die 5 "There is no systemd here." "Start .venv/bin/pitool serve by hand."
    mkdir -p "$(dirname "$unit")"
    sed "s|@PITOOL@|$VENV/bin/pitool|" "$ROOT/pitool/deploy/pitool.service" >"$unit"
    if systemctl --user daemon-reload && systemctl --user enable pitool.service &&
        systemctl --user restart pitool.service; then
        say "pitool serve runs: http://127.0.0.1:8080/v1. Without a login too: loginctl enable-linger"
    else
        warn "systemd did not start the service; the unit is $unit"
    fi
}

uninstall() { # takes away what install.sh made; models and compiled wheels stay
    local unit link
    unit=$(unit_file) link=$(link_file)
    if ours "$unit"; then
        systemctl --user disable --now pitool.service 2>/dev/null || true
        rm -f "$unit"
        systemctl --user daemon-reload 2>/dev/null || true
    fi
    if [ -L "$link" ] && [ "$(readlink "$link")" = "$VENV/bin/pitool" ]; then rm -f "$link"; fi
    if [ -d "$VENV" ] && [ ! -e "$VENV/pyvenv.cfg" ] && [ ! -e "$UNFINISHED" ]; then
        die 1 "$VENV is no Python environment of pitool." "Remove it by hand if you do not need it."
    fi
    rm -rf "$VENV"
    say "Removed. Bundles (pitool's folder in ~/.local/share) and wheels ($CACHE) are still there."
}
