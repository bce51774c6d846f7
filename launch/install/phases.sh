# Sourced by launch/quickstart and tests/run: named phases with their wall time, and the build they share.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
build=$root/build/release
cd "$root"

phase_names=()
phase_seconds=()

# phase NAME COMMAND...: stops the script with the command's exit status when it fails.
phase() {
  local name=$1 started=$SECONDS status=0
  shift
  printf '\n== %s\n' "$name"
  "$@" || status=$?
  phase_names+=("$name")
  phase_seconds+=($((SECONDS - started)))
  if [ "$status" != 0 ]; then
    print_times
    exit "$status"
  fi
}

print_times() {
  local i
  printf '\nwall time:'
  for i in "${!phase_names[@]}"; do printf ' %s %d s,' "${phase_names[i]}" "${phase_seconds[i]}"; done
  printf ' together %d s\n' "$SECONDS"
}

# Every phase leaves what it has finished; bash runs this once the interrupted command has ended.
trap 'printf "\nstopped; the same command goes on from here\n"; print_times; exit 130' INT

set_up() {
  launch/bootstrap || return
  # Written by launch/bootstrap --from: where a machine without root finds its tools and libraries.
  if [ -f .deps/environment.sh ]; then . .deps/environment.sh; fi
}

configure() {
  cmake --preset release >"$root/.deps/cmake.log" 2>&1 || { cat "$root/.deps/cmake.log"; return 1; }
}

build() {  # build TARGET
  configure || return
  cmake --build "$build" --target "$1"
}
