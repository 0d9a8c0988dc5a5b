#!/bin/sh
# Prints the ACL file with passwords in it, as their SHA-256: render.sh [dragonfly|redis] > users.acl
#
# NAME_PASSWORD of the environment is the password of the user `name`; a user without one is left
# out, `admin` and `aevon` must have one. NAME_PASSWORD_OLD, where it is set, is accepted as well:
# for the time of an exchange.
set -eu
template="$(dirname "$0")/users.acl"
kind="${1:-dragonfly}"
: "${ADMIN_PASSWORD:?}" "${AEVON_PASSWORD:?}"

digest() { printf %s "$1" | sha256sum | cut -c 1-64; }

for_this_server() {
    case "$kind" in
    dragonfly) cat ;;
    # Redis refuses a file that names what it does not know, and can allow parts of SCRIPT.
    redis) sed -e 's/ +cl\.throttle//' -e 's/ +stick//' -e 's/ +script / +script|load +script|exists /' ;;
    *) echo "Not a kind of server: $kind" >&2 && exit 2 ;;
    esac
}

while read -r line; do
    case "$line" in
    *'#'*)
        name="$(printf %s "$line" | sed 's/.*#\([A-Z]*\)_PASSWORD.*/\1/')"
        eval "password=\${${name}_PASSWORD:-} old=\${${name}_PASSWORD_OLD:-}"
        [ -n "$password" ] || continue
        hashes="#$(digest "$password")${old:+ #$(digest "$old")}"
        printf '%s\n' "$line" | sed "s/#${name}_PASSWORD/$hashes/"
        ;;
    *) printf '%s\n' "$line" ;;
    esac
done <"$template" | for_this_server
