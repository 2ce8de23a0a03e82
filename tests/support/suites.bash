# shellcheck shell=bash
# To be sourced: packages of other Debian suites than the system's, from the mirrors that it uses itself. Neither
# the system's package lists nor its packages are touched.

readonly KEYRING=/usr/share/keyrings/debian-archive-keyring.gpg

# apt_update DIR SUITE…: makes DIR/apt know these suites, from the mirrors that the system itself uses.
apt_update() {
    local dir=$1 suite uri
    shift
    mkdir -p "$dir/apt/lists/partial" "$dir/apt/cache/archives/partial"
    for suite; do
        uri=$(mirror "$suite")
        [ -n "$uri" ] || die "apt knows no Debian archive for $suite: run apt-get update first"
        echo "deb [arch=amd64 signed-by=$KEYRING] $uri $suite main"
    done >"$dir/apt/sources.list"
    # The hooks would tidy the system's own cache.
    cat >"$dir/apt/apt.conf" <<END
Dir::Etc::sourcelist "$dir/apt/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::State::lists "$dir/apt/lists";
Dir::State::status "/dev/null";
Dir::Cache "$dir/apt/cache";
APT::Get::List-Cleanup "false";
APT::Sandbox::User "root";
#clear APT::Update::Post-Invoke;
#clear DPkg::Post-Invoke;
END
    apt_in "$dir" apt-get -qq update
}

# Debian keeps security updates in an archive of their own.
mirror() {
    local archive='^[a-z]+(-updates|-backports)?$'
    if [[ $1 == *-security ]]; then archive='^[a-z]+-security$'; fi
    # shellcheck disable=SC2016 # apt's own variables
    apt-get indextargets --format '$(RELEASE) $(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' |
        awk -v archive="$archive" '$1 ~ archive { print $2; exit }'
}

# apt_in DIR COMMAND…: with lists and sources of its own, and as if nothing were installed.
apt_in() { "$2" --config-file="$1/apt/apt.conf" "${@:3}"; }
