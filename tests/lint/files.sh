# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck shell=bash
#
# What the linters look at: the files that git knows, or in a release tarball what is there.

srcdir=$(cd "$(dirname "$0")/../.." && pwd)
cd "$srcdir" || exit 1
# shellcheck source=tests/tap.sh
. tests/tap.sh

all_files()
{
        if git rev-parse --git-dir >/dev/null 2>&1; then
                git ls-files
        else
                find . -name .git -prune -o -name build -prune -o -type f -print | sed 's,^\./,,'
        fi | while read -r f; do
                [ -f "$f" ] && echo "$f"
        done
}

c_files()
{
        all_files | grep -E '\.[ch]$'
}

shell_files()
{
        all_files | while read -r f; do
                case $f in
                *.sh) echo "$f" ;;
                *.c|*.h|*.py|*.S) ;;
                *) head -c 64 "$f" | head -n 1 | grep -qaE '^#! ?/bin/(ba)?sh' && echo "$f" ;;
                esac
        done
}

# none NAME COMMAND...: ok when the command prints nothing; what it prints are the offenders
none()
{
        local name=$1 offenders

        shift
        offenders=$("$@" 2>&1)
        check "$name" test -z "$offenders"
        [ -z "$offenders" ] || diag "$offenders"
}
