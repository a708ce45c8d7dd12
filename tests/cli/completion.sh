#!/usr/bin/env bash
# What a shell offers at a tab. $1 is the muster program, $2 the shell: bash, zsh or fish.
set -u
. "$(dirname "$0")/../shell.sh"
muster=$(realpath "$1")
shell=$2
here=$(realpath "$(dirname "$0")")
cd "$work"
command -v "$shell" >/dev/null || skip "no $shell, to complete in"

expect 0 "$muster" completion "$shell"
mkdir script folder
case $shell in
  bash) cp out script/muster; check "bash -n" bash -n script/muster ;;
  zsh) cp out script/_muster; check "zsh -n" zsh -f -n script/_muster ;;
  fish) cp out script/muster.fish; check "fish --no-execute" fish --no-execute script/muster.fish ;;
esac
mkdir place place/runs "place/some folder"
touch place/run.yaml place/tokens.h5 place/text.txt "place/a config.yaml"

# tab LINE: what is offered at the end of the line, a line each, into $work/offered
tab() {
  case $shell in
    bash) (cd place && bash --norc "$here/tab.bash" "$work/script/muster" "$1") ;;
    zsh) (cd place && timeout 60 zsh -f "$here/tab.zsh" "$work/script" "$1") ;;
    fish) (cd place && fish --no-config -c "source '$work/script/muster.fish'; complete -C '$1'" | cut -f1) ;;
  esac >offered 2>tab.err
  # without what a shell puts around a name: its folder's slash, a quote, the words before it
  sed -i -E "s/^(--[a-z-]+=)?//; s,/\$,,; s/\\\\ / /g" offered
}
offers() {
  local word
  for word in "$@"; do
    check "'$line' offers '$word', not only: $(tr '\n' '|' <offered; cat tab.err)" grep -qxF -- "$word" offered
  done
}
offers_not() {
  local word
  for word in "$@"; do check "'$line' does not offer '$word'" [ "$(grep -cxF -- "$word" offered)" = 0 ]; done
}
at() { # at LINE: sets $line and asks
  line=$1
  tab "$1"
}

# ---- commands: all, of one word and of two ----
mapfile -t commands < <(sed -n '/^commands:/,/^$/p' <("$muster" --help) | grep '^  [a-z]' | sed -E 's/^  ([a-z]+( [a-z]+)?)( |$).*/\1/')
check "the overview lists commands" [ "${#commands[@]}" -ge 8 ]
at 'muster '
for command in "${commands[@]}"; do offers "${command%% *}"; done
offers help
offers_not run.yaml build
at 'muster help '
offers train data
at 'muster data '
offers build show
offers_not train run.yaml
at 'muster help data '
offers build show
at 'muster tra'
offers train
offers_not verify
at 'muster --'
offers --help --version --man

# ---- options: all that the help knows ----
for command in "${commands[@]}"; do
  read -ra words <<<"$command"
  mapfile -t options < <(sed -n '/^options:/,/^$/p' <("$muster" "${words[@]}" --help) | grep -oE '^  (-.,|   ) --[a-z0-9-]+' | grep -oE -- '--.*')
  at "muster $command --"
  offers "${options[@]}"
done
at 'muster train --'
offers_not --tensors --prompt

# ---- values and operands, by their kind ----
at 'muster train '
offers run.yaml 'a config.yaml' runs
at 'muster train run.yaml --resume '
offers auto never runs tokens.h5
[ "$shell" = fish ] || offers_not run.yaml # fish offers the other files behind the fitting ones
at 'muster train --resume=n'
offers never
offers_not auto
at 'muster train --run '
offers runs 'some folder'
offers_not run.yaml auto
at 'muster data build text.txt -o '
offers tokens.h5 runs
at 'muster data build text.txt --output=to'
offers tokens.h5
at 'muster data build text.txt '
offers text.txt run.yaml 'some folder'
at 'muster verify '
offers runs tokens.h5
[ "$shell" = fish ] || offers_not run.yaml
at 'muster completion '
offers bash zsh fish
at 'muster verify --threads '
offers_not run.yaml runs

# ---- keys of a config, and the words that some of them take ----
at 'muster train run.yaml --set optimizer.be'
check "keys" [ "$(sed 's/=$//' offered | sort | tr '\n' ' ')" = "optimizer.beta1 optimizer.beta2 " ]
at 'muster train --set '
# in --help-config the last line of each paragraph is a section or a key, commented out or not
mapfile -t keys < <("$muster" train --help-config | awk 'BEGIN { RS = ""; FS = "\n" }
  match($NF, /^[a-z]+:/) { section = substr($NF, 1, RLENGTH - 1); next }
  match($NF, /^  (# )?[a-z0-9_]+:/) { key = substr($NF, 1, RLENGTH - 1); sub(/^[ #]*/, "", key); print section "." key }')
check "keys were found" [ "${#keys[@]}" -gt 30 ]
sed -i 's/=.*//' offered
offers "${keys[@]}"
at 'muster train --set schedule.kind=c'
sed -i 's/.*=//' offered
offers constant cosine
offers_not wsd
at 'muster data show run.yaml --set=schedule.kind='
sed -i 's/.*=//' offered
offers constant cosine wsd
finish
