# shellcheck shell=bash
# Sourced by the scripts beside this folder: makes the virtual environment they run in.
#
#   bootstrap test                 the package (editable) and its test tools
#   bootstrap dev                  the same and the check tools
#   bootstrap_typing               a second environment that has trio-typing and the built package
#
# Afterwards PROJECT_ROOT, VENV and VENV_PYTHON are set. From the environment:
#
#   PYTHON   the Python to build on; else the first that runs and is new enough
#   VENV     the folder of the environment (default .venv in the project's root); trio-typing's is "$VENV-typing"
#
# A second run is quick and silent: a stamp in the environment records what was installed, and pip runs only when
# pyproject.toml, the Python or the place of the checkout has changed. Two scripts may run at once: a lock lets one
# install while the other waits.

PROJECT_ROOT="$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.." && pwd)"
VENV="${VENV:-$PROJECT_ROOT/.venv}"
case "$VENV" in
    /*) ;;
    *) VENV="$PWD/$VENV" ;;
esac
VENV="${VENV%/}"
# shellcheck disable=SC2034  # for the scripts that source this file
VENV_PYTHON="$VENV/bin/python"

say() {
    printf '%s\n' "$*" >&2
}

# --- Finding a Python ------------------------------------------------------------------------------------------------

# True if the command runs (a version manager's shim may be on PATH and yet fail) and is Python 3.11 or later.
is_fit_python() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

find_python() {
    local candidate
    if [[ -n "${PYTHON:-}" ]]; then
        if ! is_fit_python "$PYTHON"; then
            say "PYTHON=$PYTHON does not run, or is older than Python 3.11."
            return 1
        fi
        command -v -- "$PYTHON"
        return
    fi
    for candidate in python3.11 python3.12 python3.13 python3.14 python3 python; do
        if is_fit_python "$candidate"; then
            command -v -- "$candidate"
            return
        fi
    done
    say "No Python 3.11 or later was found on PATH."
    say "Install one (on Debian and Ubuntu: apt-get install python3 python3-venv), or set PYTHON to its path."
    return 1
}

# The installation a Python belongs to, whether or not it is asked through a virtual environment.
python_identity() {
    "$1" -c 'import sys; print(sys.version, sys.base_prefix)'
}

# --- Making a virtual environment --------------------------------------------------------------------------------------

# Run a command with its output held back, and show the output only if it fails.
quietly() {
    local log status=0
    log="$(mktemp)" || return 1
    "$@" >"$log" 2>&1 </dev/null || status=$?
    if ((status != 0)); then
        say "This failed with status $status: $*"
        cat -- "$log" >&2
    fi
    rm -f -- "$log"
    return "$status"
}

has_working_pip() {
    [[ -x "$1/bin/python" ]] && is_fit_python "$1/bin/python" && "$1/bin/python" -m pip --version >/dev/null 2>&1
}

# Debian ships Python without ensurepip until python3-venv is installed; pip, where there is one, can fetch virtualenv.
make_with_virtualenv() {
    local python="$1" folder="$2" tools status=0
    "$python" -m pip --version >/dev/null 2>&1 || return 1
    tools="$(mktemp -d)" || return 1
    quietly "$python" -m pip install --quiet --disable-pip-version-check --no-input --target "$tools" virtualenv &&
        PYTHONPATH="$tools" quietly "$python" -m virtualenv --clear "$folder" || status=1
    rm -rf -- "$tools"
    return "$status"
}

make_with_apt() {
    local python="$1" folder="$2" version
    [[ "$(id -u)" == 0 ]] && command -v apt-get >/dev/null || return 1
    version="$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')" || return 1
    apt-get update >/dev/null 2>&1 || true # an older list of packages may do
    DEBIAN_FRONTEND=noninteractive apt-get install -y "python$version-venv" >/dev/null 2>&1 ||
        DEBIAN_FRONTEND=noninteractive quietly apt-get install -y python3-venv || return 1
    quietly "$python" -m venv --clear "$folder"
}

make_venv() {
    local python="$1" folder="$2"
    if [[ -e "$folder" && ! -e "$folder/pyvenv.cfg" && -n "$(ls -A -- "$folder")" ]]; then
        say "$folder is in the way: it exists and is not a virtual environment. Move it, or set VENV to another folder."
        return 1
    fi
    "$python" -m venv --clear "$folder" >/dev/null 2>&1 && has_working_pip "$folder" && return
    # A failed attempt leaves a half-made folder, which the next attempt clears.
    make_with_virtualenv "$python" "$folder" && has_working_pip "$folder" && return
    make_with_apt "$python" "$folder" && has_working_pip "$folder" && return
    say "$python cannot make a virtual environment in $folder. On Debian and Ubuntu: apt-get install python3-venv."
    return 1
}

# Keep a working environment, unless PYTHON asks for another Python than the one it was made with.
ensure_venv() {
    local folder="$1" python
    if has_working_pip "$folder"; then
        [[ -n "${PYTHON:-}" ]] || return 0
        python="$(find_python)" || return 1
        [[ "$(python_identity "$python")" != "$(python_identity "$folder/bin/python")" ]] || return 0
    else
        python="$(find_python)" || return 1
    fi
    make_venv "$python" "$folder"
}

# --- Installing ----------------------------------------------------------------------------------------------------------

pip_install() {
    local folder="$1"
    shift
    (cd -- "$PROJECT_ROOT" &&
        quietly "$folder/bin/python" -m pip install --disable-pip-version-check --no-input "$@")
}

# What an installation depends on, as one line.
fingerprint() {
    "$1/bin/python" - "$PROJECT_ROOT" <<'PYTHON_CODE'
import hashlib, pathlib, sys

root = pathlib.Path(sys.argv[1])
parts = [sys.version, sys.prefix, str(root), (root / "pyproject.toml").read_text(encoding="utf-8")]
print(hashlib.sha256("\0".join(parts).encode()).hexdigest())
PYTHON_CODE
}

# is_installed FOLDER NAME...: one of the named installations has been made, and nothing has changed since.
is_installed() {
    local folder="$1" wanted name
    shift
    wanted="$(fingerprint "$folder")" || return 1
    for name in "$@"; do
        [[ -r "$folder/.installed-$name" && "$(<"$folder/.installed-$name")" == "$wanted" ]] && return
    done
    return 1
}

# Steps that run under the lock carry their failures by hand: bash ignores `set -e` in a function whose result is tested.
install_editable() {
    local extra="$1"
    ensure_venv "$VENV" || return 1
    if is_installed "$VENV" "$extra" dev; then
        return
    fi
    say "Installing trio-broker[$extra] into $VENV ..."
    pip_install "$VENV" --editable ".[$extra]" || return 1
    fingerprint "$VENV" >"$VENV/.installed-$extra"
}

install_typing() {
    local folder="$VENV-typing"
    ensure_venv "$folder" || return 1
    if ! is_installed "$folder" typing; then
        say "Installing trio-broker[typing] and mypy into $folder ..."
        pip_install "$folder" ".[typing]" mypy || return 1
        fingerprint "$folder" >"$folder/.installed-typing"
    fi
    # Not editable, so it is rebuilt each time: what a user installs is what gets checked.
    pip_install "$folder" --no-deps --force-reinstall .
}

# with_lock FILE COMMAND...: run the command while no other script does so under the same lock.
with_lock() {
    local lock="$1"
    shift
    mkdir -p -- "$(dirname -- "$lock")"
    if command -v flock >/dev/null; then
        (
            flock 9
            "$@" 9>&-
        ) 9>"$lock"
    else
        "$@"
    fi
}

bootstrap() {
    with_lock "$VENV.lock" install_editable "$1"
}

bootstrap_typing() {
    with_lock "$VENV-typing.lock" install_typing
}
