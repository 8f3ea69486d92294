# Sourced by the scripts that build and test packages, at the top of the source tree. Sets version and epoch.

die() {
    echo "build: $*" >&2
    exit 1
}

need() {
    type -P "$1" >/dev/null || die "please install the package $2"
}

# Prints the name of the strip program for a machine (as in uname -m).
strip_for() {
    if [ "$1" = "$(uname -m)" ]; then
        echo strip
    else
        echo "$1-linux-gnu-strip"
    fi
}

# Prints who answers for a Debian package: who publishes it (DEBFULLNAME and DEBEMAIL, as for all Debian
# tools), else the author of the commit that it is made from.
maintainer() {
    if [ -n "${DEBEMAIL:-}" ]; then
        echo "${DEBFULLNAME:-nicwatchd maintainers} <$DEBEMAIL>"
    else
        git log -1 --format='%an <%ae>' 2>/dev/null \
            || die "not a git repository: please set DEBFULLNAME and DEBEMAIL, for the maintainer"
    fi
}

# Sets `defines`: the options for rpm's tools that stand for the macros of a family of hosts, with all that
# the specification wants but the files.
rpm_defines() {
    local name macro value changed
    changed=$(LC_ALL=C date --utc --date="@$epoch" '+%a %b %d %Y')
    defines=(--define "version $version" --define "changed $changed" --define "maintainer $(maintainer)")
    while read -r name macro value; do
        [ "$name" != "$1" ] || defines+=(--define "$macro $value")
    done <systemd/packaging/rpm/families
}

version=$("${PYTHON:-python3}" systemd/packaging/version.py)
# The time of the last commit makes the packages reproducible; without git, it is the current time.
epoch=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || date +%s)}
