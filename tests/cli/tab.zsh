# tab.zsh FOLDER LINE: what a zsh that has FOLDER in its fpath offers at the end of the line, a line each: as a menu,
# without its descriptions. The zsh runs on a pseudo-terminal of its own.
zmodload zsh/zpty
zpty shell "TERM=dumb zsh -f -i"
# Marks are written in two pieces, so that the echo of these lines has none.
zpty -w shell "stty -echo columns 200; PS1= PS2= LISTMAX=1000; unsetopt prompt_sp; fpath=($1 \$fpath)
autoload -Uz compinit; compinit -u -d $1/dump
zstyle ':completion:*' list-separator '##'
menu() { print BEG''IN; zle list-choices; zle -R; print; print E''ND; }
zle -N menu; bindkey '^I' menu; setopt nolistambiguous; print REA''DY"
zpty -r shell answer '*READY*'
zpty -w -n shell "$2"$'\t'
zpty -r shell answer '*END*'
zpty -d shell
answer=${answer##*BEGIN}
answer=${${answer%%END*}//$'\r'/}
for row in "${(f)answer}"; do
  [[ $row == "$2"* ]] && continue
  if [[ $row == *' ## '* ]]; then
    print -r -- "${${row%% ## *}%%[[:space:]]#}"
  else
    # columns, two blanks or more between them
    print -rl -- "${(s:  :)row}"
  fi
done | sed -E 's/^ +//; s/ +$//' | grep .
