# tab.bash SCRIPT LINE: what bash would offer at the end of the line, a line each. The line has no quotes; it is cut
# into words as bash does before it calls the function: at blanks and, as words of their own, at '='.
. "$1"
line=$2
spaced=${line//=/ = }
read -ra COMP_WORDS <<<"$spaced"
case $line in *' ') COMP_WORDS+=('') ;; esac
COMP_CWORD=$((${#COMP_WORDS[@]} - 1)) COMP_LINE=$line COMP_POINT=${#line} COMP_WORDBREAKS=$' \t\n"\'><=;|&(:'
COMPREPLY=()
name=$(complete -p muster) # complete -F NAME muster
name=${name#complete -F } name=${name% muster}
"$name" muster "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
[ "${#COMPREPLY[@]}" = 0 ] || printf '%s\n' "${COMPREPLY[@]}"
