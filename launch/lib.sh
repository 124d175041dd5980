# shellcheck shell=bash disable=SC2034 # variables are for the scripts
# What the scripts of this folder share. Each sources it, and defines `usage`, which prints its help.

if ((BASH_VERSINFO[0] < 5 || (BASH_VERSINFO[0] == 5 && BASH_VERSINFO[1] < 1))); then
    echo "${0##*/}: error: bash $BASH_VERSION is too old: 5.1 or newer (macOS: brew install bash coreutils)" >&2
    exit 2
fi

checkout=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# Where the README installs: so that `joint-st` is found without activating anything.
[ ! -d "$checkout/.venv/bin" ] || PATH=$checkout/.venv/bin:$PATH

dry_run=
options=() # what stands before `--`, as `--name value`
command=() # what stands after it: what the user wants to run
missing=()

say() { # say MESSAGE: one line on standard error
    printf '%s: %s\n' "${0##*/}" "$*" >&2
}

fail() { # fail MESSAGE: ends the script because something went wrong
    say "error: $*"
    exit 1
}

refuse() { # refuse MESSAGE: ends the script because of what it was told
    say "error: $*"
    exit 2
}

split_arguments() { # split_arguments "$@": fills `options` and `command`; prints the help where it is asked for
    while (($#)); do
        case $1 in
            -h | --help)
                usage
                exit 0
                ;;
            --)
                shift
                command=("$@")
                return
                ;;
            --*=*)
                options+=("${1%%=*}" "${1#*=}")
                ;;
            *)
                options+=("$1")
                ;;
        esac
        shift
    done
}

value() { # value OPTION [VALUE]: refuses an option without its value
    (($# > 1)) || refuse "$1 takes a value (see --help)"
}

number() { # number OPTION VALUE: refuses what is no whole number from 1 on
    [[ $2 =~ ^[1-9][0-9]*$ ]] || refuse "$1 $2: a whole number from 1 on"
}

seconds() { # seconds OPTION VALUE: refuses what is no time
    [[ $2 =~ ^[0-9]+([.][0-9]+)?$ ]] || refuse "$1 $2: a number of seconds"
}

unknown() { # unknown OPTION
    refuse "$1: unknown option (see --help); the command to run comes after --"
}

need() { # need OPTION VALUE WHAT: notes a missing setting, for `refuse_missing`
    [ -n "$2" ] || missing+=("$1 ($3)")
}

refuse_missing() { # one line with all that is missing
    ((${#missing[@]})) || return 0
    local list
    list=$(printf ', %s' "${missing[@]}")
    refuse "missing ${list:2}; see --help"
}

need_program() { # need_program NAME HOW: refuses to go on without a program, except in a dry run
    [ -n "$dry_run" ] || type -P "$1" > /dev/null || refuse "$1 is not installed: $2"
}

quoted() { # quoted WORD...: one line that a shell reads back as these words
    local word line=
    for word; do
        if [[ $word =~ ^[A-Za-z0-9_@%+=:,./-]+$ ]]; then
            line+=" $word"
        else
            line+=" '${word//\'/\'\\\'\'}'"
        fi
    done
    printf '%s\n' "${line:1}"
}

run() { # run COMMAND...: runs it; in a dry run prints it
    if [ -n "$dry_run" ]; then quoted "$@"; else "$@"; fi
}

pause() { # pause SECONDS: a sleep that a trapped signal interrupts
    sleep "$1" > /dev/null 2>&1 9>&- & # it may outlive this script, whose output and lock must not wait for it
    wait $! || true
}

note_local_run() { # note_local_run WHERE: warns of a command that names no bucket
    [[ ${command[*]} = *gs://* ]] ||
        say "note: no gs:// path in the command: what it writes is on $1, and is lost with them"
}

find_tree() { # find_tree UNCOMMITTED: sets `tree`, git's name of the checkout's content, which `git archive` takes
    local index changes unread="git could not read all of $checkout (see above); what was left out would not run"
    git -C "$checkout" rev-parse --verify --quiet HEAD > /dev/null || refuse "$checkout is no git checkout; clone one"
    changes=$(git -C "$checkout" status --porcelain) || fail "$unread"
    if [ -z "$changes" ]; then
        tree=$(git -C "$checkout" rev-parse 'HEAD^{tree}')
    elif [ -n "$1" ]; then
        # An index of its own: the user's is not touched. New files are taken too, but none that git ignores.
        index=$(mktemp -d)
        tree=$(
            export GIT_INDEX_FILE=$index/index
            git -C "$checkout" read-tree HEAD && git -C "$checkout" add --all && git -C "$checkout" write-tree
        ) || tree=''
        rm -r "$index"
        [ -n "$tree" ] || fail "$unread"
    else
        refuse "$checkout has changes that are not committed; commit them, or add --uncommitted to run it as it is"
    fi
}
