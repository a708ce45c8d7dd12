#!/usr/bin/env bash
# Every public header compiles alone, as C11 and as C++.  headers.sh SOURCE_FOLDER
set -euo pipefail
cd "$1"
compiler=${CC:-cc}
if ! echo | $compiler -x c++ -fsyntax-only - 2>/dev/null; then
  echo "skipped: $compiler compiles no C++ (Debian: apt-get install g++)"
  exit 77
fi
count=0 failed=0
for header in {kernels,worker,coordinator}/include/muster/*.h; do
  for language in "c -std=c11" "c++ -std=c++17"; do
    count=$((count + 1))
    # shellcheck disable=SC2086
    if ! echo "#include \"muster/$(basename "$header")\"" | $compiler -x $language -Wall -Wextra -Wpedantic -Werror -fsyntax-only \
      -Ikernels/include -Iworker/include -Icoordinator/include -; then
      echo "failed: $header as $language" >&2
      failed=$((failed + 1))
    fi
  done
done
echo "headers: $count checks, $failed failed"
[ "$count" -gt 0 ] && [ "$failed" -eq 0 ]
