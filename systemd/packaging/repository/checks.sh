# Sourced by the tests of the repository. `out` is a file for what the last command said.

# check WHAT COMMAND...: the command succeeds.
check() {
    echo "    $1"
    shift
    "$@" >"$out" 2>&1 || { sed 's/^/        /' "$out" >&2 && exit 1; }
}

# refused WHAT WORDS COMMAND...: the command fails, and says why in these words (a regular expression).
refused() {
    echo "    refuses $1"
    local words=$2
    shift 2
    if "$@" >"$out" 2>&1 || ! grep -Eq "$words" "$out"; then
        sed 's/^/        /' "$out" >&2
        exit 1
    fi
}

# Serves a folder at 127.0.0.1:8080 until this script ends, in a network namespace of its own.
serve() {
    ip link set lo up
    python3 -I -m http.server --bind 127.0.0.1 --directory "$1" 8080 >/dev/null 2>&1 &
    trap "kill $!" EXIT
    until answers; do sleep 0.1; done
}

answers() {
    (: <>/dev/tcp/127.0.0.1/8080) 2>/dev/null
}

# Changes one byte in the middle of a file, and leaves its size alone.
alter() {
    local middle=$(($(stat -c %s "$1") / 2))
    printf '\377' | dd of="$1" bs=1 seek="$middle" conv=notrunc status=none
}
