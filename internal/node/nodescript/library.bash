# What scripts of NodeGroupConfigurations may call; docs/scripts.md describes it.
# bash reads this file right before each script. It must do with bash 4.2, with
# coreutils, and with whatever options a script sets.

unset BASH_ENV # bashes that the script starts are on their own
declare +x BB_STATE BB_SCRIPT BB_TRACE
umask 022
cd /
# The script may redirect its output; what is said here goes where it did.
exec {BB_OUT}>&1 {BB_ERR}>&2

bb-log-info() { printf 'INFO: %s\n' "$*" >&"$BB_OUT"; }
bb-log-warning() { printf 'WARNING: %s\n' "$*" >&"$BB_ERR"; }
bb-log-error() { printf 'ERROR: %s\n' "$*" >&"$BB_ERR"; }

# __bb_named KIND NAME: flags and events are files.
__bb_named() {
  case "${2-}" in
  '' | [.-]* | *[!A-Za-z0-9._-]*)
    bb-log-error "the name of $1 '${2-}' is not made of letters, digits, '.', '_' and '-'"
    return 2
    ;;
  esac
}

bb-flag-set() {
  __bb_named flag "${1-}" || return
  : >|"$BB_STATE/flags/$1"
}
bb-flag-unset() {
  __bb_named flag "${1-}" || return
  command rm -f -- "$BB_STATE/flags/$1"
}
bb-flag?() {
  __bb_named flag "${1-}" || return
  [ -e "$BB_STATE/flags/$1" ]
}

# bb-tmp-file prints the name of a new file that goes with the script.
bb-tmp-file() { command mktemp "$BB_STATE/tmp/XXXXXXXX"; }

__bb_on_event=()
__bb_on_handler=()

# bb-event-on EVENT HANDLER: a function or a command.
bb-event-on() {
  __bb_named event "${1-}" || return
  if [ -z "${2-}" ]; then
    bb-log-error "bb-event-on $1: there is no handler"
    return 2
  fi
  local i
  for ((i = 0; i < ${#__bb_on_event[@]}; i++)); do
    [ "${__bb_on_event[i]}" != "$1" ] || [ "${__bb_on_handler[i]}" != "$2" ] || return 0
  done
  __bb_on_event+=("$1")
  __bb_on_handler+=("$2")
}

# bb-event-fire EVENT [ARGUMENT...] calls the handlers now.
bb-event-fire() {
  __bb_named event "${1-}" || return
  local event="$1" i
  shift
  for ((i = 0; i < ${#__bb_on_event[@]}; i++)); do
    if [ "${__bb_on_event[i]}" = "$event" ]; then
      eval "${__bb_on_handler[i]}"' "$@"'
    fi
  done
}

# bb-event-delay EVENT calls the handlers when the script is done. It is a file,
# so that a run that was cut off is made up for by the next one.
bb-event-delay() {
  __bb_named event "${1-}" || return
  : >|"$BB_STATE/events/$1"
}

# __bb_handle calls the handlers of what is to be handled, also of what handlers
# cause. It is not called where a failure would be ignored.
__bb_handle() {
  local round i event more
  for ((round = 0; round < 10; round++)); do
    more=
    for ((i = 0; i < ${#__bb_on_event[@]}; i++)); do
      event="${__bb_on_event[i]}"
      if [ -e "$BB_STATE/events/$event" ]; then
        # Its turn is while it is called: it may cause itself anew.
        command mv -f -- "$BB_STATE/events/$event" "$BB_STATE/events/.$event"
        bb-event-fire "$event"
        command rm -f -- "$BB_STATE/events/.$event"
        more=1
      fi
    done
    [ -n "$more" ] || return 0
  done
  bb-log-error "event $event causes itself again and again"
  return 1
}

# bb-sync-file FILE - [EVENT], or bb-sync-file FILE SOURCE [EVENT]: writes only
# what differs, at once, and then has the event handled when the script is done.
bb-sync-file() {
  local file="${1-}" source="${2-}" event="${3-}" dir base new
  if [ -z "$file" ] || [ -z "$source" ]; then
    bb-log-error "usage: bb-sync-file FILE -|SOURCE [EVENT]"
    return 2
  fi
  if [ -n "$event" ]; then
    __bb_named event "$event" || return
  fi
  if [ -L "$file" ]; then # the link stays
    file="$(command readlink -f -- "$file")" || return
  fi
  if [ -e "$file" ] && [ ! -f "$file" ]; then
    bb-log-error "bb-sync-file: $file is no regular file"
    return 1
  fi
  dir="$(command dirname -- "$file")" || return
  base="$(command basename -- "$file")" || return
  command mkdir -p -- "$dir" || return
  command rm -f -- "$dir/.bb-sync.${base:0:200}."???????? || return # cut off earlier
  new="$(command mktemp -- "$dir/.bb-sync.${base:0:200}.XXXXXXXX")" || return
  if __bb_sync "$file" "$source" "$event" "$new"; then
    return 0
  fi
  command rm -f -- "$new"
  bb-log-error "bb-sync-file: $file is not written"
  return 1
}

__bb_own() {
  if command grep -q '^# registry-agent: begin' -- "$1"; then
    command sed '/^# registry-agent: begin/,/^# registry-agent: end/d' -- "$1"
  else
    command cat -- "$1"
  fi
}

__bb_sync() {
  local file="$1" source="$2" event="$3" new="$4" was is
  if [ "$source" = - ]; then command cat; else command cat -- "$source"; fi >|"$new" || return
  if [ -e "$file" ]; then
    # What the agent put into a user's hosts.toml is nobody's change.
    was="$(__bb_own "$file" | command sha256sum)" || return
    is="$(command sha256sum <"$new")" || return
    if [ "$was" = "$is" ]; then
      command rm -f -- "$new"
      return
    fi
    command chmod --reference="$file" -- "$new" && command chown --reference="$file" -- "$new" || return
  else
    command chmod "$(printf '%04o' "$((0666 & ~$(umask)))")" -- "$new" || return
  fi
  command sync -- "$new" || return
  # Noted before it is true: rather handled twice than never.
  if [ -n "$event" ]; then bb-event-delay "$event" || return; fi
  command mv -fT -- "$new" "$file"
}

# A script's own trap for EXIT does not replace ours: it is called first.
__bb_exit=
trap() {
  if [ "$BASH_SUBSHELL" -gt 0 ]; then
    builtin trap "$@"
    return
  fi
  [ "${1-}" != -- ] || shift
  case "${1-}" in
  '' | -) ;;
  -*)
    builtin trap "$@"
    return
    ;;
  esac
  [ $# -gt 0 ] || { builtin trap; return; }
  local action="$1" signal
  if [ $# -eq 1 ]; then action=-; else shift; fi
  for signal; do
    case "$signal" in
    EXIT | exit | SIGEXIT | 0) if [ "$action" = - ]; then __bb_exit=; else __bb_exit="$action"; fi ;;
    *) builtin trap -- "$action" "$signal" ;;
    esac
  done
}

__bb_finish() {
  local status="$1"
  if [ -n "$__bb_exit" ]; then
    (exit "$status") && : # what it finds in $?
    eval "$__bb_exit"
  fi
  if [ "$status" -eq 0 ]; then
    __bb_handle # in no condition, so that -e holds in handlers
  fi
  exit "$status"
}
builtin trap '__bb_finish $?' EXIT
builtin trap 'exit 143' TERM

# __bb_failed says where: many commands fail without a word.
__bb_failed() {
  case $- in *e*) ;; *) return 0 ;; esac
  local i
  for ((i = 1; i < ${#BASH_SOURCE[@]}; i++)); do
    if [ "${BASH_SOURCE[i]}" = "$0" ]; then
      printf 'line %s: exit status %s\n' "${BASH_LINENO[i - 1]}" "$1" >&"$BB_ERR"
      return 0
    fi
  done
}
builtin trap '__bb_failed $?' ERR

# A trace quotes what the script handles, secrets too. It stays on the node.
BASH_XTRACEFD=$BB_OUT
PS4='+ line $LINENO: '
if [ -n "$BB_TRACE" ]; then set -x; fi
