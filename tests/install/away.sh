# For the tests of this folder: what they train, and modules. Sourced after shell.sh.

# text_and_config: $work/tokens.h5, and tiny.yaml that trains on it
text_and_config() {
  for i in $(seq 200); do echo "It was the best of times, it was the worst of times, chapter $i."; done >"$work/text.txt"
  expect 0 "$muster" data build "$work/text.txt" -o "$work/tokens.h5"
  tiny_config "$work/tiny.yaml"
}

# module_loads ROOT: with its modulefile loaded, muster is ROOT's
module_loads() {
  local modulecmd
  modulecmd=$(compgen -G '/usr/lib/*/modulecmd.tcl' | head -n 1)
  if [ -z "$modulecmd" ]; then
    echo "Environment Modules are not here: the modulefile was not loaded (Debian: apt-get install environment-modules)"
    return
  fi
  MODULEPATH=$1/share/modulefiles expect 0 "$modulecmd" bash load muster
  check "the module's muster is $1's" [ "$( (eval "$(cat "$work/out")" >/dev/null; command -v muster) )" = "$1/bin/muster" ]
}
