# shellcheck shell=bash
# The link, the completion, the service, and uninstalling; sourced by install.sh.

unit_file() { printf '%s' "${XDG_CONFIG_HOME:-${HOME:?}/.config}/systemd/user/$1"; }

link_file() { printf '%s' "${HOME:?}/.local/bin/pitool"; }

link() {
    local bin
    bin=$(dirname "$(link_file)")
    mkdir -p "$bin"
    ln -sf "$VENV/bin/pitool" "$bin/pitool"
    say "Linked: $bin/pitool"
    [[ ":$PATH:" == *":$bin:"* ]] || warn "$bin is not on the PATH: log in again, or add it to the PATH."
}

completion_file() { # completion_file SHELL: where it looks for what completes a program
    local data=${XDG_DATA_HOME:-${HOME:?}/.local/share}
    case $1 in
        bash) printf '%s' "$data/bash-completion/completions/pitool" ;;
        zsh) printf '%s' "$data/pitool/completion.zsh" ;;
        fish) printf '%s' "${XDG_CONFIG_HOME:-${HOME:?}/.config}/fish/completions/pitool.fish" ;;
    esac
}

completion() { # write what the user's shell needs; zsh has to be told where it is
    local shell file
    shell=$(basename "${SHELL:-bash}")
    case $shell in bash | zsh | fish) ;; *) shell=bash ;; esac
    file=$(completion_file "$shell")
    mkdir -p "$(dirname "$file")"
    "$VENV/bin/pitool" completion "$shell" >"$file"
    if [ "$shell" = zsh ] && ! grep -qsF "$file" "$HOME/.zshrc"; then
        printf '[ ! -r %q ] || source %q # completes pitool\n' "$file" "$file" >>"$HOME/.zshrc"
    fi
    say "Completion for $shell: $file (in a new shell)"
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
    link=$(link_file)
    for unit in pitool.service pitool-cluster.service; do
        ours "$(unit_file "$unit")" || continue
        systemctl --user disable --now "$unit" 2>/dev/null || true
        rm -f "$(unit_file "$unit")"
        systemctl --user daemon-reload 2>/dev/null || true
    done
    if [ -L "$link" ] && [ "$(readlink "$link")" = "$VENV/bin/pitool" ]; then rm -f "$link"; fi
    rm -f "$(completion_file bash)" "$(completion_file zsh)" "$(completion_file fish)"
    if [ -d "$VENV" ] && [ ! -e "$VENV/pyvenv.cfg" ] && [ ! -e "$UNFINISHED" ]; then
        die 1 "$VENV is not a Python environment created by install.sh." "Remove it yourself if you do not need it."
    fi
    rm -rf "$VENV"
    say "Uninstalled. Bundles (in ~/.local/share/pitool) and compiled wheels (in $CACHE) were kept."
}
