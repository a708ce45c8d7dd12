# Writes the page's style and script as C arrays: cmake -DFROM=FOLDER -DTO=FILE.c -P embed.cmake
function(embed name file)
  file(READ ${FROM}/${file} bytes HEX)
  string(REGEX REPLACE "([0-9a-f][0-9a-f])" "'\\\\x\\1'," bytes "${bytes}")
  file(APPEND ${TO} "const char ${name}[] = {${bytes}0};\n")
endfunction()

file(WRITE ${TO} "/* Made from page.css and page.js by embed.cmake. */\n#include \"page.h\"\n")
embed(report_style page.css)
embed(report_script page.js)
